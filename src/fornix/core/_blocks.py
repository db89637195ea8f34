"""Loops over the signals of a block of voxels."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

#: Voxels that are read together: neighbours share a cache line of each volume.
_TILE = 32


@njit(cache=True, nogil=True)
def pick(
    raw: np.ndarray,
    voxels: np.ndarray,
    volumes: np.ndarray,
    slope: np.float32,
    inter: np.float32,
    out: np.ndarray,
) -> None:
    """Out (n, k) = slope * raw[volumes, voxels] + inter, in float32; raw: (volumes, voxels)."""
    for start in range(0, len(voxels), _TILE):
        stop = min(start + _TILE, len(voxels))
        for k in range(len(volumes)):
            for i in range(start, stop):
                out[i, k] = np.float32(raw[volumes[k], voxels[i]]) * slope + inter


@njit(cache=True, nogil=True, parallel=True)
def mean_of(signals: np.ndarray, volumes: np.ndarray, out: np.ndarray) -> None:
    """Out (n,) = mean of some volumes of signals (n, N), summed in float32 in their order."""
    for i in prange(len(out)):
        total = np.float32(0)
        for v in volumes:
            total += signals[i, v]
        out[i] = total / np.float32(len(volumes))
