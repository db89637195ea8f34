"""Slices that lost signal are told from those beside them that only share a part of the loss."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.preprocess.geometry.lost_slices import lost_slices

SLICES, PLACES = 40, 12_000


def read(lost: dict[int, list[int]], volumes: int = 12, seed: int = 0, noise: float = 0.1):
    """Signals at places between slices: what is read there is shared by both, linearly."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(-0.5, SLICES - 0.5, (volumes, PLACES)).astype(np.float32)
    left = np.ones((volumes, SLICES))
    for volume, slices in lost.items():
        left[volume, slices] = 0.4
    below = np.clip(np.floor(at).astype(int), 0, SLICES - 1)
    above = np.clip(below + 1, 0, SLICES - 1)
    share = np.clip(at - below, 0, 1)
    rows = np.arange(volumes)[:, None]
    part = (1 - share) * left[rows, below] + share * left[rows, above]
    target = np.ones_like(at)
    return (part + rng.normal(0, noise, at.shape)).astype(np.float32), target, at


@pytest.mark.parametrize(
    "lost",
    [
        {},
        {3: [20]},
        {3: [20, 21]},
        {3: [5, 15, 25, 35]},
        {0: [0], 11: [39]},
        {2: list(range(10, 18))},
    ],
    ids=["none", "one", "two beside", "multiband", "at the ends", "a block"],
)
def test_lost_slices_and_no_others(lost):
    signal, target, at = read(lost)
    expected = np.zeros((len(signal), SLICES), bool)
    for volume, slices in lost.items():
        expected[volume, slices] = True
    score, found = lost_slices(signal, target, at, SLICES)
    np.testing.assert_array_equal(found, expected)
    assert (score[found] < 0).all()


def test_bright_slices_are_found_as_well():
    signal, target, at = read({})
    near = np.rint(at[4]) == 12
    signal[4, near] *= 1.6
    score, found = lost_slices(signal, target, at, SLICES)
    assert list(zip(*np.nonzero(found))) == [(4, 12)]
    assert score[4, 12] > 6


def test_a_volume_without_a_prediction_is_not_judged():
    signal, target, at = read({3: [20]})
    target[3] = 0
    score, found = lost_slices(signal, target, at, SLICES)
    assert not found.any()
    assert not score[3].any()


def test_a_whole_volume_of_another_level_is_no_lost_slice():
    signal, target, at = read({})
    signal[5] *= 0.7
    assert not lost_slices(signal, target, at, SLICES)[1].any()
