"""The network that tells, voxel by voxel, whether a tract is there; one for all tracts.

It sees no image: only what `evidence` computes of a voxel along the tract's own axis, so it turns with the
head and reads any grid. A few numbers of each tract that it was trained on are added; for others they are
zero, as they are in part of the training, so that it serves tracts that it never saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from fornix.nets import weights
from fornix.tracts.evidence import FEATURES, STATIONS

Array = NDArray[np.float32]

#: Name of its weights.
NAME = "tracts"
_WIDTH, _OWN = 48, 8
#: Share of the network's log-odds where it was not trained on the tract, the rest being the atlas's, and how
#: far above its own the sum may lie.
_STRANGER, _VETO = 0.25, 2.0
#: Threshold of tracts that have none of their own.
_LEVEL = 0.45


class TractNet(nn.Module):
    """Log-odds of being the tract's, from evidence and the tract's number.

    Args:
        tracts: How many have numbers of their own, from 1; 0 stands for any other.
        features: Columns of the evidence.
    """

    middle: torch.Tensor
    size: torch.Tensor

    def __init__(self, tracts: int, features: int = len(FEATURES)) -> None:
        super().__init__()
        self.register_buffer("middle", torch.zeros(features))
        self.register_buffer("size", torch.ones(features))
        self.own = nn.Embedding(tracts + 1, _OWN, padding_idx=0)
        self.own_linear = nn.Embedding(tracts + 1, features + 1, padding_idx=0)
        nn.init.zeros_(self.own.weight)
        nn.init.zeros_(self.own_linear.weight)
        self.shared = nn.Linear(features, 1)
        self.first = nn.Linear(features + _OWN, _WIDTH)
        self.second = nn.Linear(_WIDTH, _WIDTH)
        self.last = nn.Linear(_WIDTH, 1)

    def forward(self, evidence: torch.Tensor, tract: torch.Tensor) -> torch.Tensor:
        """Log-odds (n,) of evidence (n, F) and numbers (n,) of tracts."""
        x = (evidence - self.middle) / self.size
        own = self.own_linear(tract)
        straight = self.shared(x)[:, 0] + (x * own[:, 1:]).sum(1) + own[:, 0]
        return self._bent(self.first(torch.cat([x, self.own(tract)], 1))) + straight

    def of_one(self, evidence: torch.Tensor, tract: int) -> torch.Tensor:
        """As `forward`, all voxels of one tract: its numbers join the biases once."""
        x = (evidence - self.middle) / self.size
        own, linear = self.own.weight[tract], self.own_linear.weight[tract]
        weight = self.first.weight
        first = F.linear(x, weight[:, :-_OWN], self.first.bias + weight[:, -_OWN:] @ own)
        straight = x @ (self.shared.weight[0] + linear[1:]) + self.shared.bias + linear[0]
        return self._bent(first) + straight

    def _bent(self, first: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = F.silu(self.second(F.silu(first)))
        return torch.as_tensor(self.last(hidden)[:, 0])


@dataclass(frozen=True, eq=False)
class Usual:
    """What is usual of a tract, measured on heads left out of the training.

    Attributes:
        threshold: Probability above which a voxel is the tract's.
        atlas_threshold: The same for the atlas's share alone.
        volume_error: Relative standard deviation of the expected volume.
        support: Mean of `support_of` over heads that have the tract whole.
        support_spread: Its standard deviation.
        left: (STATIONS,) mean of `left_of` over heads that have the tract whole.
        left_spread: (STATIONS,) its standard deviation.
    """

    threshold: float
    atlas_threshold: float
    volume_error: float
    support: float
    support_spread: float
    left: Array
    left_spread: Array


@dataclass(frozen=True, eq=False)
class TractModel:
    """The network, and what is usual of the tracts that it was trained on.

    Attributes:
        net: The network.
        usual: By tract, in the order of its numbers.
        label: Name and hash of the weights.
    """

    net: TractNet
    usual: Mapping[str, Usual]
    label: str = ""

    @cached_property
    def number(self) -> dict[str, int]:
        """Of each tract, from 1."""
        return {name: i + 1 for i, name in enumerate(self.usual)}

    def probability(self, name: str, evidence: Array) -> Array:
        """(n,) of each voxel of a tract, from `evidence` (n, F).

        Of tracts that it was not trained on the network is less sure than it says: the atlas has most of
        the say, but where the network is certain that there is nothing, as in a cavity, there is nothing.
        """
        with torch.inference_mode():
            odds = self.net.of_one(torch.from_numpy(evidence), self.number.get(name, 0))
            if name not in self.usual:
                usual = torch.from_numpy(evidence[:, FEATURES.index("usual place")])
                mixed = _STRANGER * odds + (1 - _STRANGER) * usual
                odds = torch.minimum(mixed, odds + _VETO)
            return np.asarray(torch.sigmoid(odds).numpy())

    def threshold_of(self, name: str) -> float:
        """Probability above which a voxel counts as the tract's."""
        return self.usual[name].threshold if name in self.usual else _LEVEL


def groups_of(model: TractModel) -> dict[str, dict[str, torch.Tensor]]:
    """What the file of weights holds of a model."""
    rows = [
        np.r_[u.threshold, u.atlas_threshold, u.volume_error, u.support, u.support_spread, u.left,
              u.left_spread]
        for u in model.usual.values()
    ]  # fmt: skip
    table = torch.from_numpy(np.stack(rows).astype(np.float32))
    return {"net": dict(model.net.state_dict()), "usual": {"table": table}}


@lru_cache(maxsize=1)
def load_model() -> TractModel:
    """The model that ships."""
    loaded = weights.load(NAME)
    names: list[str] = loaded.about["tracts"]
    table = loaded.groups["usual"]["table"].numpy()
    usual = {name: _usual(row) for name, row in zip(names, table)}
    return TractModel(weights.fill(TractNet(len(names)), loaded), usual, loaded.label)


def _usual(row: Array) -> Usual:
    one, two, three, four, five = (round(float(v), 6) for v in row[:5])
    return Usual(one, two, three, four, five, row[5 : 5 + STATIONS], row[5 + STATIONS :])
