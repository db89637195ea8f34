"""The verdict follows its measures, one way, and says why."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fornix.preprocess.quality import LIMITS, verdict_of

WORDS = ("accept", "look", "reject")


@pytest.mark.parametrize("limit", LIMITS, ids=lambda v: v.measure)
@given(a=st.floats(0, 200), b=st.floats(0, 200))
def test_worse_measures_never_give_a_better_verdict(limit, a, b):
    better, worse = sorted((a, b), reverse=limit.reject < limit.look)
    one, other = (verdict_of({limit.measure: v}) for v in (better, worse))
    assert WORDS.index(one.word) <= WORDS.index(other.word)
    assert one.score <= other.score + 1e-9


@pytest.mark.parametrize("limit", LIMITS, ids=lambda v: v.measure)
def test_limits_are_where_they_are_said_to_be(limit):
    assert verdict_of({limit.measure: limit.look}).word == "look"
    found = verdict_of({limit.measure: limit.reject})
    assert found.word == "reject"
    assert len(found.reasons) == 1


@given(st.dictionaries(st.sampled_from([v.measure for v in LIMITS]), st.none() | st.just(math.nan)))
def test_what_is_not_known_says_nothing(summary):
    assert verdict_of(summary).word == "accept"


def test_a_wrong_table_is_rejected_whatever_was_measured():
    found = verdict_of({"snr_b0": 40.0}, wrong=["the table is wrong"])
    assert found.word == "reject"
    assert found.reasons == ("the table is wrong",)
