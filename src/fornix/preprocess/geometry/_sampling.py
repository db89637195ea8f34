"""Values and slopes of a volume between its voxels, by cubic B-splines (Unser, IEEE SPM 1999)."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray
from scipy import ndimage

from fornix.numerics.algebra import compiled, compiled_parallel_exact


def spline(volume: NDArray[np.floating]) -> NDArray[np.float32]:
    """Coefficients (X, Y, Z) of the cubic spline through a volume; mirrored at the borders."""
    return np.ascontiguousarray(
        ndimage.spline_filter(volume, order=3, output=np.float32, mode="mirror")
    )


def value(coefficients: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values (n,) at points (n, 3) in voxels; 0 beyond half a voxel outside the grid."""
    out = np.empty(len(points), dtype=np.float32)
    _values(coefficients, points, out)
    return out


def value_and_slope(
    coefficients: NDArray[np.float32], points: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Value and derivative along each voxel axis, (n, 4); nan beyond half a voxel outside the grid.

    Runs on one thread and lets others run.
    """
    out = np.empty((len(points), 4), dtype=np.float32)
    _slopes(coefficients, points, out)
    return out


@compiled
def _weights(t: float, w: np.ndarray, d: np.ndarray) -> None:
    """Cubic B-spline at the four neighbours of a fraction t, and its derivative."""
    r = 1.0 - t
    w[0] = r * r * r / 6.0
    w[1] = 2.0 / 3.0 - 0.5 * t * t * (2.0 - t)
    w[2] = 2.0 / 3.0 - 0.5 * r * r * (2.0 - r)
    w[3] = t * t * t / 6.0
    d[0] = -0.5 * r * r
    d[1] = 1.5 * t * t - 2.0 * t
    d[2] = -1.5 * r * r + 2.0 * r
    d[3] = 0.5 * t * t


@compiled
def _mirrored(i: int, n: int) -> int:
    if n == 1:
        return 0
    period = 2 * n - 2
    i = abs(i) % period
    return i if i < n else period - i


@compiled
def _locate(
    c: np.ndarray, point: np.ndarray, w: np.ndarray, d: np.ndarray, place: np.ndarray
) -> bool:
    """Fill weights, their derivatives and indices (3, 4) of a point's neighbours; False outside."""
    for a in range(3):
        x = point[a]
        if not -0.5 <= x <= c.shape[a] - 0.5:
            return False
        low = int(np.floor(x))
        _weights(x - low, w[a], d[a])
        for k in range(4):
            place[a, k] = _mirrored(low - 1 + k, c.shape[a])
    return True


@compiled
def _slopes(c: np.ndarray, points: np.ndarray, out: np.ndarray) -> None:
    w, d = np.empty((3, 4)), np.empty((3, 4))
    place = np.empty((3, 4), dtype=np.int64)
    for m in range(len(points)):
        if not _locate(c, points[m], w, d, place):
            out[m] = np.nan
            continue
        v, gx, gy, gz = 0.0, 0.0, 0.0, 0.0
        for i in range(4):
            sy, sgy, sgz = 0.0, 0.0, 0.0
            for j in range(4):
                sz, sdz = 0.0, 0.0
                for k in range(4):
                    here = c[place[0, i], place[1, j], place[2, k]]
                    sz += w[2, k] * here
                    sdz += d[2, k] * here
                sy += w[1, j] * sz
                sgy += d[1, j] * sz
                sgz += w[1, j] * sdz
            v += w[0, i] * sy
            gx += d[0, i] * sy
            gy += w[0, i] * sgy
            gz += w[0, i] * sgz
        out[m, 0], out[m, 1], out[m, 2], out[m, 3] = v, gx, gy, gz


@compiled_parallel_exact
def _values(c: np.ndarray, points: np.ndarray, out: np.ndarray) -> None:
    size = 4096
    for part in prange((len(points) + size - 1) // size):
        w, d = np.empty((3, 4)), np.empty((3, 4))
        place = np.empty((3, 4), dtype=np.int64)
        for m in range(part * size, min((part + 1) * size, len(points))):
            if not _locate(c, points[m], w, d, place):
                out[m] = 0.0
                continue
            v = 0.0
            for i in range(4):
                sy = 0.0
                for j in range(4):
                    sz = 0.0
                    for k in range(4):
                        sz += w[2, k] * c[place[0, i], place[1, j], place[2, k]]
                    sy += w[1, j] * sz
                v += w[0, i] * sy
            out[m] = v
