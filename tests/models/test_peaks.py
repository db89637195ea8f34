"""Peaks of functions whose tops are known."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.compute import use_threads
from fornix.core.errors import FornixError
from fornix.models.peaks import find_peaks, measure_peaks
from fornix.numerics import harmonics


def bundle(axes: np.ndarray, weights: np.ndarray, lmax: int = 8) -> np.ndarray:
    """Harmonics of narrow symmetric lobes along unit axes: sum of w exp(k (u.a)^2)."""
    return harmonics.project(
        lmax,
        lambda u: sum(w * np.exp(18 * ((u @ a) ** 2 - 1)) for a, w in zip(axes, weights)),
    )


def angle(a: np.ndarray, b: np.ndarray) -> float:
    cosine = abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(cosine, 0, 1))))


def test_single_peaks_are_found_to_a_hundredth_of_a_degree():
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((200, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    made = np.stack([bundle(a[None], np.ones(1)) for a in axes]).astype(np.float32)
    found = find_peaks(made, 3)
    errors = [angle(f[0], a) for f, a in zip(found, axes)]
    assert max(errors) < 0.03  # float32 of the cosine
    assert not found[:, 1:].any()
    top = np.einsum("nc,nc->n", harmonics.evaluate(8, axes), made)
    np.testing.assert_allclose(np.linalg.norm(found[:, 0], axis=1), top, rtol=1e-4)


@pytest.mark.parametrize("between", [60, 75, 90])
def test_crossings_are_found_largest_first(between):
    a = np.array([1.0, 0, 0])
    b = np.array([np.cos(np.radians(between)), np.sin(np.radians(between)), 0])
    found = find_peaks(bundle(np.stack([b, a]), np.array([0.7, 1.0]))[None].astype(np.float32), 3)[
        0
    ]
    assert angle(found[0], a) < 3 and angle(found[1], b) < 5
    assert np.linalg.norm(found[0]) > np.linalg.norm(found[1])
    assert not found[2].any()


def test_nothing_in_an_empty_function():
    assert not find_peaks(np.zeros((3, 45), np.float32)).any()


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """Random functions with many tops."""
    rng = np.random.default_rng(4)
    return rng.standard_normal((500, 45)).astype(np.float32) + np.eye(45, dtype=np.float32)[0]


def test_every_peak_is_a_top(noise):
    """No direction a little to the side is higher."""
    found = measure_peaks(noise, 3)
    rng = np.random.default_rng(0)
    for p in range(3):
        real = found.amplitude[:, p] > 0
        assert real.sum() > 200
        aside = found.directions[real, p] + 0.01 * rng.standard_normal((30, real.sum(), 3))
        near = np.einsum("rvc,vc->rv", harmonics.evaluate(8, aside), noise[real])
        assert (near <= found.amplitude[real, p] * (1 + 1e-5)).all(axis=0).mean() > 0.995
    apart = np.abs((found.directions[:, 0] * found.directions[:, 1]).sum(-1))
    assert (apart <= np.cos(np.radians(25)) + 1e-6).all()


def test_peaks_turn_with_the_function(noise):
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    turned = (noise @ harmonics.rotation_matrix(8, turn).T).astype(np.float32)
    before, after = measure_peaks(noise, 1), measure_peaks(turned, 1)
    aligned = np.abs(((before.directions[:, 0] @ turn.T) * after.directions[:, 0]).sum(-1))
    # Two tops of nearly one height may change places.
    assert (aligned > 1 - 1e-5).mean() > 0.98
    same = np.isclose(before.amplitude[:, 0], after.amplitude[:, 0], rtol=1e-4)
    # A narrow top on the flank of a lower one can hide between the axes of the search.
    assert same.mean() > 0.99


def test_dispersion_is_that_of_the_lobe():
    """exp(-k sin²) falls off like a Gaussian of standard deviation 1 / sqrt(2 k)."""
    for k in (3.0, 5.0, 8.0):
        lobe = harmonics.project(12, lambda u, k=k: np.exp(k * (u[:, 2] ** 2 - 1)))
        found = measure_peaks(lobe[None].astype(np.float32), 1)
        assert found.dispersion[0, 0] == pytest.approx(np.degrees(1 / np.sqrt(2 * k)), rel=0.03)


def test_confidence_comes_from_the_standard_deviation(noise):
    found = measure_peaks(noise, 2, absolute=0.5, std=0.3)
    floor = np.maximum(0.2 * found.amplitude[:, :1], 0.5)
    high = found.amplitude > floor + 0.6
    assert (found.confidence[high] > 0.97).all()
    assert (found.confidence[found.amplitude == 0] == 0).all()
    assert ((found.confidence >= 0.5) | (found.amplitude == 0)).all()
    less = measure_peaks(noise, 2, absolute=0.5, std=np.full(500, 3.0)).confidence
    assert (less <= found.confidence).all() and (less[high] < 0.97).any()
    with pytest.raises(FornixError, match="standard deviations of 7 voxels"):
        measure_peaks(noise, std=np.ones(7))


def test_company_threads_and_bad_voxels_change_nothing(noise):
    whole = find_peaks(noise)
    with use_threads(1):
        np.testing.assert_array_equal(whole[100:], find_peaks(noise[100:]))
    spoiled = noise.copy()
    spoiled[3, 4] = np.nan
    found = find_peaks(spoiled)
    assert not found[3].any()
    np.testing.assert_array_equal(found[4:], whole[4:])
    with pytest.raises(FornixError, match="no even harmonic order"):
        find_peaks(np.ones((2, 7), np.float32))
