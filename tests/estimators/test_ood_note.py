"""The line on voxels out of distribution: only where there are more than usual, with place and cause."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.estimators.ood_note import ood_note
from fornix.models import flags

LIMITS = (4.0, 3.0, 3.0, 3.0)


@pytest.fixture
def scan() -> DWI:
    table = Gradients(np.r_[0, np.full(9, 1000.0)], np.r_[[[0, 0, 0]], np.eye(3).repeat(3, axis=0)])
    table = Gradients(table.bvals, table.directions, numbers=np.arange(10) + 5)
    return DWI(np.ones((20, 20, 20, 10), np.float32), table, np.diag([2.0, 2, 2, 1]))


def said(scan: DWI, share: float, evidence: int, volume: int = 3) -> str:
    n = 8000
    scores = np.zeros((n, 4), np.float32)
    flagged = np.arange(n) < share * n
    scores[flagged, evidence] = 6.0
    return ood_note(
        scan, np.arange(n), flagged, scores, np.full(n, volume), np.ones(n, np.float32), LIMITS
    )


def test_a_healthy_share_is_not_worth_a_line(scan):
    assert said(scan, 0.005, 1) == ""


@pytest.mark.parametrize(
    ("evidence", "cause"),
    [
        (0, "tissue unlike"),
        (1, "many volumes"),
        (2, "most in volume 8"),
        (3, "no simulated tissue"),
    ],
)
def test_share_place_and_cause(scan, evidence, cause):
    text = said(scan, 0.2, evidence)
    assert "20.0% of the voxels" in text and cause in text and "other tissue" in text
    assert "\n" not in text


def test_a_handful_of_voxels_is_not_worth_a_line():
    marks = np.zeros(121_208, np.uint8)
    marks[7] = flags.NOT_CONVERGED
    assert flags.notes("noddi", marks) == []
    marks[:2000] = flags.NON_PHYSICAL
    marks[2000:2500] = flags.NOT_CONVERGED
    lines = flags.notes("noddi", marks)
    assert ["outside the physical range" in lines[0], "did not settle" in lines[1]] == [True, True]
