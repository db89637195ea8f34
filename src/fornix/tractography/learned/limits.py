"""The policy's limits on a scan whose fibres it knows less well.

How likely a streamline is to be whole was learned on heads made of one atlas: on a real scan almost all
look less likely, and limits that are right there would keep none. What remains is the order among them:
the limits are lowered together until no more than `MOST` of the seeds in white matter are given up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fornix.tractography.learned.policy import Policy

#: Largest share of seeds that is given up as unlikely; on phantoms it is about two thirds.
MOST = 0.65
#: Furthest that the limits go down, and halvings of that until the shift is found, log-odds.
_FURTHEST, _HALVINGS = 8.0, 7
#: Seeds that tell.
PROBE = 4096


def lowered(policy: Policy, given_up: Callable[[Policy], float]) -> tuple[Policy, float]:
    """The policy with limits that suit a scan, and by how much they are lower.

    given_up: the share of the scan's seeds that a policy gives up as unlikely.
    """
    if given_up(policy) <= MOST:
        return policy, 0.0
    low, high = 0.0, _FURTHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if given_up(_by(policy, middle)) <= MOST:
            high = middle
        else:
            low = middle
    return _by(policy, high), high


def _by(policy: Policy, shift: float) -> Policy:
    return replace(policy, along=policy.along - shift, whole=policy.whole - shift)
