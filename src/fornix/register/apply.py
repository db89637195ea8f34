"""What lies in one head carried over to another: maps, labels, tensors, peaks, FODs, streamlines."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.tractogram import Tractogram
from fornix.numerics.directions import spread
from fornix.numerics.harmonics import evaluate, evaluate_torch, lmax_of
from fornix.register.deformation import inverse, rotations
from fornix.register.features import elements, matrices
from fornix.register.grids import Lattice, blurred, inside, sample
from fornix.register.warp import PointMap, local_linear

Array = NDArray[np.float32]

#: Points whose FODs are turned together.
_BLOCK = 20_000


def warp_image(
    image: Array, source: Lattice, target: Lattice, point_map: PointMap, *, nearest: bool = False,
    modulate: bool = False,
) -> Array:  # fmt: skip
    """An image of scalars on another head's grid.

    Args:
        image: (X, Y, Z) or (X, Y, Z, C).
        source: Its grid.
        target: The grid it shall come to.
        point_map: From the target's world points to the source's.
        nearest: Take the nearest voxel's value (labels) instead of interpolating.
        modulate: Multiply by the change of volume, so that sums over regions stay.
    """
    points = target.points()
    stack = _channels(image)
    # A coarser target would alias what the source shows between its voxels.
    fine = stack if nearest else _antialiased(stack, source, target)
    there = point_map(points)
    found = sample(fine, source, there, nearest=nearest) * inside(source, there)
    if modulate:
        found = found * torch.linalg.det(local_linear(point_map, points)).clamp(min=0)
    return _array(found, image.ndim)


def warp_tensor(tensor: Array, source: Lattice, target: Lattice, point_map: PointMap) -> Array:
    """Tensors (X, Y, Z, 6), world axes, turned as the tissue turns (finite strain).

    Alexander et al., IEEE TMI 2001.
    """
    points = target.points()
    there = point_map(points)
    found = sample(_channels(tensor), source, there) * inside(source, there)
    turn = rotations(local_linear(point_map, points)).transpose(-1, -2)
    return _array(elements(turn @ matrices(found) @ turn.transpose(-1, -2)), 4)


def warp_peaks(peaks: Array, source: Lattice, target: Lattice, point_map: PointMap) -> Array:
    """Peaks (X, Y, Z, 3 n), world axes, turned as fibres turn; their lengths stay. Nearest voxel."""
    points = target.points()
    there = point_map(points)
    found = sample(_channels(peaks), source, there, nearest=True) * inside(source, there)
    back = inverse(local_linear(point_map, points))
    vectors = found.movedim(0, -1).reshape(*points.shape[:3], -1, 3)
    turned = torch.einsum("...ij,...nj->...ni", back, vectors)
    length = vectors.norm(dim=-1, keepdim=True)
    turned = turned / turned.norm(dim=-1, keepdim=True).clamp(min=1e-9) * length
    return turned.reshape(*points.shape[:3], -1).numpy().astype(np.float32)


def warp_fod(
    fod: Array, source: Lattice, target: Lattice, point_map: PointMap, *, modulate: bool = False
) -> Array:
    """FODs (X, Y, Z, n) turned as the tissue turns and stretches.

    Each direction's fibres keep their amount (Raffelt et al., NeuroImage 2012); modulated, they are more
    where the tissue was squeezed across them.

    Args:
        fod: Harmonic coefficients, world axes.
        source: Its grid.
        target: The grid it shall come to.
        point_map: From the target's world points to the source's.
        modulate: Multiply by the change of the cross-section along each direction.
    """
    lmax = lmax_of(fod.shape[-1])
    points = target.points()
    there = point_map(points)
    found = (sample(_channels(fod), source, there) * inside(source, there)).movedim(0, -1)
    out = np.zeros((*target.shape, fod.shape[-1]), np.float32)
    some = (found[..., 0] > 0).nonzero(as_tuple=True)
    linear = local_linear(point_map, points)[some]
    coefficients = found[some]
    directions, inverse = _sphere(lmax)
    made = []
    for begin in range(0, len(linear), _BLOCK):
        part = linear[begin : begin + _BLOCK]
        turned = torch.einsum("vij,dj->vdi", part, directions)
        length = turned.norm(dim=-1)
        values = torch.einsum(
            "vdn,vn->vd",
            evaluate_torch(lmax, turned / length[..., None]),
            coefficients[begin : begin + _BLOCK],
        )
        change = torch.linalg.det(part)[:, None].clamp(min=0)
        # Directions that are drawn together hold more each, so that what lies between them stays.
        values = values * change / length**3
        if modulate:
            values = values * change / length
        made.append(values @ inverse.T)
    out[tuple(axis.numpy() for axis in some)] = torch.cat(made).numpy() if made else 0
    return out


def warp_streamlines(
    tractogram: Tractogram, target: Lattice, point_map: PointMap, block: int = 1_000_000
) -> Tractogram:
    """Streamlines in another head.

    Args:
        tractogram: In the head they were found in.
        target: Grid of the other head.
        point_map: From this head's world points to the other's.
        block: Points at a time.
    """
    points = torch.from_numpy(np.ascontiguousarray(tractogram.points))
    there = [point_map(part) for part in points.split(block)] or [points]
    return replace(
        tractogram, points=torch.cat(there).numpy(), affine=target.affine, grid=target.shape
    )


def _channels(image: Array) -> torch.Tensor:
    values = image[..., None] if image.ndim == 3 else image
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0), np.float32))


def _array(channels: torch.Tensor, dimensions: int) -> Array:
    values = np.moveaxis(channels.numpy(), 0, -1).astype(np.float32)
    return np.ascontiguousarray(values[..., 0] if dimensions == 3 else values)


def _antialiased(stack: torch.Tensor, source: Lattice, target: Lattice) -> torch.Tensor:
    ratio = target.spacing.mean() / source.spacing
    return blurred(stack, 0.5 * np.sqrt(np.maximum(ratio**2 - 1, 0)))


@lru_cache(maxsize=4)
def _sphere(lmax: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions (d, 3) on half a sphere and the matrix (n, d) from values on them to coefficients."""
    count = 2 * (lmax + 1) * (lmax + 2) // 2
    directions = spread(max(count, 30))
    inverse = np.linalg.pinv(evaluate(lmax, directions))
    return (
        torch.tensor(directions, dtype=torch.float32),
        torch.tensor(inverse, dtype=torch.float32),
    )
