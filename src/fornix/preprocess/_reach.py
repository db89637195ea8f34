"""Which voxels lie within a radius of a mask, exactly: windows along the three axes in turn."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fornix.numerics.algebra import compiled_parallel_exact


def within(mask: NDArray[np.bool_], radius: float, size: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(X, Y, Z) True where a voxel of the mask is no further than `radius`; size: (3,), its unit."""
    reach = np.floor(radius / size + 1e-9).astype(np.int64)
    squared = np.empty(mask.shape)
    _along_first(np.ascontiguousarray(mask), int(reach[0]), float(size[0]), squared)
    _along_second(squared.copy(), int(reach[1]), float(size[1]), squared)
    _along_third(squared.copy(), int(reach[2]), float(size[2]), squared)
    return np.asarray(np.sqrt(squared) <= radius)


@compiled_parallel_exact
def _along_first(mask: np.ndarray, reach: int, size: float, out: np.ndarray) -> None:
    """Squared distance along x to the nearest voxel of the mask, inf beyond the reach."""
    width, height, depth = mask.shape
    for x in prange(width):
        out[x] = np.inf
        for other in range(max(0, x - reach), min(width, x + reach + 1)):
            far = ((other - x) * size) ** 2
            for y in range(height):
                for z in range(depth):
                    if mask[other, y, z]:
                        out[x, y, z] = min(out[x, y, z], far)


@compiled_parallel_exact
def _along_second(squared: np.ndarray, reach: int, size: float, out: np.ndarray) -> None:
    width, height, depth = squared.shape
    for x in prange(width):
        for y in range(height):
            out[x, y] = np.inf
            for other in range(max(0, y - reach), min(height, y + reach + 1)):
                far = ((other - y) * size) ** 2
                for z in range(depth):
                    out[x, y, z] = min(out[x, y, z], squared[x, other, z] + far)


@compiled_parallel_exact
def _along_third(squared: np.ndarray, reach: int, size: float, out: np.ndarray) -> None:
    width, height, depth = squared.shape
    for x in prange(width):
        for y in range(height):
            for z in range(depth):
                least = np.inf
                for other in range(max(0, z - reach), min(depth, z + reach + 1)):
                    least = min(least, squared[x, y, other] + ((other - z) * size) ** 2)
                out[x, y, z] = least
