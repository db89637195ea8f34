"""Deformable registration: the velocity whose flow makes two heads alike, from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fornix.register.affine import near_brain, stacked, turned
from fornix.register.deformation import flow, jacobians, rotations
from fornix.register.features import Features
from fornix.register.grids import Affine, Lattice, blurred, inside, moved, sample


@dataclass(frozen=True)
class Level:
    """One round: mm between the points compared, mm between those of the velocity, steps."""

    spacing: float
    control: float
    steps: int


#: From coarse to fine.
LEVELS = (Level(8.0, 12.0, 40), Level(5.0, 7.5, 40), Level(3.5, 5.0, 25))
#: Voxels of the velocity's grid over which it is blurred.
_BLUR = 1.0
#: Weight of the velocity's curvature (mm^-1 squared times mm^2), against a squared difference of features.
_STIFF = 4.0
#: mm: step of the search.
_RATE = 0.6


def match_deformable(
    moving: Features,
    fixed: Features,
    matrix: Affine,
    *,
    levels: tuple[Level, ...] = LEVELS,
    stiff: float = _STIFF,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[torch.Tensor, Lattice]:
    """The velocity of a flow in fixed space, after which an affine map leads to the moving head.

    A fixed point x belongs to the moving point `matrix @ (x + flow(x))`.

    Args:
        moving: The head whose images shall be resampled.
        fixed: The head onto whose grid they shall come.
        matrix: (4, 4) fixed world to moving world, from `match_affine`.
        levels: Rounds.
        stiff: Weight of curvature.
        progress: Told steps done and all steps.

    Returns:
        (velocity (3, X, Y, Z) in mm, its lattice).
    """
    total, done = sum(level.steps for level in levels), 0
    velocity, grid = None, fixed.lattice
    for level in levels:
        finer = fixed.lattice.with_spacing(level.control)
        if velocity is None:
            velocity = torch.zeros((3, *finer.shape))
        else:
            velocity = sample(velocity, grid, finer.points())
        grid = finer
        velocity = _matched(moving, fixed, matrix, velocity, grid, level, stiff)
        done += level.steps
        if progress is not None:
            progress(done, total)
    assert velocity is not None
    return velocity, grid


def _matched(
    moving: Features, fixed: Features, matrix: Affine, velocity: torch.Tensor, grid: Lattice, level: Level,
    stiff: float,
) -> torch.Tensor:  # fmt: skip
    lattice = fixed.lattice.with_spacing(level.spacing)
    own = moving.lattice.with_spacing(level.spacing)
    target, source = stacked(fixed, lattice), stacked(moving, own)
    near = near_brain(fixed, lattice)
    points, target = lattice.points()[near], target[:, near]
    linear = torch.as_tensor(matrix[:3, :3], dtype=torch.float32)
    more = torch.zeros_like(velocity, requires_grad=True)
    search = torch.optim.Adam([more], lr=_RATE, betas=(0.8, 0.95))
    turn = None
    for step in range(level.steps):
        # Falling steps: the last ones settle.
        for group in search.param_groups:
            group["lr"] = _RATE * (0.1 + 0.9 * (1 - step / level.steps))
        full = velocity + blurred(more, _BLUR)
        displaced = flow(full, grid)
        warped = points + sample(displaced, grid, points).T
        there = moved(matrix, warped)
        if step % 5 == 0:
            with torch.no_grad():
                local = sample(_flat(jacobians(displaced, grid)), grid, points)
                local = local.T.reshape(-1, 3, 3)
                turn = rotations(linear @ local).transpose(-1, -2)
        assert turn is not None
        seen = inside(own, there)
        found = turned(sample(source, own, there), turn)
        difference = (((found - target) ** 2).sum(0) * seen).sum() / seen.sum().clamp(min=1)
        loss = difference + stiff * _curvature(full, grid)
        search.zero_grad()
        loss.backward()
        search.step()
    with torch.no_grad():
        return velocity + blurred(more, _BLUR)


def _flat(matrices: torch.Tensor) -> torch.Tensor:
    """(X, Y, Z, 3, 3) as channels first (9, X, Y, Z)."""
    return matrices.reshape(*matrices.shape[:3], 9).movedim(-1, 0).contiguous()


def _curvature(velocity: torch.Tensor, grid: Lattice) -> torch.Tensor:
    """Mean squared second derivative along the axes, and how far velocity reaches at all, mm^-2."""
    size = [float(s) for s in grid.spacing]
    total = velocity.new_zeros(())
    for axis in range(3):
        if velocity.shape[axis + 1] > 2:
            total = (
                total + (torch.diff(velocity, n=2, dim=axis + 1) / size[axis] ** 2).square().mean()
            )
        slope = torch.diff(velocity, dim=axis + 1) / size[axis]
        total = total + 0.02 * slope.square().mean()
    return total
