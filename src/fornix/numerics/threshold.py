"""A threshold between two classes: of a histogram, for images, and of the values themselves, for samples."""

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


def otsu_exact(values: NDArray) -> float:
    """The threshold of `otsu` from the values themselves, for few of them; those not finite are left out.

    Halfway between the two classes; 0 without values, theirs if they are all equal.
    """
    ordered = np.sort(values[np.isfinite(values)])
    if len(ordered) < 2 or ordered[0] == ordered[-1]:
        return float(ordered[0]) if len(ordered) else 0.0
    count = np.arange(1, len(ordered))
    low = np.cumsum(ordered)[:-1] / count
    high = (ordered.sum() - np.cumsum(ordered)[:-1]) / (len(ordered) - count)
    best = int(np.argmax(count * (len(ordered) - count) * (high - low) ** 2))
    return float((ordered[best] + ordered[best + 1]) / 2)
