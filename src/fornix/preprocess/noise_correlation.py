"""How far neighbouring voxels share their noise: interpolation, filters and partial Fourier correlate it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.signals import Signals
from fornix.preprocess.signal_designs import residual_bases

#: Correlation of voxels beside each other along each axis of the grid.
Correlation = tuple[float, float, float]
#: Stands where too few volumes show the noise.
UNKNOWN: Correlation = (0.3, 0.3, 0.3)
#: Degrees of freedom of the residuals from which they show it, and pairs of voxels that settle it.
_FREEDOM, _PAIRS = 4, 300
#: Voxels of the band that is looked at; numbers of each that are compared at most.
_BAND, _COMPARED = 40_000, 24
#: Residuals this many times larger than is usual are artefacts or misfits, not noise.
_UNUSUAL = 3.0


def noise_correlation(dwi: DWI, voxels: NDArray[np.int64]) -> Correlation:
    """Correlation of the noise of voxels beside each other, from what harmonic fits leave over.

    Args:
        dwi: The scan.
        voxels: (n,) flat indices of its grid, ascending.

    Returns:
        Along each axis of the grid, 0 to 0.9; `UNKNOWN` where fewer than four numbers per voxel are left
        over, and along an axis without neighbours 0.
    """
    bases = residual_bases(dwi.gradients)
    if sum(left.shape[1] for left, _ in bases) < _FREEDOM:
        return UNKNOWN
    # A band of whole slices about the middle, so that voxels have their neighbours.
    start = max(0, (len(voxels) - _BAND) // 2)
    band = voxels[start : start + _BAND]
    signals = Signals(dwi, band)[np.arange(len(band))]
    left = np.concatenate([signals[:, rows] @ basis for basis, rows in bases], 1)[:, :_COMPARED]
    usual = np.isfinite(left).all(1)
    size = np.sqrt((left**2).mean(1))
    usual &= (size > 0) & (size < _UNUSUAL * np.median(size[usual]) if usual.any() else usual)
    left = left / np.maximum(size, 1e-12)[:, None] if usual.any() else left
    number = np.full(int(np.prod(dwi.grid)), -1)
    number[band[usual]] = np.flatnonzero(usual)
    found = [_along(number.reshape(dwi.grid), left, axis) for axis in range(3)]
    x, y, z = (float(np.clip(v, 0, 0.9)) for v in found)
    return x, y, z


def _along(number: NDArray[np.int64], left: NDArray[np.float32], axis: int) -> float:
    """Mean product of the residuals of neighbours, each of mean square 1."""
    length = number.shape[axis]
    one = np.take(number, np.arange(length - 1), axis).ravel()
    two = np.take(number, np.arange(1, length), axis).ravel()
    both = (one >= 0) & (two >= 0)
    if both.sum() < _PAIRS:
        return 0.0
    return float((left[one[both]] * left[two[both]]).mean())
