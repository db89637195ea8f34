"""A straight corridor of white matter between two blocks of grey, on which answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.core.tractogram import Tractogram
from fornix.numerics import harmonics
from fornix.tractography.criteria import TrackingCriteria
from fornix.tractography.engine import track_engine
from fornix.tractography.tissue_fractions import TissueFractions

GRID, AFFINE = (24, 12, 9), np.diag([2.0, 2.0, 2.0, 1.0])


class Corridor:
    """Fibres along x; `track` with any rule changed."""

    grid, affine = GRID, AFFINE

    def __init__(self) -> None:
        white, grey = np.zeros(GRID, np.float32), np.zeros(GRID, np.float32)
        white[3:-3, 2:-2, 2:-2] = 1
        grey[:3] = grey[-3:] = 1
        lobe = harmonics.project(8, lambda u: np.exp(25 * (u[:, 0] ** 2 - 1)))
        self.fod = np.broadcast_to(lobe.astype(np.float32), (*GRID, 45)).copy()
        self.tissue = TissueFractions(white, grey, np.zeros(GRID, np.float32))

    def mask(self, *where: Any) -> np.ndarray:
        made = np.zeros(GRID, bool)
        made[where] = True
        return made

    def track(
        self, algorithm: str = "probabilistic", rules: dict[str, Any] | None = None, **more: Any
    ) -> Tractogram:
        asked = {"step": 0.8, "min_length": 10, "max_length": 100, **(rules or {})}
        options = {"count": 200, "seed": 1, "threads": 1, **more}
        # Away from the walls, where a streamline may leave by the side as through a brain's cut stem.
        inner = self.mask(slice(3, -3), slice(4, -4), slice(4, -4))
        seeds = options.pop("seeds", inner)
        made = track_engine(
            algorithm, self.fod, AFFINE, self.tissue, seeds, TrackingCriteria(**asked), **options
        )
        assert isinstance(made, Tractogram)
        return made


@pytest.fixture(scope="module")
def corridor() -> Corridor:
    return Corridor()
