"""The fibres that the network sees: maxima of its field, with what says whether they are there.

The field is the log-odds that a fibre lies near an axis. A probability rises and falls with its
log-odds, so their maxima are the same; but the log-odds of two fibres 30° apart still dip between
them where amplitudes, blurred by what noise leaves open, have run together. Where even the field has
one long hill, it is often two fibres of unsure directions: hills are therefore looked for with the
higher orders raised, the inverse of a Gaussian blur, and the direction is that of the field itself
where it has a maximum nearby. What the raising invents is left to `fod_peaks.PeakCalibration`, which is
fitted to maxima found in this very way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.models.peaks import measure_peaks, settled
from fornix.nets.fod_net import FodPrediction
from fornix.numerics import harmonics
from fornix.uncertainty.peaks import describe

#: Maxima looked at in a voxel, and how close two of them may be, degrees.
MOST, SEPARATION = 4, 18.0
#: Factor of the coefficients of order 8; those below are raised by exp(s l (l + 1)) likewise.
RAISED = 4.0
#: Raised log-odds that a maximum must have to be looked at.
LEAST = -7.0
#: The field's own maximum gives the direction where it is this near, degrees: less than half of the
#: separation, or two maxima could become one.
_NEAR = 8.0
#: Amplitudes below this, per steradian, are shown as this: a fibre has a length.
_SMALLEST = 1e-3
_CONSTANT = np.float32((4 * np.pi) ** 0.5)


@dataclass(frozen=True, eq=False)
class PeakCandidates:
    """Maxima of the fields of n voxels, highest first, zeros where there are fewer.

    Attributes:
        directions: (n, MOST, 3) unit vectors.
        amplitude: (n, MOST) of the FOD there, per steradian.
        std: See `amplitude`.
        numbers: (n, MOST, F) of `describe`.
        there: (n, MOST) bool, which exist.
    """

    directions: NDArray[np.float32]
    amplitude: NDArray[np.float32]
    std: NDArray[np.float32]
    numbers: NDArray[np.float64]
    there: NDArray[np.bool_]


def peak_candidates(answer: FodPrediction) -> PeakCandidates:
    """The maxima of an answer's field."""
    parts = (answer.fod, answer.fibre_logits, answer.std_floor, answer.std_relative)
    fod, field, floor, share = (v.cpu().numpy() for v in parts)
    ells = harmonics.orders(8)[0]
    raised = field * (RAISED ** (ells * (ells + 1) / 72)).astype(np.float32)
    found = measure_peaks(_lifted(raised), MOST, relative=0.0, separation=SEPARATION)
    there = found.amplitude > 0
    directions = settled(_lifted(field), found.directions, _NEAR)
    basis = harmonics.evaluate(8, directions)
    plain, height = (np.einsum("nkj,nj->nk", basis, values) for values in (fod, field))
    amplitude = np.where(there, np.maximum(plain, _SMALLEST), 0).astype(np.float32)
    std = np.hypot(floor[:, None], share[:, None] * amplitude).astype(np.float32)
    # A bell of this width has the curvature of the lifted function, which is that of the raised one.
    width = np.radians(np.maximum(found.dispersion, 1.0))
    curvature = np.where(there, found.amplitude / width**2, 1.0)
    numbers = describe(found.amplitude + LEAST, height, curvature, amplitude, std)
    return PeakCandidates(directions, amplitude, std, numbers, there)


def _lifted(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """A field plus what makes `LEAST` zero: the search asks for positive functions."""
    made = field.copy()
    made[:, 0] -= np.float32(LEAST) * _CONSTANT
    return made
