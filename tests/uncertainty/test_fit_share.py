"""Which share of the fit leaves the least error."""

from __future__ import annotations

import numpy as np
import torch

from fornix.uncertainty.conformal import COUNT
from fornix.uncertainty.fit_share import SHARES, FitShare


def products(
    network: float, fit: float, count: int = 20_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """What `FitShare.fit` asks for, of independent errors of these sizes."""
    rng = np.random.default_rng(seed)
    own = network * rng.standard_normal((count, SHARES))  # estimate minus truth
    other = fit * rng.standard_normal((count, SHARES))
    return -own * (other - own), (other - own) ** 2


def test_independent_errors_are_weighted_by_precision():
    error, apart = products(0.02, 0.01)
    stratum, near = np.zeros(len(error), dtype=np.int64), np.ones(len(error), dtype=bool)
    made = FitShare.fit(error, apart, stratum, near)
    np.testing.assert_allclose(made.table[0, 1], 0.8, atol=0.02)


def test_a_fit_that_only_adds_noise_keeps_no_share():
    rng = np.random.default_rng(0)
    own = 0.01 * rng.standard_normal((20_000, SHARES))
    noise = 0.05 * rng.standard_normal(own.shape)  # the fit has the estimate's error and more
    stratum = np.zeros(len(own), dtype=np.int64)
    made = FitShare.fit(-own * noise, noise**2, stratum, np.zeros(len(own), dtype=bool))
    np.testing.assert_allclose(made.table[0, 0], 0, atol=0.02)


def test_strata_have_their_own_and_empty_ones_all_of_them():
    few, many = products(0.01, 0.1), products(0.1, 0.01, seed=1)
    error, apart = (np.concatenate(v) for v in zip(few, many, strict=True))
    stratum = np.repeat([3, 8], 20_000)
    made = FitShare.fit(error, apart, stratum, np.ones(len(error), dtype=bool))
    assert (made.of(np.array([3]), True) < 0.05).all()
    assert (made.of(np.array([8]), True) > 0.95).all()
    between = made.of(np.array([5]), True)
    assert ((between > 0.05) & (between < 0.95)).all()
    assert (made.of(np.arange(COUNT), False) == 0).all()  # nothing was seen of other b-values


def test_it_comes_back_from_its_tensors():
    made = FitShare(np.random.default_rng(0).random((COUNT, 2, SHARES)).astype(np.float32))
    again = FitShare.from_state(made.state())
    stratum = np.arange(7)
    torch.testing.assert_close(again.of(stratum, True), made.of(stratum, True))
