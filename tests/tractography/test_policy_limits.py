"""The limits go down no further than the scan needs."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.tractography.learned.limits import MAX_REJECTED, Policy, lower_limits, no_policy


def scan(middle: float):
    """The share rejected where streamlines are as likely as a logistic law about `middle` says."""
    calls = []

    def rejected(policy: Policy) -> float:
        calls.append(policy)
        return float(1 / (1 + np.exp(-2 * (policy.min_true_logit - middle))))

    return rejected, calls


def test_a_scan_like_the_training_is_left_alone() -> None:
    rejected, calls = scan(middle=0.0)
    policy = no_policy()
    assert lower_limits(policy, rejected) == (policy, 0.0) and len(calls) == 1


@pytest.mark.parametrize("middle", [-5.0, -6.5, -8.0])
def test_no_lower_than_needed(middle: float) -> None:
    rejected, _ = scan(middle)
    policy = no_policy()
    found, shift = lower_limits(policy, rejected)
    assert shift > 0
    assert (
        found.min_true_logit == policy.min_true_logit - shift
        and found.min_true_logit_at_end == policy.min_true_logit_at_end - shift
    )
    assert (
        rejected(found)
        <= MAX_REJECTED
        < rejected(Policy(policy.mlp, min_true_logit=found.min_true_logit + 0.1))
    )


def test_there_is_an_end_to_it() -> None:
    found, shift = lower_limits(no_policy(), lambda policy: 1.0)
    assert shift == 8.0 and found.min_true_logit == no_policy().min_true_logit - 8.0
