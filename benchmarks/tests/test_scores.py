"""Scores against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from fornix_bench.metrics import scores


def test_errors_of_a_known_shift() -> None:
    true = np.linspace(0, 1, 1001)
    found = true + 0.1 + 0.05 * np.where(np.arange(1001) % 2, 1, -1)
    row = scores.errors(found, true)
    assert row["bias"] == pytest.approx(0.1, abs=1e-4)
    assert row["spread"] == pytest.approx(0.05, abs=1e-4)
    assert row["rmse"] == pytest.approx(np.hypot(0.1, 0.05), abs=1e-4)
    assert "missing" not in row


def test_errors_count_what_is_not_finite() -> None:
    row = scores.errors([1.0, np.nan, np.inf], [0.0, 0.0, 0.0])
    assert (row["n"], row["missing"], row["rmse"]) == (1, 2, 1.0)


def test_angles_do_not_know_the_sign() -> None:
    axis = np.array([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 2]])
    other = np.array([[-1.0, 0, 0], [0, 3, 0], [1, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(scores.angles(axis, other), [0, 90, 45, 0], atol=1e-5)


def test_coverage_of_exact_gaussians() -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2, 40_000)
    true = rng.normal(0, std)
    for share in (0.5, 0.8, 0.9, 0.95):
        reach = norm.ppf((1 + share) / 2) * std
        assert scores.coverage(true, -reach, reach) == pytest.approx(share, abs=0.01)
    assert scores.coverage(true, np.full_like(true, np.nan), std) == 0


def test_spearman() -> None:
    x = np.arange(50.0)
    assert scores.spearman(x, np.exp(x / 10)) == pytest.approx(1)
    assert scores.spearman(x, -x) == pytest.approx(-1)
    assert np.isnan(scores.spearman(x, np.ones(50)))


def test_ause_is_zero_for_the_oracle_and_large_for_chance_and_the_reverse() -> None:
    rng = np.random.default_rng(1)
    error = rng.normal(0, rng.uniform(0.1, 3, 20_000))
    assert scores.ause(error, np.abs(error)) == 0
    chance = scores.ause(error, rng.random(20_000))
    _, oracle = scores.sparsification(error, np.abs(error))
    assert chance == pytest.approx(np.trapezoid(1 - oracle, np.arange(50) / 50), abs=0.03)
    assert scores.ause(error, -np.abs(error)) > chance


def test_sparsification_starts_at_one_and_keeps_the_best() -> None:
    removed, curve = scores.sparsification(np.array([1.0, 1, 1, 9]), np.array([1.0, 2, 3, 4]), 4)
    np.testing.assert_allclose(removed, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(curve, np.array([np.sqrt(21), 1, 1, 1]) / np.sqrt(21))


@pytest.mark.parametrize(
    ("score", "expected"),
    [([0, 1, 2, 3], 1.0), ([3, 2, 1, 0], 0.0), ([5, 5, 5, 5], 0.5), ([0, 2, 1, 3], 0.75)],
)
def test_auroc(score: list[float], expected: float) -> None:
    assert scores.auroc(score, [False, False, True, True]) == pytest.approx(expected)


def test_auroc_without_positives_is_nan() -> None:
    assert np.isnan(scores.auroc([1, 2], [False, False]))


def test_cells_leave_out_what_is_rare() -> None:
    true = np.r_[np.full(100, 0.3), np.full(5, 0.7)]
    rows = scores.cells("fa", true + 0.02, true, np.full(105, 0.1))
    assert [r["cell"] for r in rows] == ["0.2–0.4"]
    assert rows[0]["bias"] == pytest.approx(0.02)
    assert rows[0]["std_told"] == pytest.approx(0.1)
