"""Points in the world and the voxels that hold them; the part of a grid that a mask fills."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def flat_voxels(
    points: NDArray[np.floating], affine: NDArray[np.float64], grid: tuple[int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Flat index of the voxel that holds each world point (P, 3), and whether it is on the grid."""
    inverse = np.linalg.inv(affine)
    voxel = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.int64)
    inside = ((voxel >= 0) & (voxel < np.array(grid))).all(1)
    voxel[~inside] = 0
    return np.ravel_multi_index(tuple(voxel.T), grid), inside


#: Radius of the widest section of a human brain, mm; of a newborn's it is about 45.
_HUMAN_RADIUS = 60.0
_SMALLEST_HUMAN = 42.0
#: Voxels of whole-brain scans of animals are smaller, mm.
_HUMAN_VOXEL = 0.8


def head_scale(mask: NDArray[np.bool_], voxel_size: NDArray[np.float64]) -> float:
    """By how much lengths that suit a human brain shrink for this one: 1 for humans of any age.

    Monkeys and rodents have smaller brains, and so have phantoms. The widest section tells, so that a
    slab or a single slice of a human brain counts as one.

    Args:
        mask: (X, Y, Z) the brain, or roughly so.
        voxel_size: (3,) mm.
    """
    radius = 0.0
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        area = mask.sum(axis=others).max(initial=0) * voxel_size[others[0]] * voxel_size[others[1]]
        radius = max(radius, float(np.sqrt(area / np.pi)))
    if radius >= _SMALLEST_HUMAN or radius == 0:
        return 1.0
    # A crop shows less than the brain's size: human voxels tell that it was a human's.
    border = [
        mask.take(end, axis=axis) for axis in range(3) if mask.shape[axis] > 4 for end in (0, -1)
    ]
    cut = bool(border) and np.mean([b.mean() for b in border]) > 0.2
    return 1.0 if cut and voxel_size.min() >= _HUMAN_VOXEL else radius / _HUMAN_RADIUS


def box_of(mask: NDArray[np.bool_], margin: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """The smallest box that holds a mask, wider by a margin in voxels; all of it where it is empty."""
    out = []
    for axis, (n, more) in enumerate(zip(mask.shape, margin)):
        there = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = (there[0], there[-1] + 1) if len(there) else (0, n)
        out.append(slice(max(0, int(low) - more), min(n, int(high) + more)))
    return out[0], out[1], out[2]
