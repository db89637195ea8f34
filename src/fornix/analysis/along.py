"""Values of a map along streamlines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram


def mean_along(
    tractogram: Tractogram, data: NDArray[np.floating], affine: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean of a map along each streamline, trilinear, every mm of it counted alike.

    Args:
        tractogram: World mm.
        data: (X, Y, Z) on a grid of its own; what is not finite is left out.
        affine: (4, 4) of the map.

    Returns:
        (S,) mean over the points inside the map; NaN where a streamline has none.
    """
    if data.ndim != 3:
        raise FornixError(f"a map to average has 3 dimensions, this one {data.ndim}")
    inverse = np.linalg.inv(affine)
    known = np.isfinite(data)
    filled = np.where(known, data, 0).astype(np.float32)
    whole = bool(known.all())
    out = np.full(len(tractogram), np.nan)
    for some, points, offsets in tractogram.blocks(20_000):
        voxel = (points @ inverse[:3, :3].T + inverse[:3, 3]).T
        inside = ((voxel >= -0.5) & (voxel <= np.array(data.shape)[:, None] - 0.5)).all(0)
        if not whole:
            nearest = ndimage.map_coordinates(
                known.astype(np.uint8), voxel, order=0, mode="nearest"
            )
            inside &= nearest > 0
        value = ndimage.map_coordinates(filled, voxel, order=1, mode="nearest")
        weight = _shares(points, offsets) * inside
        total = _sums(weight, offsets)
        with np.errstate(invalid="ignore", divide="ignore"):
            out[some] = np.where(total > 0, _sums(weight * value, offsets) / total, np.nan)
    return out


def _shares(points: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Millimetres of streamline that each point stands for: half of the steps beside it."""
    step = np.zeros(len(points) + 1)
    step[1:-1] = np.linalg.norm(np.diff(points.astype(np.float64), axis=0), axis=1)
    step[offsets] = 0.0  # between two streamlines there is no step
    share = (step[:-1] + step[1:]) / 2
    share += 1e-6  # streamlines of one point, or of no length, have a mean too
    return share


def _sums(values: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.concatenate([[0.0], np.cumsum(values)])
    return total[offsets[1:]] - total[offsets[:-1]]
