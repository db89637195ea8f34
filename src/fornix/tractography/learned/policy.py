"""The policy: a small network that is shown the FOD around and the path so far, and says where to go.

Learning to track from true streamlines follows Poulin et al. (MICCAI 2017; Magnetic Resonance Imaging
2019); what is seen and said here differs: a frame that goes with the streamline (_policy_kernels.py), a
distribution over turns, an end, and whether the streamline is likely to be a whole fibre of the brain.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import nn

from fornix.nets import weights
from fornix.tractography.learned._policy_kernels import FEATURES, OUTPUTS
from fornix.tractography.learned.limits import Layers, Policy

NAME = KIND = "policy"
WIDTH = 96


class PolicyNetwork(nn.Module):
    """From what is seen, (n, FEATURES), to logits (n, OUTPUTS): each turn, an end, being true."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("std", torch.ones(FEATURES))
        self.first = nn.Linear(FEATURES, width)
        self.second = nn.Linear(width, width)
        self.third = nn.Linear(width, OUTPUTS)

    def standardise(self, seen: torch.Tensor) -> None:
        """Take the scale of the inputs from these, (n, FEATURES)."""
        self.mean.copy_(seen.mean(0))
        self.std.copy_(seen.std(0).clamp(min=0.02))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, OUTPUTS)`` in the states ``(n, FEATURES)``."""
        hidden = self.first((seen - self.mean) / self.std).relu()
        out: torch.Tensor = self.third(self.second(hidden).relu())
        return out

    @torch.no_grad()
    def layers(self) -> Layers:
        """Weights (inputs, outputs) and biases of the three layers, scale and mean folded in."""
        scaled = self.first.weight / self.std
        bias = self.first.bias - scaled @ self.mean
        made = [scaled.T, bias]
        for layer in (self.second, self.third):
            made += [layer.weight.T, layer.bias]
        a, b, c, d, e, f = (np.ascontiguousarray(m.numpy(), dtype=np.float32) for m in made)
        return a, b, c, d, e, f


@lru_cache(maxsize=2)
def shipped(best: bool = False) -> Policy:
    """The policy that ships. best: takes the likeliest turn and does not draw one.

    Raises FornixError where its weights are damaged or of another version.
    """
    found = weights.load(NAME)
    network = weights.fill(PolicyNetwork(found.about["recipe"]["width"]), found)
    habits = dict(found.about["habits"])
    if best:
        habits["sharpness"] = 0.0
    return Policy(network.layers(), **habits)
