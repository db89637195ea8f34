"""Noise-free scans of each signal model, with their truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.physics.protocol import scheme
from fornix.testing import model_truth as truth
from fornix.testing.model_truth import MODELS, as_dwi


@pytest.fixture(scope="session")
def protocol() -> Gradients:
    """6 b0 (at b=5, as scanners write them), 30 at 1000, 60 at 2000."""
    table = scheme("bench96")
    directions = np.where(table.b0_mask[:, None], [0.0, 0.6, 0.8], table.directions)
    return Gradients(np.where(table.b0_mask, 5.0, table.bvals), directions)


@pytest.fixture(scope="session")
def clean(protocol: Gradients) -> Callable[[str, int], tuple[DWI, truth.Truth]]:
    """clean(model, voxels): a noise-free scan with S0 = 1000, and its truth."""

    def make(model: str, count: int = 100) -> tuple[DWI, truth.Truth]:
        made = MODELS[model](protocol, count, seed=1)
        return as_dwi(1000 * made.signals, protocol), made

    return make
