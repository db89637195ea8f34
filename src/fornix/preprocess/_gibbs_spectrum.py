"""What the spectrum of the images says of how they were sampled: interpolation, partial Fourier."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fornix.core.dwi import DWI

#: Volumes and slices that are looked at, at most.
_VOLUMES, _SLICES = 8, 24
#: Power at the highest frequencies over that at middle ones below which k-space is empty there, and how
#: steeply it must fall within a tenth of the highest frequency: structure falls slowly.
_EMPTY, _STEEP = 0.04, 0.4
#: Power beyond the border of partial Fourier over that before it, beside the other axis: half where zeros
#: were left, 1 where k-space was filled.
_HALVED = 0.82


def power_along(dwi: DWI, across: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Power of the slices' spectrum along each of their axes, from frequency 0 to the highest, (n // 2 + 1,).

    Of what volumes of the largest shell differ in, as that is mostly noise; of one volume as it is. The
    background is left out: its noise is not that of the k-space.

    Args:
        dwi: The scan.
        across: Voxel axis across the slices.
    """
    shells = dwi.gradients.shells
    chosen = max(shells, key=len).volumes if shells else range(len(dwi.gradients))
    depth = dwi.grid[across]
    slices = np.arange(depth)[:: max(1, -(-depth // _SLICES))]
    values = np.stack(
        [np.take(dwi.volume(int(v)), slices, across) for v in np.asarray(chosen)[:_VOLUMES]]
    )
    values = np.nan_to_num(values, posinf=0, neginf=0)
    mean = values.mean(0)
    if len(values) > 1:
        values = values - mean
    width = tuple(0.0 if a == across else 2.0 for a in range(3))
    smooth = gaussian_filter(mean, width)
    bright = smooth > 0.3 * np.percentile(smooth, 98)
    values = values * gaussian_filter(bright.astype(np.float32), width)
    found = []
    for axis in (a for a in range(3) if a != across):
        squared = np.abs(scipy.fft.rfft(values, axis=axis + 1)) ** 2
        others = tuple(a for a in range(4) if a != axis + 1)
        found.append(squared.mean(others, dtype=np.float64))
    return found[0], found[1]


def is_interpolated(power: NDArray[np.float64], partial_fourier: float = 1.0) -> bool:
    """Whether k-space is empty at its border: zero-filled, smoothed or interpolated otherwise.

    Args:
        power: Along an axis.
        partial_fourier: Share of the lines along it that was measured; only what lies beyond the measured
            side's border is looked at, as the power falls there by itself.
    """
    start = 0.3 if partial_fourier == 1 else min(2 * partial_fourier - 0.9, 0.8)
    outer, middle = _between(power, 0.93, 1.01), _between(power, start, start + 0.2)
    if middle <= 0 or outer >= _EMPTY * middle:
        return False
    starts = np.arange(start, 0.81, 0.05)
    before, after = ([_between(power, s + d, s + d + 0.1) for s in starts] for d in (0, 0.1))
    return min(a / b if b > 0 else 0.0 for a, b in zip(after, before)) < _STEEP


def is_halved(
    phase: NDArray[np.float64], other: NDArray[np.float64], partial_fourier: float
) -> bool:
    """Whether frequencies of one side only weigh less than the others: they were not filled otherwise.

    True where it cannot be told.

    Args:
        phase: Power along the phase-encoding axis.
        other: Power along the other axis of the slices.
        partial_fourier: Share of the lines that was measured.
    """
    border = 2 * partial_fourier - 1
    # A scanner's border is a few lines off what it says, so the step's own place is left out.
    windows = ((border - 0.2, border - 0.1), (border + 0.05, min(border + 0.2, 1.0)))
    near, far = (_between(phase, *w) for w in windows)
    there, beyond = (_between(other, *w) for w in windows)
    if min(near, far, there, beyond) <= 0:
        return True
    return bool(far / near < _HALVED * (beyond / there))


def _between(power: NDArray[np.float64], low: float, high: float) -> float:
    share = np.arange(len(power)) / max(len(power) - 1, 1)
    chosen = (share >= low) & (share < high)
    return float(power[chosen].mean()) if chosen.any() else 0.0
