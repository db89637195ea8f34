"""The network that judges streamlines: small, the same for a streamline and its reverse."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fornix.core.compute import blocks, use_threads
from fornix.nets import weights
from fornix.tractography.filtering.features import ALONG, WHOLE, Features

NAME = "plausibility"
#: In `about["recipe"]` of the weights.
KIND, WIDTH = "plausibility", 24


class Plausibility(nn.Module):
    """From features to a logit, (n,): convolutions along the streamline, then a perceptron.

    A streamline has no first end: the logit is the mean over both ways round, so that turning it
    changes nothing.

    Args:
        width: Channels of the convolutions.
    """

    along_mean: torch.Tensor
    along_std: torch.Tensor
    whole_mean: torch.Tensor
    whole_std: torch.Tensor

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.register_buffer("along_mean", torch.zeros(len(ALONG)))
        self.register_buffer("along_std", torch.ones(len(ALONG)))
        self.register_buffer("whole_mean", torch.zeros(len(WHOLE)))
        self.register_buffer("whole_std", torch.ones(len(WHOLE)))
        self.course = nn.Sequential(
            nn.Conv1d(len(ALONG), width, 5, padding=2), nn.SiLU(),
            nn.Conv1d(width, width, 5, padding=2), nn.SiLU(),
            nn.Conv1d(width, width, 5, padding=2), nn.SiLU(),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Linear(3 * width + len(WHOLE), 64), nn.SiLU(), nn.Linear(64, 32), nn.SiLU(),
            nn.Linear(32, 1),
        )  # fmt: skip

    def standardise(self, features: Features) -> None:
        """Take mean and scale of the inputs from these."""
        along = torch.as_tensor(features.along).flatten(0, 1)
        whole = torch.as_tensor(features.whole)
        for name, values in (("along", along), ("whole", whole)):
            getattr(self, f"{name}_mean").copy_(values.mean(0))
            getattr(self, f"{name}_std").copy_(values.std(0).clamp(min=1e-3))

    def forward(self, along: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """The logit of plausibility ``(n,)``, the same from either end."""
        along = ((along - self.along_mean) / self.along_std).transpose(1, 2)
        whole = (whole - self.whole_mean) / self.whole_std
        if self.training:  # one way round, drawn: half the work, the same on average
            turned = torch.rand(len(along)) < 0.5
            return self._one_way(torch.where(turned[:, None, None], along.flip(2), along), whole)
        return 0.5 * (self._one_way(along, whole) + self._one_way(along.flip(2), whole))

    def _one_way(self, along: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        hidden = self.course(along)
        pooled = [hidden.mean(2), hidden.amax(2), hidden.amin(2)]
        logit: torch.Tensor = self.head(torch.cat([*pooled, whole], 1))[:, 0]
        return logit


def judge(
    features: Features, *, network: nn.Module | None = None, threads: int | None = None
) -> NDArray[np.float32]:
    """Plausibility: the share of true ones among such streamlines of the training subjects.

    Args:
        features: Of S streamlines.
        network: The one that ships if not given.
        threads: Threads in use; as they are if not given.

    Returns:
        (S,) 0 to 1.
    """
    model = shipped() if network is None else network
    out = np.empty(len(features.whole), np.float32)
    with use_threads(threads), torch.inference_mode():
        for part in blocks(len(out), 8192):
            along, whole = features.along[part], features.whole[part]
            logit = model(torch.as_tensor(along), torch.as_tensor(whole))
            out[part] = torch.sigmoid(logit).numpy()
    return out


def shipped(name: str = NAME) -> nn.Module:
    """The network that ships.

    Raises:
        FornixError: Its weights are damaged or of another version.
    """
    stored = weights.load(name)
    return weights.fill(Plausibility(stored.about["recipe"]["width"]), stored)
