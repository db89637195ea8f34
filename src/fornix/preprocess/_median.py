"""The median of a cube about every voxel, exactly, an order of magnitude faster than by sorting."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray


def cube_median(
    values: NDArray[np.float64],
    inside: NDArray[np.bool_],
    nearest: tuple[NDArray[np.int32], ...],
    size: int,
) -> NDArray[np.float64]:
    """Median of size³ voxels (size odd) about each, the border's values repeated outside.

    Args:
        values: (X, Y, Z), finite inside.
        nearest: Three index arrays (X, Y, Z) of the inside voxel whose value stands in each voxel.
    """
    known, ranks = np.unique(values[inside], return_inverse=True)
    placed = np.zeros(values.shape, dtype=np.int32)
    placed[inside] = ranks
    padded = np.pad(placed[nearest], size // 2, mode="edge")
    out = np.empty(values.shape, dtype=np.int32)
    _middle_rank(padded, size, max(int(len(known) - 1).bit_length() - 1, 0), out)
    return np.asarray(known[out])


@njit(cache=True, nogil=True, parallel=True)
def _middle_rank(ranks: np.ndarray, size: int, top_bit: int, out: np.ndarray) -> None:
    """The rank that half of a cube lies below, bit by bit from the highest, for a line at once."""
    width, height, depth = out.shape
    half = size * size * size // 2
    for x in prange(width):
        found = np.empty(depth, np.int32)
        tried = np.empty(depth, np.int32)
        below = np.empty(depth, np.int32)
        for y in range(height):
            found[:] = 0
            for bit in range(top_bit, -1, -1):
                for z in range(depth):
                    tried[z] = found[z] | (1 << bit)
                    below[z] = 0
                for i in range(size):
                    for j in range(size):
                        line = ranks[x + i, y + j]
                        for k in range(size):
                            for z in range(depth):
                                below[z] += line[z + k] < tried[z]
                for z in range(depth):
                    if below[z] <= half:
                        found[z] = tried[z]
            out[x, y] = found
