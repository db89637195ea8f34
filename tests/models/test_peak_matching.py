"""Directions and true axes are paired as an optimal assignment pairs them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from fornix.models.peak_matching import match


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_pairs_are_those_of_the_hungarian_method() -> None:
    rng = np.random.default_rng(0)
    found, axes = _unit(rng.standard_normal((200, 4, 3))), _unit(rng.standard_normal((200, 3, 3)))
    found[rng.random((200, 4)) < 0.3] = 0
    real = rng.random((200, 3)) < 0.7
    angle, partner = match(found, axes, real, 45.0)
    for i in range(200):
        f, t = np.flatnonzero(found[i].any(1)), np.flatnonzero(real[i])
        degrees = np.degrees(np.arccos(np.clip(np.abs(axes[i, t] @ found[i, f].T), 0, 1)))
        rows, columns = linear_sum_assignment(np.minimum(degrees, 45))
        kept = degrees[rows, columns] < 45
        assert np.nansum(angle[i]) == pytest.approx(degrees[rows, columns][kept].sum(), abs=1e-3)
        assert (partner[i] >= 0).sum() == kept.sum()


def test_known_cases() -> None:
    x, y, z = np.eye(3)
    tilted = _unit(np.array([1.0, 0.1, 0.0]))
    angle, partner = match(
        np.array([[y, -tilted, 0 * x]]), np.array([[x, y, z]]), np.array([[True, True, True]])
    )
    assert partner.tolist() == [[1, 0, -1]]
    np.testing.assert_allclose(angle[0, :2], [np.degrees(np.arctan(0.1)), 0], atol=1e-2)
    assert np.isnan(angle[0, 2])
