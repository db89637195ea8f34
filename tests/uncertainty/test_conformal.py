"""Calibrated intervals hold as often as they say; foreign voxels score."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.physics.protocol import scheme
from fornix.uncertainty.conformal import COUNT, Calibration, strata
from fornix.uncertainty.ood import Evidence, OODScorer


def estimates(n: int, seed: int, skew: bool = False):
    """Estimates whose claimed spread is wrong by a factor that depends on the stratum."""
    rng = np.random.default_rng(seed)
    stratum = rng.integers(0, 4, n)
    std = rng.uniform(0.05, 0.2, (n, 2)).astype(np.float32)
    mean = rng.uniform(0, 1, (n, 2)).astype(np.float32)
    noise = rng.exponential(1, (n, 2)) - 1 if skew else rng.standard_normal((n, 2))
    truth = mean + std * noise * (0.5 + stratum[:, None])
    return mean, std, truth, stratum


@pytest.mark.parametrize("skew", [False, True])
def test_intervals_cover_on_new_voxels(skew):
    calibration = Calibration.fit(*estimates(40_000, 0, skew))
    mean, std, truth, stratum = estimates(40_000, 1, skew)
    for share in (0.5, 0.8, 0.9, 0.95):
        low, high = calibration.quantiles(mean, std, stratum, ((1 - share) / 2, (1 + share) / 2))
        for s in range(4):
            here = stratum == s
            held = ((truth >= low) & (truth <= high))[here].mean()
            assert abs(held - share) < 0.02


def test_scaled_deviations_are_those_of_normal_errors():
    calibration = Calibration.fit(*estimates(40_000, 0))
    mean, std, truth, stratum = estimates(40_000, 1)
    found = calibration.scaled(mean, std, stratum)
    assert abs(((truth - mean) / found).std() - 1) < 0.03


def test_a_stratum_without_voxels_takes_what_all_show():
    calibration = Calibration.fit(*estimates(4000, 0))
    mean, std, _, _ = estimates(100, 1)
    never = np.full(100, COUNT - 1)
    assert (calibration.scaled(mean, std, never) > std).all()


def test_levels_beyond_the_table_are_refused():
    calibration = Calibration.fit(*estimates(4000, 0))
    mean, std, _, stratum = estimates(10, 1)
    with pytest.raises(FornixError, match="calibrated from"):
        calibration.quantiles(mean, std, stratum, (0.001,))


def test_state_round_trip():
    calibration = Calibration.fit(*estimates(4000, 0))
    again = Calibration.from_state(calibration.state())
    np.testing.assert_array_equal(again.table, calibration.table)


def test_strata_part_protocols_and_noise():
    sigma = np.array([0.01, 0.05, 0.3])
    few, many = strata(scheme("dti6"), sigma), strata(scheme("bench96"), sigma)
    assert len(set(few)) == 3 and not set(few) & set(many)
    assert max(many.max(), few.max()) < COUNT


def family(n: int, seed: int) -> tuple[np.ndarray, Evidence]:
    rng = np.random.default_rng(seed)
    invariants = (rng.standard_normal((n, 6)) @ np.diag([1, 2, 0.5, 1, 1, 3])).astype(np.float32)
    distance = rng.chisquare(6, n) / 6
    rest = [rng.chisquare(10, n) / 10 for _ in range(3)]
    return invariants, Evidence(*(np.asarray(v, np.float32) for v in (distance, *rest)))


def test_surprise_counts_decades():
    import torch

    invariants, evidence = family(60_000, 0)
    mean, whiten = OODScorer.whitening(invariants)
    scorer = OODScorer.fit(mean, whiten, evidence, np.zeros(60_000, np.int64))
    assert abs(float(scorer.distance(torch.from_numpy(invariants)).mean()) - 1) < 0.02
    _, new = family(60_000, 1)
    score = scorer.ood_score(new, np.zeros(60_000, np.int64))
    for decade in (1.0, 2.0):
        shares = (score > decade).mean(0)
        assert np.all(np.abs(np.log10(shares) + decade) < 0.15)
    strange = Evidence(*(10 * getattr(new, k) for k in ("distance", "misfit", "worst", "residual")))
    assert np.median(scorer.ood_score(strange, np.zeros(60_000, np.int64))) > 3
    again = OODScorer.from_state(scorer.state())
    np.testing.assert_array_equal(again.ood_score(new, np.zeros(60_000, np.int64)), score)
