"""Spikes: single points of k-space that are far brighter than in the other volumes.

A spike lays a stripe pattern over a slice, whose mean hardly changes. In k-space the modulus of a slice is
nearly the same in all volumes of a kind, wherever the head is: a shift only turns the phase.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from fornix.core.compute import in_parallel
from fornix.core.dwi import DWI

Array = NDArray[np.float64]

#: Power over the other volumes' that noise does not reach.
SPIKE = 60.0
#: Volumes of a kind that tell what is usual.
_FEWEST = 8
#: Power below this share of the slice's median is none: zero-filled parts of k-space hold rounding.
_NOTHING = 0.05


def spike_power(dwi: DWI, slice_axis: int = 2) -> Array:
    """Largest power of one frequency over what it usually is, (N, slices); above SPIKE it is a spike.

    1 where there are fewer than eight volumes of the kind (b0s, weighted).

    Args:
        dwi: As it was measured, before denoising.
        slice_axis: Along which slices lie.
    """
    kinds = [np.flatnonzero(k) for k in (dwi.gradients.b0_mask, ~dwi.gradients.b0_mask)]
    kinds = [members for members in kinds if len(members) >= _FEWEST]

    def one(number: int) -> Array:
        place: list[slice | int] = [slice(None)] * 4
        place[slice_axis] = number
        volumes = np.moveaxis(np.asarray(dwi.data[tuple(place)]), -1, 0)
        found = np.ones(len(volumes))
        for members in kinds:
            found[members] = _above_usual(np.nan_to_num(volumes[members]))
        return found

    made = in_parallel(one, range(dwi.grid[slice_axis]), compiled=False)
    return np.stack(list(made), 1)


def _above_usual(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) of images (n, X, Y): largest power of a frequency over the geometric mean of the other images'."""
    spectrum = scipy.fft.rfft2(images)
    power = (spectrum.real**2 + spectrum.imag**2).reshape(len(images), -1)
    usual = np.maximum(np.median(power, axis=1, keepdims=True), 1e-20)
    log = np.log(np.maximum(power / usual, _NOTHING))
    above = (log * len(images) - log.sum(0)) / (len(images) - 1)
    above -= np.median(above, axis=1, keepdims=True)
    return np.asarray(np.exp(np.minimum(above.max(1), 50.0)))
