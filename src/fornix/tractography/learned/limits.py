"""The policy's limits on a scan whose fibres it knows less well.

How likely a streamline is to be whole was learned on heads made of one atlas: on a real scan almost all
look less likely, and limits that are right there would keep none. What remains is the order among them:
the limits are lowered together until no more than `MOST` of the seeds in white matter are given up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Layers = tuple[Floats, Floats, Floats, Floats, Floats, Floats]

#: Largest share of seeds that is given up as unlikely; on phantoms it is about two thirds.
MOST = 0.65
#: Furthest that the limits go down, and halvings of that until the shift is found, log-odds.
_FURTHEST, _HALVINGS = 8.0, 7
#: Seeds that tell.
PROBE = 4096


@dataclass(frozen=True, eq=False)
class Policy:
    """A network as the tracker runs it, and its limits.

    layers: of the network. sharpness: power to which the distribution over turns is raised before one
    is drawn, 0 for the best. end: a streamline ends where its logit is above this. along, whole: a
    streamline is given up where the logit of being true falls below `along`, or `whole` at an end.
    """

    layers: Layers
    sharpness: float = 1.5
    end: float = 0.0
    along: float = -4.0
    whole: float = -1.0

    def habits(self, scale: float) -> NDArray[np.float64]:
        """As the compiled loop takes them; scale: 1 / the FOD's typical largest amplitude."""
        return np.array([scale, self.sharpness, self.end, self.along, self.whole])


def blank() -> Policy:
    """No network, for the trackers that need none."""
    none, flat = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    return Policy((none, flat, none, flat, none, flat))


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
