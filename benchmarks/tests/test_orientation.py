"""The suite runs on tiny sizes and writes its files; its scores are right in cases known by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from fornix.numerics import harmonics
from fornix.physics import anatomy
from fornix.physics.protocol import scheme
from fornix_bench.suites.orientation.phantom import bundles_scan
from fornix_bench.suites.orientation.real import angular_correlation
from fornix_bench.suites.orientation.suite import run_orientation
from fornix_bench.suites.orientation.truth import Found, Truth, random_truth, scored, scores


def _found(truth: Truth, directions: np.ndarray, amplitude: np.ndarray) -> Found:
    return Found(directions.astype(np.float32), amplitude.astype(np.float32), 1.0)


def test_the_suite_writes_its_files(tmp_path: Path) -> None:
    rows = run_orientation(tmp_path, threads=1, quick=True, size=400)
    with (tmp_path / "orientation.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    page = (tmp_path / "orientation.md").read_text()
    assert "At a glance" in page and all(
        name in page for name in ("voxelwise", "csd-dipy", "RUMBA")
    )
    assert (tmp_path / "orientation.png").stat().st_size > 5000
    best = [r for r in rows if r["section"] == "best"]
    assert all(abs(r["sum"] - r["missed"] - r["spurious"]) < 1e-9 for r in best)
    for one in best:
        same = [r for r in rows if r["section"] == "curve" and r["method"] == one["method"]
                and r["protocol"] == one["protocol"]]  # fmt: skip
        assert one["sum"] == min(r["sum"] for r in same)


def test_truth_is_what_it_says() -> None:
    tissue, truth = random_truth(3000, 1)
    assert bool(((tissue.fraction.numpy() > 0).sum(1) == np.maximum(truth.fibres, 1)).all())
    two = truth.fibres == 2
    cosine = np.abs((truth.axes[:, 0] * truth.axes[:, 1]).sum(1))[two]
    degrees = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    np.testing.assert_allclose(degrees, truth.angle[two], atol=0.1)
    assert degrees.min() > 19.9 and degrees.max() > 85


def test_a_scene_scores_voxels_whose_fibres_come_first() -> None:
    """Of a head: the true axes are those of its tissue, and every kind of voxel is there."""
    made = bundles_scan(anatomy.embedded(4.0, 1), scheme("dti6"), 200, 20.0, 0)
    truth, scored_voxels = made.truth, int(made.scored.sum())
    assert len(truth.axes) == scored_voxels <= 200
    assert bool((made.dwi.brain() | ~made.scored).all())
    assert (truth.fibres > 0).sum() > 50 and truth.water.any()
    assert bool((truth.fibres[truth.water] == 0).all())
    assert bool((np.isfinite(truth.angle) == (truth.fibres > 1)).all())


def test_the_angular_correlation_of_alike_is_one_and_of_unlike_less() -> None:
    a, b = (harmonics.evaluate(8, np.eye(3)[k : k + 1]) for k in (0, 1))
    assert np.isclose(angular_correlation(a, 2 * a)[0], 1)
    assert angular_correlation(a, b)[0] < 0.5
    assert np.isnan(angular_correlation(a, np.zeros_like(a))[0])


def test_scores_of_peaks_that_are_known() -> None:
    _, truth = random_truth(2000, 2)
    axes = truth.axes * truth.real[..., None]
    nothing = np.zeros((2000, 1, 3))
    right = _found(truth, np.concatenate([axes, nothing], 1), np.ones((2000, 4)))
    made = scores(right, np.concatenate([truth.real, np.zeros((2000, 1), bool)], 1), truth)
    assert made["sum"] == 0 and made["right_count"] == 1 and made["resolved_30_45"] == 1
    assert made["error_45_90"] < 0.05 and made["spurious_gm"] == 0
    # The first axis alone: the others are missed, nothing is spurious.
    first = np.zeros((2000, 4), bool)
    first[:, 0] = truth.fibres > 0
    made = scores(right, first, truth)
    fibres = truth.fibres[truth.fibres > 0]
    assert np.isclose(made["missed"], (fibres - 1).mean()) and made["spurious"] == 0
    assert made["resolved_60_90"] == 0
    # A peak in every voxel of water is one too many for each.
    anywhere = np.ones((2000, 4), bool)
    made = scores(right, anywhere, truth)
    assert made["spurious_csf"] == 4


def test_the_best_threshold_is_found() -> None:
    """False peaks at a tenth of the size of true ones: a threshold between leaves none."""
    _, truth = random_truth(1500, 3)
    rng = np.random.default_rng(0)
    false = rng.standard_normal((1500, 1, 3))
    false /= np.linalg.norm(false, axis=2, keepdims=True)
    directions = np.concatenate([truth.axes * truth.real[..., None], false], 1)
    amplitude = np.concatenate([truth.real * 1.0, np.full((1500, 1), 0.1)], 1)
    order = np.argsort(-amplitude, axis=1)
    directions = np.take_along_axis(directions, order[..., None], 1)
    best = scored(_found(truth, directions, np.take_along_axis(amplitude, order, 1)), truth)[0]
    assert best["section"] == "best" and best["sum"] == 0
