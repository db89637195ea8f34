"""What is asked of a streamline: how it runs, where it may end, what it must and must not touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.tractography._propagate import EXCLUDE_BIT, FIRST_INCLUDE, STOP_BIT

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TrackingCriteria:
    """How streamlines run and which are kept.

    step: mm. angle: largest turn per step, degrees; a curve's least radius is step / (2 sin(angle/2)).
    threshold: of the FOD's typical largest amplitude, below which no direction is taken.
    min_length, max_length: mm.
    include: (X, Y, Z) masks all of which a streamline must pass through; exclude: masks none of which
    it may enter; stop: masks in which it ends.
    act_ends: keep only streamlines that end in grey matter (anatomically constrained tracking).

    Raises FornixError for impossible values.
    """

    step: float
    angle: float = 30.0
    threshold: float = 0.1
    min_length: float = 20.0
    max_length: float = 250.0
    include: Sequence[Mask] = field(default=())
    exclude: Sequence[Mask] = field(default=())
    stop: Sequence[Mask] = field(default=())
    act_ends: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.step < float("inf"):
            raise FornixError(f"the step must be above 0 mm, not {self.step:g}")
        if not 0 < self.angle <= 90:
            raise FornixError(
                f"the angle must lie above 0 and up to 90 degrees, not {self.angle:g}"
            )
        if not 0 <= self.threshold <= 1:
            raise FornixError(f"the threshold must lie in [0, 1], not {self.threshold:g}")
        if not 0 <= self.min_length < self.max_length < float("inf"):
            raise FornixError(
                f"lengths must be 0 <= min < max, not {self.min_length:g} and {self.max_length:g} mm"
            )
        if len(self.include) > 62:
            raise FornixError(f"at most 62 regions can be included, not {len(self.include)}")

    @property
    def sharpest(self) -> float:
        """Largest curvature, 1/mm."""
        return float(2 * np.sin(np.radians(self.angle) / 2) / self.step)

    def regions(self, grid: tuple[int, int, int]) -> tuple[NDArray[np.uint64], np.uint64]:
        """(X, Y, Z) bits of the masks that a voxel lies in, and the bits of those to pass through.

        Raises FornixError where a mask is on another grid or empty.
        """
        bits = np.zeros(grid, np.uint64)
        named = [("exclude", EXCLUDE_BIT, m) for m in self.exclude]
        named += [("stop", STOP_BIT, m) for m in self.stop]
        named += [("include", FIRST_INCLUDE + i, m) for i, m in enumerate(self.include)]
        wanted = 0
        for what, bit, mask in named:
            if mask.shape != tuple(grid):
                raise FornixError(
                    f"the {what} mask is on another grid: {mask.shape} against the scan's {grid}; "
                    "resample it to the scan first"
                )
            inside = np.asarray(mask) > 0.5
            if not inside.any():
                raise FornixError(f"the {what} mask is empty: no voxel is inside")
            bits[inside] |= np.uint64(1) << np.uint64(bit)
            if bit >= FIRST_INCLUDE:
                wanted |= 1 << bit
        return bits, np.uint64(wanted)
