"""Real scans: halves of one tell the same energies; what air says; a head scanned twice is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.enhance.harmonization.one_scan import noise_floor, with_one_channel
from fornix.enhance.harmonization.rish import energies
from fornix.estimators.mask import brain_mask
from fornix.io import load
from fornix.preprocess import estimate_noise

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore::fornix.core.errors.FornixWarning"),
]


def test_disjoint_halves_of_a_scan_tell_the_same_energies(shared_data: Path) -> None:
    dwi = load(shared_data / "dwi" / "philips-achieva_b1000x32" / "dwi.nii.gz")
    dwi = brain_mask(estimate_noise(dwi))
    middle = np.zeros(dwi.grid, bool)
    middle[:, :, 28:32] = True
    dwi = dwi.with_(mask=dwi.brain() & middle)
    b0 = np.flatnonzero(dwi.gradients.b0_mask)
    weighted = np.flatnonzero(~dwi.gradients.b0_mask)
    wanted = ((0, 1000), (2, 1000))
    halves = [energies(dwi.subset(np.r_[b0, weighted[k::2]]), wanted) for k in (0, 1)]
    for f in wanted:
        one, two = (np.log(np.nanmean(h[f])) for h in halves)
        assert abs(one - two) < 0.12


@pytest.mark.parametrize(
    ("name", "told"),
    [("siemens-prisma_b2000x20_run-1", True), ("toshiba-galan_b1500x12", False)],
)
def test_air_of_a_real_scan(shared_data: Path, name: str, told: bool) -> None:
    dwi = brain_mask(estimate_noise(load(shared_data / "dwi" / name / "dwi.nii.gz")))
    floor = noise_floor(dwi)
    assert (floor.reason == "") == told
    assert with_one_channel(dwi, floor) is dwi
