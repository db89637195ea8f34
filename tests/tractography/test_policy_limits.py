"""The limits go down just as far as the scan asks for."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.tractography.learned.limits import MOST, Policy, blank, lowered


def scan(middle: float):
    """The share given up where streamlines are as likely as a logistic law about `middle` says."""
    asked = []

    def given_up(policy: Policy) -> float:
        asked.append(policy)
        return float(1 / (1 + np.exp(-2 * (policy.along - middle))))

    return given_up, asked


def test_a_scan_like_the_training_is_left_alone() -> None:
    given_up, asked = scan(middle=0.0)
    policy = blank()
    assert lowered(policy, given_up) == (policy, 0.0) and len(asked) == 1


@pytest.mark.parametrize("middle", [-5.0, -6.5, -8.0])
def test_no_lower_than_needed(middle: float) -> None:
    given_up, _ = scan(middle)
    policy = blank()
    found, shift = lowered(policy, given_up)
    assert shift > 0
    assert found.along == policy.along - shift and found.whole == policy.whole - shift
    assert given_up(found) <= MOST < given_up(Policy(policy.layers, along=found.along + 0.1))


def test_there_is_an_end_to_it() -> None:
    found, shift = lowered(blank(), lambda policy: 1.0)
    assert shift == 8.0 and found.along == blank().along - 8.0
