"""One voxel's signals made ready for a logarithm, compiled."""

from __future__ import annotations

import math

import numpy as np

from fornix.models.flags import BAD_DATA, EMPTY, TOO_FEW
from fornix.numerics.algebra import compiled


@compiled
def prepare_signals(
    raw: np.ndarray, s: np.ndarray, confidence: np.ndarray, needed: int
) -> tuple[float, int]:
    """Scale one voxel's signals by their largest; (scale, flags).

    Signals that are not positive (a background set to zero, overflowed integers) carry no
    logarithm: they become 0.001 of the largest with a millionth of the weight, so that the voxel
    can still be fitted from its other volumes. Where fewer than `needed` others are left they
    count in full, and the voxel is flagged.
    """
    n = len(raw)
    largest = 0.0
    for k in range(n):
        value = float(raw[k])
        if not math.isfinite(value):
            return 0.0, BAD_DATA
        largest = max(largest, value)
    poor = 0
    if largest <= 0.0:
        return 0.0, EMPTY
    for k in range(n):
        value = float(raw[k])
        if value > 0.0:
            s[k] = value / largest
            confidence[k] = 1.0
        else:
            s[k] = 1e-3
            confidence[k] = 1e-6
            poor += 1
    if n - poor < needed:
        confidence[:] = 1.0
        return largest, TOO_FEW
    return largest, 0
