"""Estimators mixed as hidden volumes ask for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fornix.core.dwi import DWI
from fornix.estimators.mixture import KINDS, PARTS, PRIOR, fitted
from fornix.estimators.predict import predict
from fornix.physics import random_tissue, signal
from fornix.physics.protocol import scheme, shells


def predictions(
    errors: tuple[float, float, float], count: int = 4000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What parts of these errors say of measurements, these with noise, and kinds."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.2, 0.9, count)
    parts = true[:, None] + rng.standard_normal((count, 3)) * errors
    return parts, true + 0.03 * rng.standard_normal(count), rng.integers(0, len(KINDS), count)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(0.005, 0.3)] * 3), st.integers(0, 1000))
def test_it_is_not_worse_than_its_best_part(errors, seed):
    parts, measured, kinds = predictions(errors, seed=seed)
    made = fitted(parts, measured, kinds)
    assert (made.weights >= 0).all()
    np.testing.assert_allclose(made.weights.sum(1), 1, atol=1e-6)
    *alone, mixed = made.errors
    assert mixed <= min(alone) * 1.005


def test_what_loses_loses_its_weight():
    made = fitted(*predictions((0.02, 0.3, 0.3)))
    assert (made.weights[:, 0] > 0.95).all()
    made = fitted(*predictions((0.3, 0.3, 0.01)))
    assert (made.weights[:, 2] > 0.95).all()


def test_kinds_of_tissue_have_their_own_weights():
    first, second = predictions((0.01, 0.2, 0.2), 20_000), predictions((0.2, 0.2, 0.01), 20_000, 1)
    kinds = np.r_[np.full(20_000, 1), np.full(20_000, 3)]
    made = fitted(np.r_[first[0], second[0]], np.r_[first[1], second[1]], kinds)
    assert made.weights[1, 0] > 0.85 and made.weights[3, 2] > 0.85
    assert "low anisotropy" in made.note and "fluid" not in made.note


@pytest.mark.parametrize("value", [np.nan, 0.5])
def test_measurements_that_say_nothing_give_no_infinite_weights(value):
    parts, measured = np.full((50, 3), value), np.full(50, 0.5)
    made = fitted(parts, measured, np.zeros(50, dtype=np.int64))
    assert np.isfinite(made.weights).all()
    np.testing.assert_allclose(made.weights.sum(1), 1, atol=1e-6)


@pytest.fixture
def scan():
    def of(name: str) -> DWI:
        gradients = scheme(name)
        clean = signal(random_tissue(216, seed=3), gradients).numpy()
        noise = 0.04 * np.random.default_rng(0).standard_normal(clean.shape)
        data = np.abs(1000 * (clean + noise)).astype(np.float32)
        return DWI(data.reshape(6, 6, 6, -1), gradients, np.diag([2.0, 2.0, 2.0, 1.0]), sigma=40.0)

    return of


def test_the_sidecar_says_the_weights(scan):
    there = shells(0, (1000, 5), seed=2)
    _, made = predict(scan("dti12"), there, method="learned")
    weights = made.details["MixtureWeights"]
    assert set(weights) == set(KINDS) and all(set(w) == set(PARTS) for w in weights.values())
    assert set(made.details["ErrorOfHiddenVolumes"]) == {*PARTS, "mixture"}


def test_few_volumes_are_mixed_as_is_usual(scan):
    _, made = predict(scan("dti6"), shells(0, (1000, 5), seed=2), method="learned")
    weights = made.details["MixtureWeights"]
    assert [tuple(w.values()) for w in weights.values()] == list(PRIOR)
    assert not made.details["ErrorOfHiddenVolumes"]
