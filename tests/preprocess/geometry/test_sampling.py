"""Splines go through their voxels, and their slopes are those of the values."""

from __future__ import annotations

import numpy as np

from fornix.preprocess.geometry._sampling import spline, value, value_and_slope


def test_voxels_come_back_and_slopes_are_differences():
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((9, 7, 8)).astype(np.float32)
    coefficients = spline(volume)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij"), -1)
    back = value(coefficients, index.reshape(-1, 3).astype(np.float32))
    np.testing.assert_allclose(back.reshape(volume.shape), volume, atol=1e-5)
    points = rng.uniform(1, 5, (200, 3)).astype(np.float32)
    found = value_and_slope(coefficients, points)
    np.testing.assert_allclose(found[:, 0], value(coefficients, points), atol=1e-5)
    for axis in range(3):
        step = np.zeros(3, np.float32)
        step[axis] = 0.01
        change = value(coefficients, points + step) - value(coefficients, points - step)
        np.testing.assert_allclose(found[:, 1 + axis], change / 0.02, atol=0.01)


def test_outside_is_nothing():
    coefficients = spline(np.ones((5, 5, 5), np.float32))
    far = np.array([[-0.6, 2, 2], [2, 4.6, 2], [2, 2, 2]], np.float32)
    np.testing.assert_allclose(value(coefficients, far), [0, 0, 1], atol=1e-6)
    assert np.isnan(value_and_slope(coefficients, far)[:2]).all()
