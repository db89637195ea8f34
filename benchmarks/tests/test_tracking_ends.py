"""The benchmark of what streamlines end in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.nets.tissue_classes import CLASSES, TissueSegmentation
from fornix_bench.suites.tractography import ends


def test_the_networks_tissue_fills_the_brain():
    grid = (6, 5, 4)
    rng = np.random.default_rng(0)
    odds = rng.uniform(0.1, 1, (*grid, len(CLASSES))).astype(np.float32)
    mask = np.zeros(grid, bool)
    mask[1:-1, 1:-1] = True
    table = Gradients(np.array([0.0]), np.zeros((1, 3)))
    dwi = DWI(np.ones((*grid, 1), np.float32), table, np.eye(4), mask=mask)
    seen = TissueSegmentation(odds / odds.sum(-1, keepdims=True), np.zeros(grid, np.float32), mask)
    made = ends.by_network(dwi, seen)
    total = made.wm + made.gm + made.csf
    np.testing.assert_allclose(total[mask], 1, atol=1e-5)
    assert not total[~mask].any()
    stem = seen["brainstem"] / (1 - seen["background"])
    assert (made.wm >= stem - 1e-6)[mask].all()


def test_missing_data_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORNIX_TEST_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FornixError, match="set FORNIX_TEST_DATA"):
        ends.run_tracking_ends(tmp_path)
