"""From the order of a file, volume after volume, to that of memory, voxel after voxel, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

#: Voxels of a line that are turned together: a cache line of the file's numbers.
_TILE = 16


def to_memory(raw: NDArray[Any], slope: float, inter: float) -> NDArray[np.float32]:
    """Slope * raw + inter in float32 and C order, of an image (X, Y, Z, N) in Fortran order."""
    native = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    out = np.empty(native.shape, dtype=np.float32)
    _turn(native.T, out, np.float32(slope), np.float32(inter))
    return out


def to_file(data: NDArray[Any], first: int, count: int) -> NDArray[Any]:
    """(n, Z, Y, X): the volumes from `first` on, at most `count`, of an image (X, Y, Z, N)."""
    data = np.ascontiguousarray(data)
    x, y, z, volumes = data.shape
    out = np.empty((min(count, volumes - first), z, y, x), dtype=data.dtype)
    _return(data, first, out)
    return out


@njit(cache=True, nogil=True, parallel=True)
def _turn(by_volume: np.ndarray, out: np.ndarray, slope: np.float32, inter: np.float32) -> None:
    volumes, depth, height, width = by_volume.shape
    for y in prange(height):
        for start in range(0, width, _TILE):
            for z in range(depth):
                for x in range(start, min(start + _TILE, width)):
                    for v in range(volumes):
                        out[x, y, z, v] = np.float32(by_volume[v, z, y, x]) * slope + inter


@njit(cache=True, nogil=True, parallel=True)
def _return(data: np.ndarray, first: int, out: np.ndarray) -> None:
    volumes, depth, height, width = out.shape
    for y in prange(height):
        for start in range(0, width, _TILE):
            for z in range(depth):
                for v in range(volumes):
                    for x in range(start, min(start + _TILE, width)):
                        out[v, z, y, x] = data[x, y, z, first + v]
