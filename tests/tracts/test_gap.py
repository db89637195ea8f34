"""Stretches of which little is left are found where they are, and nowhere else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fornix.tracts.evidence import STATIONS
from fornix.tracts.gap import find_gap

USUAL = np.full(STATIONS, 0.9, np.float32)
SPREAD = np.full(STATIONS, 0.08, np.float32)
NONE = np.zeros(STATIONS, np.float32)
#: ml a station
MUCH = np.full(STATIONS, 2.0, np.float32)


@given(st.integers(0, STATIONS - 1), st.integers(1, STATIONS), st.floats(0, 0.1), st.floats(0, 1))
def test_a_lost_stretch_is_told_with_what_is_left(
    begin: int, length: int, left: float, fluid: float
) -> None:
    end = min(begin + length, STATIONS)
    share, filled = USUAL.copy(), NONE.copy()
    share[begin:end], filled[begin:end] = left * USUAL[0], fluid
    gap = find_gap(share, USUAL, SPREAD, MUCH, filled)
    assert gap is not None
    assert (gap.low, gap.high) == (begin / STATIONS, end / STATIONS)
    assert np.isclose(gap.left, left, atol=1e-5) and np.isclose(gap.fluid, fluid, atol=1e-5)
    assert ("fluid is there" in str(gap)) == (gap.fluid > 0.5)


@given(st.lists(st.floats(0.45, 1.6), min_size=STATIONS, max_size=STATIONS))
def test_a_thin_or_thick_tract_is_whole(shares: list[float]) -> None:
    assert find_gap(np.array(shares, np.float32) * USUAL, USUAL, SPREAD, MUCH, NONE) is None


def test_what_was_not_scanned_or_is_seldom_seen_is_not_judged() -> None:
    share = USUAL.copy()
    share[:4] = np.nan
    assert find_gap(share, USUAL, SPREAD, MUCH, NONE) is None
    rare = USUAL.copy()
    rare[5] = 0.1
    share = USUAL.copy()
    share[5] = 0
    assert find_gap(share, rare, SPREAD, MUCH, NONE) is None
    # Where whole tracts differ much, a low value says little.
    wide = SPREAD.copy()
    wide[5] = 0.5
    assert find_gap(share, USUAL, wide, MUCH, NONE) is None


def test_a_stretch_of_a_few_voxels_is_not_judged() -> None:
    share = USUAL.copy()
    share[4:6] = 0
    assert find_gap(share, USUAL, SPREAD, np.full_like(MUCH, 0.2), NONE) is None
    assert find_gap(share, USUAL, SPREAD, np.full_like(MUCH, 0.4), NONE) is not None


def test_the_longest_of_two_stretches_is_told() -> None:
    share = USUAL.copy()
    share[1:2], share[6:9] = 0, 0
    gap = find_gap(share, USUAL, SPREAD, MUCH, NONE)
    assert gap is not None
    assert str(gap).startswith("interrupted from 50 to 75% of its course: 0% of the usual is left")
