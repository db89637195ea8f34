"""A straight corridor of white matter between two blocks of grey matter, on which answers are known."""

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
    """Fibres along x; `track` with any criterion changed."""

    grid, affine = GRID, AFFINE

    def __init__(self) -> None:
        wm, gm = np.zeros(GRID, np.float32), np.zeros(GRID, np.float32)
        wm[3:-3, 2:-2, 2:-2] = 1
        gm[:3] = gm[-3:] = 1
        lobe = harmonics.project(8, lambda u: np.exp(25 * (u[:, 0] ** 2 - 1)))
        self.fod = np.broadcast_to(lobe.astype(np.float32), (*GRID, 45)).copy()
        self.tissue = TissueFractions(wm, gm, np.zeros(GRID, np.float32))

    def mask(self, *where: Any) -> np.ndarray:
        mask = np.zeros(GRID, bool)
        mask[where] = True
        return mask

    def criteria(self, **changed: Any) -> TrackingCriteria:
        return TrackingCriteria(**{"step": 0.8, "min_length": 10, "max_length": 100, **changed})

    def inner(self) -> np.ndarray:
        """Away from the walls, where a streamline may leave by the side as through a brain's cut stem."""
        return self.mask(slice(3, -3), slice(4, -4), slice(4, -4))

    def run(
        self, algorithm: str = "probabilistic", criteria: dict[str, Any] | None = None, **more: Any
    ) -> Tractogram | int:
        options = {"count": 200, "seed": 1, "threads": 1, **more}
        fod, tissue = options.pop("fod", self.fod), options.pop("tissue", self.tissue)
        seeds = options.pop("seeds", self.inner())
        return track_engine(
            fod, AFFINE, tissue, seeds, self.criteria(**(criteria or {})), algorithm=algorithm,
            **options,
        )  # fmt: skip

    def track(
        self, algorithm: str = "probabilistic", criteria: dict[str, Any] | None = None, **more: Any
    ) -> Tractogram:
        tractogram = self.run(algorithm, criteria, **more)
        assert isinstance(tractogram, Tractogram)
        return tractogram


@pytest.fixture(scope="module")
def corridor() -> Corridor:
    return Corridor()
