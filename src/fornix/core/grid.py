"""Points in the world and the voxels that hold them."""

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
