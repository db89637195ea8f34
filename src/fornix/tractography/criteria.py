"""Tracking criteria: how a streamline runs, where it may end, what it must and must not touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.tractography._kernel_arguments import Regions, StepParams
from fornix.tractography._propagate import EXCLUDE_BIT, FIRST_INCLUDE, STOP_BIT

Mask = NDArray[np.bool_]
#: Length of the arcs that look ahead for smooth curves, in steps.
_PROBE = 3.0


@dataclass(frozen=True, eq=False)
class TrackingCriteria:
    """How streamlines run and which are kept.

    Attributes:
        step: mm.
        angle: Largest turn per step, degrees; a curve's least radius is step / (2 sin(angle / 2)).
        threshold: Of the FOD's typical largest amplitude, below which no direction is taken.
        min_length: mm.
        max_length: mm.
        include: (X, Y, Z) masks all of which a streamline must pass through.
        exclude: (X, Y, Z) masks none of which it may enter.
        stop: (X, Y, Z) masks in which it ends.
        act_ends: Keep only streamlines that end in grey matter (anatomically constrained tracking,
            Smith et al., NeuroImage 2012).

    Raises:
        FornixError: A value is impossible, or there are more than 62 masks to pass through.
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
    def max_curvature(self) -> float:
        """Largest curvature, 1/mm."""
        return float(2 * np.sin(np.radians(self.angle) / 2) / self.step)

    def step_params(self, algorithm: int, *, typical: float) -> StepParams:
        """As the compiled kernels take them.

        Args:
            algorithm: One of those in `_propagate`.
            typical: The FOD's typical largest amplitude.
        """
        return StepParams(
            algorithm=algorithm,
            step=float(self.step),
            cosine=float(np.cos(np.radians(self.angle))),
            max_curvature=self.max_curvature,
            probe=_PROBE * float(self.step),
            threshold=float(self.threshold * typical),
            min_steps=int(np.ceil(self.min_length / self.step - 1e-6)),
            max_steps=int(np.ceil(self.max_length / self.step)) + 2,
            act_ends=bool(self.act_ends),
        )

    def regions(self, grid: tuple[int, int, int]) -> Regions:
        """The masks as bits of each voxel, as the compiled kernels take them.

        Args:
            grid: (X, Y, Z) of the scan.

        Raises:
            FornixError: A mask is on another grid or empty.
        """
        bits = np.zeros(grid, np.uint64)
        named = [("exclude", EXCLUDE_BIT, m) for m in self.exclude]
        named += [("stop", STOP_BIT, m) for m in self.stop]
        named += [("include", FIRST_INCLUDE + i, m) for i, m in enumerate(self.include)]
        required = 0
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
                required |= 1 << bit
        return Regions(bits, np.uint64(required))
