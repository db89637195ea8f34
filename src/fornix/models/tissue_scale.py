"""What suits living tissue, carried over to fixed tissue, in which water moves more slowly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Mean diffusivity of living brain tissue, mm²/s, and below which median a brain is not a living one.
_LIVING, _SLOWEST_LIVING = 0.8e-3, 0.4e-3


def diffusivity_scale(md: NDArray[np.floating], brain: NDArray[np.bool_]) -> float:
    """Factor on diffusivities that tell tissues apart: 1 for living brains, less ex vivo.

    Args:
        md: (X, Y, Z) mean diffusivity, mm²/s.
        brain: (X, Y, Z) where to look.
    """
    known = md[brain & np.isfinite(md) & (md > 0)]
    typical = float(np.median(known)) if len(known) else _LIVING
    return 1.0 if typical >= _SLOWEST_LIVING else typical / _LIVING
