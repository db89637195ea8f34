"""A threshold between two classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def otsu(values: NDArray) -> float:
    """The threshold that best splits the histogram in two classes (Otsu, 1979); of equal values, theirs."""
    if np.ptp(values) == 0:
        return float(values.flat[0])
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[np.nanargmax(apart)])
