"""Noise before small voxels are made: taken off where the scan allows, and what is left of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.preprocess import DENOISE_METHODS, denoise

#: What is left of the noise's variance, at least: more than this no denoising is believed.
_LEAST = 0.04
METHOD = "mppca"


def denoised_with_level(dwi: DWI) -> tuple[NDArray[np.float32], float]:
    """Signals (X, Y, Z, N) without most of the noise, and the level of what is left.

    Args:
        dwi: Not denoised, with its noise level.

    Returns:
        The signals, as they were where the volumes are too few, and one level in the scan's units.
    """
    sigma = np.broadcast_to(np.asarray(dwi.sigma, np.float32), dwi.grid)
    inside = dwi.brain()
    level = float(np.median(sigma[inside]))
    if not possible(dwi):
        return np.asarray(dwi.data, np.float32), level
    made = np.asarray(denoise(dwi, method=METHOD).data, np.float32)
    return made, level * left_of_noise(np.asarray(dwi.data), made, sigma, inside)


def possible(dwi: DWI) -> bool:
    """Whether the volumes and voxels are enough to be denoised."""
    enough = len(dwi.gradients) >= DENOISE_METHODS[METHOD].min_volumes
    return enough and int(np.prod(np.minimum(dwi.grid, 5))) >= 8


def left_of_noise(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    sigma: NDArray[np.floating],
    inside: NDArray[np.bool_],
) -> float:
    """Share of the noise's standard deviation that denoising left: what it took off tells.

    Args:
        before: (X, Y, Z, N).
        after: The same, denoised.
        sigma: (X, Y, Z) noise of `before`.
        inside: (X, Y, Z) voxels that are looked at.
    """
    some = np.flatnonzero(inside)
    some = some[np.linspace(0, len(some) - 1, min(len(some), 20_000)).astype(int)]
    rows = np.unravel_index(some, inside.shape)
    taken = ((before[rows] - after[rows]) ** 2).mean(1) / np.maximum(sigma[rows], 1e-12) ** 2
    return float(np.sqrt(np.clip(1 - np.median(taken), _LEAST, 1)))
