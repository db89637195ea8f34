"""Lost slices, spikes, ghosts and motion are found, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.gradients import Gradients
from fornix.estimators.mask import brain_mask
from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess import estimate_noise
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.quality import measure_quality, verdict_of
from fornix.preprocess.quality.spikes import SPIKE, spike_power

TABLE = shells(1, (1000, 24))


def scanned(seed: int, snr: float = 20, size: float = 4.0, table: Gradients = TABLE, **faults):
    made = simulate(
        protocol=table,
        snr=snr,
        voxel_size=size,
        seed=seed,
        threads=1,
        artefacts=Artefacts(**faults),
    )
    return estimate_noise(brain_mask(made.dwi)), made.artefact_truth


def judged(dwi, axis: int = 2):
    return dwi.brain().sum(tuple(a for a in range(3) if a != axis)) > 40


@pytest.mark.parametrize("axis", [1, 2])
def test_lost_slices_are_found_and_no_others(axis):
    """Along either slice axis, in a head that moves."""
    way = "k" if axis == 1 else "j"
    dwi, truth = scanned(3, dropout=0.04, motion_mm=1.0, motion_degrees=1.0, phase_encoding=way)
    lost = np.zeros((len(TABLE), dwi.grid[axis]), bool)
    for drop in truth.dropped:
        lost[drop.volume, drop.slice] = True
    there = judged(dwi, axis)
    found = measure_quality(dwi, Acquisition.of(dwi, direction=way))
    assert (found.lost & lost)[:, there].sum() >= 0.95 * lost[:, there].sum() > 5
    assert (found.lost & ~lost)[:, there].mean() < 0.01


def test_spikes_are_found_and_no_others():
    dwi, truth = scanned(4, spike=0.03, motion_mm=1.0, motion_degrees=1.0)
    spiked, strong = np.zeros((2, len(TABLE), dwi.grid[2]), bool)
    for spike in truth.spikes:
        spiked[spike.volume, spike.slice] = True
        strong[spike.volume, spike.slice] = spike.share > 0.2
    strong[0] = False  # one b0 alone has nothing to be compared with
    found = spike_power(dwi) > SPIKE
    # A magnitude image shows the wave where the head is: in a slice of little brain it is near the noise.
    area = dwi.brain().sum((0, 1))
    there = area > 0.25 * area.max()
    assert (found & strong)[:, there].sum() >= 0.9 * strong[:, there].sum() > 5
    assert (found & ~spiked).sum() <= 1
    assert measure_quality(dwi).volumes["spike_slices"] == found.sum(1).tolist()


def test_a_still_clean_head_is_accepted():
    dwi, _ = scanned(5)
    found = measure_quality(dwi)
    assert not found.lost.any()
    assert found.summary["spikes_tot"] == 0
    assert found.summary["qc_mot_abs"] < 0.4
    assert verdict_of(found.summary).word == "accept"


def test_motion_is_measured():
    dwi, truth = scanned(6, motion_mm=2.0, motion_degrees=2.0)
    found = measure_quality(dwi)
    far = np.array(found.volumes["motion_abs"], float)
    moved = np.linalg.norm(truth.motion[:, :3] - truth.motion[0, :3], axis=1)
    assert np.corrcoef(far, moved)[0, 1] > 0.5
    assert found.summary["qc_mot_abs"] > 1


@pytest.mark.parametrize(("way", "axis"), [("j", 1), ("i", 0)])
def test_ghosts_grow_with_the_ghost(way, axis):
    shares = []
    for ghost in (0.0, 0.1, 0.2):
        dwi, _ = scanned(7, ghost=ghost, phase_encoding=way)
        shares.append(measure_quality(dwi, Acquisition.of(dwi, direction=way)).summary["gsr"])
    if None in shares:
        pytest.skip("the grid leaves no place beside the head along this axis")
    assert shares[0] < 0.03
    assert shares[0] < shares[1] < shares[2]


def test_the_order_of_volumes_does_not_matter():
    dwi, _ = scanned(8, dropout=0.03)
    order = np.r_[0, 1 + np.random.default_rng(0).permutation(24)]
    one, other = measure_quality(dwi), measure_quality(dwi.subset(order))
    assert (one.lost[order] == other.lost).mean() > 0.995
    assert one.volumes["snr"] == [other.volumes["snr"][i] for i in np.argsort(order)]
    assert one.summary["ndc"] == pytest.approx(other.summary["ndc"], abs=1e-3)


@pytest.mark.parametrize("volumes", [1, 2, 4])
def test_few_volumes_say_what_can_be_said(volumes):
    dwi, _ = scanned(9, size=6.0)
    found = measure_quality(dwi.subset(range(volumes)))
    assert not found.lost.any()
    assert found.summary["snr_b0"] > 5
    assert len(found.volumes["snr"]) == volumes
