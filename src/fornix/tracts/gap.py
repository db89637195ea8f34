"""Whether a tract runs all its way: stretches of which little is left, as surgery or a mass leave them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.tracts.evidence import STATIONS

Array = NDArray[np.float32]

#: A station is lost where less than this share of the usual is left, and that is this many standard
#: deviations below what whole tracts show.
_LEFT, _DEVIATIONS = 0.4, 3.0
#: ml that a lost stretch lacks at least: of a few voxels, as of the fornix, noise can take most.
_LACKS = 0.5
#: Least standard deviation: people differ more than one person's bent copies do.
_SPREAD = 0.1
#: Stations of which whole tracts show less than this are not judged.
_SEEN = 0.3
#: Share of fluid from which a lost station is called filled with it.
_FLUID = 0.5


@dataclass(frozen=True)
class Gap:
    """A stretch of a tract of which little is left.

    Attributes:
        low: Where it begins, as a share of the tract's course.
        high: Where it ends.
        left: What is left of it, as a share of the usual.
        fluid: Mean share of fluid at the tract's core there.
    """

    low: float
    high: float
    left: float
    fluid: float

    def __str__(self) -> str:
        filled = ", fluid is there" if self.fluid > _FLUID else ""
        return (
            f"interrupted from {100 * self.low:.0f} to {100 * self.high:.0f}% of its course: "
            f"{100 * self.left:.0f}% of the usual is left{filled}"
        )


def find_gap(left: Array, usual: Array, spread: Array, expected: Array, fluid: Array) -> Gap | None:
    """The longest stretch that is lost; none where the tract runs all its way.

    Args:
        left: (STATIONS,) of `left_of`; NaN where nothing was scanned.
        usual: (STATIONS,) its mean over heads that have the tract whole.
        spread: (STATIONS,) its standard deviation.
        expected: (STATIONS,) volume that the atlas expects, ml.
        fluid: (STATIONS,) mean share of fluid at the tract's core.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = left / usual
        weak = (usual - left) / np.maximum(spread, _SPREAD * usual)
        lost = (usual > _SEEN) & (share < _LEFT) & (weak > _DEVIATIONS)
    edges = np.flatnonzero(np.diff(np.r_[False, lost, False]))
    lacking = np.where(lost, (usual - left) * expected, 0)
    stretches = [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]
    stretches = [(a, b) for a, b in stretches if lacking[a:b].sum() > _LACKS]
    if not stretches:
        return None
    begin, end = max(stretches, key=lambda one: one[1] - one[0])
    return Gap(
        begin / STATIONS,
        end / STATIONS,
        float(share[begin:end].mean().clip(0)),
        float(fluid[begin:end].mean()),
    )
