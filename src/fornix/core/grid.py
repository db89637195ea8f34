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


def box_of(mask: NDArray[np.bool_], margin: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """The smallest box that holds a mask, wider by a margin in voxels; all of it where it is empty."""
    out = []
    for axis, (n, more) in enumerate(zip(mask.shape, margin)):
        there = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = (there[0], there[-1] + 1) if len(there) else (0, n)
        out.append(slice(max(0, int(low) - more), min(n, int(high) + more)))
    return out[0], out[1], out[2]
