"""The peaks of the network's FODs, with what says whether they are fibres.

A mean over what could be is smoother than any of it: two fibres whose directions are known to 10° are
blurred by as much, and lobes that are close run together. Peaks are therefore searched on the FOD
with its higher orders raised again. What that invents is left to `fod_peaks.PeakTrust`, which is
fitted to peaks found in this very way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.core import harmonics
from fornix.learn.fod_peaks import describe
from fornix.orientation.peaks import measure_peaks

#: Peaks looked at in a voxel, and the smallest, as a share of the largest and per steradian.
MOST, RELATIVE, ABSOLUTE, SEPARATION = 4, 0.05, 0.02, 20.0
#: Factor of the coefficients of order 8; those below are raised by exp(s l (l + 1)) likewise, the
#: inverse of a Gaussian blur.
SHARPENED = 3.0


@dataclass(frozen=True, eq=False)
class Lobes:
    """Peaks of n voxels, largest first, zeros where there are fewer.

    directions: (n, MOST, 3) unit vectors. amplitude, std: (n, MOST) per steradian. numbers: (n, MOST,
    F) of `describe`.
    """

    directions: NDArray[np.float32]
    amplitude: NDArray[np.float32]
    std: NDArray[np.float32]
    numbers: NDArray[np.float64]


def lobes(
    fod: NDArray[np.float32], floor: NDArray[np.float32], share: NDArray[np.float32]
) -> Lobes:
    """The peaks of FODs (n, 45) whose standard deviation is that of `FodAnswer`."""
    ells = harmonics.orders(8)[0]
    raised = (fod * SHARPENED ** (ells * (ells + 1) / 72)).astype(np.float32)
    found = measure_peaks(raised, MOST, relative=RELATIVE, absolute=ABSOLUTE, separation=SEPARATION)
    there = found.amplitude > 0
    basis = harmonics.evaluate(8, found.directions)
    amplitude = np.where(there, np.einsum("nkj,nj->nk", basis, fod), 0).clip(0).astype(np.float32)
    std = np.hypot(floor[:, None], share[:, None] * amplitude).astype(np.float32)
    numbers = describe(amplitude, std, found.amplitude, found.dispersion)
    return Lobes(found.directions, amplitude, std, numbers)
