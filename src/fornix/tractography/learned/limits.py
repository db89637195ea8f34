"""How the policy's logits are used, and its limits on a scan whose fibres it knows less well.

How likely a streamline is to be a whole fibre was learned on phantoms made of one atlas: on a real scan
almost all look less likely, and limits that are right there would keep none. What remains is the order
among them: the limits are lowered together until no more than `MAX_REJECTED` of the seeds in white
matter are given up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fornix.tractography._kernel_arguments import MlpWeights, PolicyParams

#: Largest share of seeds that is given up as unlikely; on phantoms it is about two thirds.
MAX_REJECTED = 0.65
#: Furthest that the limits go down, log-odds, and halvings of that until the shift is found.
_FURTHEST, _HALVINGS = 8.0, 7
#: Seeds from which the share is estimated.
TRIAL_SEEDS = 4096


@dataclass(frozen=True, eq=False)
class Policy:
    """A network as the tracker runs it, and how its logits are used.

    Attributes:
        mlp: The network's weights.
        sharpness: Power to which the distribution over turns is raised before one is drawn, 0 for the
            likeliest.
        end_logit: A streamline ends where the logit of an end is above this.
        min_true_logit: It is given up where the logit of being true falls below this.
        min_true_logit_at_end: The same where it ends.
    """

    mlp: MlpWeights
    sharpness: float = 1.5
    end_logit: float = 0.0
    min_true_logit: float = -4.0
    min_true_logit_at_end: float = -1.0

    def params(self, *, typical: float) -> PolicyParams:
        """As the compiled kernels take them; typical: the FOD's typical largest amplitude."""
        return PolicyParams(
            1 / typical,
            float(self.sharpness),
            float(self.end_logit),
            float(self.min_true_logit),
            float(self.min_true_logit_at_end),
        )


def no_policy() -> Policy:
    """Empty arrays, for the trackers that need no network."""
    none, flat = np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    return Policy(MlpWeights(none, flat, none, flat, none, flat))


def lower_limits(policy: Policy, rejected: Callable[[Policy], float]) -> tuple[Policy, float]:
    """The policy with limits that suit a scan, and by how much they are lower.

    Args:
        policy: Whose limits are lowered.
        rejected: The share of the scan's seeds that a policy gives up as unlikely, 0 to 1.

    Returns:
        The policy, and the shift in log-odds; 0 where it suits the scan as it is.
    """
    if rejected(policy) <= MAX_REJECTED:
        return policy, 0.0
    low, high = 0.0, _FURTHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if rejected(_shifted(policy, middle)) <= MAX_REJECTED:
            high = middle
        else:
            low = middle
    return _shifted(policy, high), high


def _shifted(policy: Policy, shift: float) -> Policy:
    return replace(
        policy,
        min_true_logit=policy.min_true_logit - shift,
        min_true_logit_at_end=policy.min_true_logit_at_end - shift,
    )
