"""The policy: a small network that is shown the FOD around and the path so far, and says where to go.

Learning to track from true streamlines follows Poulin et al. (MICCAI 2017; Magnetic Resonance Imaging
2019). What differs here: a frame that moves with the streamline (`_policy_kernels`), a distribution over
turns, an end, and whether the streamline is likely to be a whole fibre of the brain.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import nn

from fornix.nets import weights
from fornix.tractography._kernel_arguments import MlpWeights
from fornix.tractography.learned._policy_kernels import FEATURES, OUTPUTS
from fornix.tractography.learned.limits import Policy

NAME = KIND = "policy"
WIDTH = 96


class PolicyNetwork(nn.Module):
    """From observations (n, FEATURES) to logits (n, OUTPUTS): each turn, an end, being true.

    Args:
        width: Of the two hidden layers.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("std", torch.ones(FEATURES))
        self.first = nn.Linear(FEATURES, width)
        self.second = nn.Linear(width, width)
        self.third = nn.Linear(width, OUTPUTS)

    def standardise(self, features: torch.Tensor) -> None:
        """Take mean and scale of the inputs from these, (n, FEATURES)."""
        self.mean.copy_(features.mean(0))
        self.std.copy_(features.std(0).clamp(min=0.02))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, OUTPUTS)`` in the states ``(n, FEATURES)``."""
        hidden = self.first((features - self.mean) / self.std).relu()
        out: torch.Tensor = self.third(self.second(hidden).relu())
        return out

    @torch.no_grad()
    def mlp_weights(self) -> MlpWeights:
        """The three layers as the compiled tracker takes them, scale and mean folded in."""
        scaled = self.first.weight / self.std
        arrays = [scaled.T, self.first.bias - scaled @ self.mean]
        for layer in (self.second, self.third):
            arrays += [layer.weight.T, layer.bias]
        return MlpWeights(*(np.ascontiguousarray(a.numpy(), dtype=np.float32) for a in arrays))


@lru_cache(maxsize=2)
def shipped(*, best: bool = False) -> Policy:
    """The policy that ships.

    Args:
        best: It takes the likeliest turn and does not draw one.

    Raises:
        FornixError: Its weights are damaged or of another version.
    """
    stored = weights.load(NAME)
    network = weights.fill(PolicyNetwork(stored.about["recipe"]["width"]), stored)
    params = dict(stored.about["params"])
    if best:
        params["sharpness"] = 0.0
    return Policy(network.mlp_weights(), **params)
