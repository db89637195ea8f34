"""Smooth invertible deformations as the flow of a velocity that does not change."""

from __future__ import annotations

import numpy as np
import torch

from fornix.register.grids import Lattice, sample

#: A flow is composed of 2^n steps of at most this share of a voxel.
_STEPS = 6


def flow(velocity: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """Displacement (3, X, Y, Z) in mm after one unit of time, by scaling and squaring.

    Arsigny et al., MICCAI 2006. The flow of the negative velocity is the inverse.

    Args:
        velocity: (3, X, Y, Z) mm, world axes.
        lattice: Where its voxels lie.
    """
    points = lattice.points()
    moved = velocity / 2**_STEPS
    for _ in range(_STEPS):
        moved = moved + sample(moved, lattice, points + moved.movedim(0, -1))
    return moved


def jacobians(displacement: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    """Derivative (X, Y, Z, 3, 3) of x + displacement(x) in world axes.

    Args:
        displacement: (3, X, Y, Z) mm.
        lattice: Where its voxels lie.
    """
    slopes = torch.stack(
        torch.gradient(displacement, dim=(1, 2, 3)), -1
    )  # (3, X, Y, Z, voxel axis)
    to_voxel = torch.as_tensor(np.linalg.inv(lattice.affine[:3, :3]), dtype=displacement.dtype)
    return slopes.movedim(0, -2) @ to_voxel + torch.eye(3, dtype=displacement.dtype)


def rotations(matrices: torch.Tensor, rounds: int = 6) -> torch.Tensor:
    """The rotation nearest to each matrix (..., 3, 3) of positive determinant, by Newton's method.

    Higham, SIAM J Sci Stat Comput 1986.
    """
    turn = matrices
    for _ in range(rounds):
        turn = 0.5 * (turn + inverse(turn).transpose(-1, -2))
    return turn


def inverse(m: torch.Tensor) -> torch.Tensor:
    """Inverses of (..., 3, 3) by cofactors, fast; what folds has none, and large numbers stand in for it."""
    a, b, c = m.unbind(-2)
    cofactors = torch.stack(
        [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -1
    )
    determinant = (a * cofactors[..., 0]).sum(-1)
    return cofactors / determinant.clamp(min=1e-6)[..., None, None]
