"""The equivariant network: a perceptron on the invariants whose outputs weight the covariants.

Scalars come from invariants alone, so they cannot change with rotation; tensors, directions and
signals are sums of quantities that turn with the head, with invariant weights. Nothing has to be
learned from rotated examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fornix.nets.features import (
    MicrostructureFeatures,
    joined,
    microstructure_features,
    more_size,
    order2_to_six,
    size,
)
from fornix.nets.scan_encoder import ScanEncoder
from fornix.nets.targets import ANCHORED, METRICS, linked, mixed
from fornix.qspace.prior import SignalPrior, default_prior

#: Covariant tensors beside the order-2 features: two axes and the last view's fitted tensor without its
#: trace. The voxel's own fit stands apart.
_FIT_AND_AXES = 3


@dataclass(eq=False)  # not frozen: Fabric wraps what passes through a network
class MicrostructurePrediction:
    """What a network says of n voxels.

    Attributes:
        mean: (n, M) of `targets.METRICS`, µm²/ms, before `targets.possible`.
        std: See `mean`.
        tensor: (n, 6) mean diffusion tensor Dxx Dyy Dzz Dxy Dxz Dyz, µm²/ms
        tensor_std: (n,) of each element.
        dyad: (n, 6) mean of v1 v1ᵀ; its first eigenvector is the direction, its first eigenvalue the
            mean squared cosine to the true one.
        z: (n, F) features of the signal without noise, for `Encoder.predict`.
    """

    mean: torch.Tensor
    std: torch.Tensor
    tensor: torch.Tensor
    tensor_std: torch.Tensor
    dyad: torch.Tensor
    z: torch.Tensor


class Trunk(nn.Module):
    """Residual perceptron: (n, size), and `known` numbers of the whole scan, -> (n, width)."""

    def __init__(self, size: int, width: int, depth: int, known: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(size, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())
            for _ in range(depth)
        )
        self.last = nn.LayerNorm(width)
        self.scan = nn.Linear(known, width * (depth + 1)) if known else None
        if self.scan is not None:
            nn.init.zeros_(self.scan.weight)
            nn.init.zeros_(self.scan.bias)

    def forward(self, x: torch.Tensor, scan: torch.Tensor | None = None) -> torch.Tensor:
        """From ``(n, size)``, and what is ``known`` of the scan, to ``(n, width)``."""
        x = self.first(x)
        shifts = x.new_zeros(len(self.blocks) + 1, 1)
        if self.scan is not None:
            assert scan is not None
            shifts = self.scan(scan).unflatten(0, (len(self.blocks) + 1, -1))
        x = nn.functional.silu(x + shifts[0])
        for block, shift in zip(self.blocks, shifts[1:]):
            x = x + block(x + shift)
        made: torch.Tensor = self.last(x)
        return made


class MicrostructureNet(nn.Module):
    """From `Features` to an `MicrostructurePrediction`.

    Args:
        sources: Views of a voxel, 1 for itself alone, one more for each average of its neighbourhood.
        width: Of the perceptron
        depth: See `width`.
        prior: That of the encoder.
    """

    reads = staticmethod(microstructure_features)

    def __init__(
        self, width: int = 256, depth: int = 4, sources: int = 1, prior: SignalPrior | None = None
    ) -> None:
        super().__init__()
        counts = [len(f) for f in (prior or default_prior()).factors]
        self.counts = counts
        read = size(sources, prior) + more_size(sources, prior)
        self.scan_encoder = ScanEncoder(read)
        self.trunk = Trunk(read, width, depth, self.scan_encoder.places)
        self.scalars = nn.Linear(width, 2 * len(METRICS))
        tensors = counts[1] + _FIT_AND_AXES
        self.tensor = nn.Linear(width, tensors + 3)
        self.dyad = nn.Linear(width, tensors + 1)
        # Mixes of each order's factors, of the axes, and of what the tensor's signal has more.
        mixes = [k * (k + 3) for k in counts[1:]]
        self.signal = nn.Linear(width, counts[0] + sum(mixes) + sum(k * k for k in counts))
        self.anchor = nn.Linear(width, sources * ANCHORED)
        for head in (self.scalars, self.tensor, self.dyad, self.signal, self.anchor):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def forward(self, seen: MicrostructureFeatures, scan: torch.Tensor) -> MicrostructurePrediction:
        """scan: what is known of the whole scan, `ScanEncoder`'s (P,), or invariants (k, `size()`) of
        some of its voxels.
        """
        known = self.scan_encoder(scan) if scan.ndim == 2 else scan
        hidden = self.trunk(seen.invariants, known)
        raw, log_std = self.scalars(hidden).unflatten(1, (-1, 2)).unbind(2)
        anchor, anchor_std = mixed(seen.anchor, seen.anchor_std, self.anchor(hidden))
        mean, std = linked(raw, log_std, anchor, anchor_std)

        isotropic = torch.tensor([1.0, 1, 1, 0, 0, 0]).to(seen.tensor)
        trace, fitted = _parted(seen.tensor, isotropic)
        own_trace, own_fitted = _parted(seen.own_tensor, isotropic)
        shapes = torch.cat(
            [
                order2_to_six(seen.blocks[1]) * 0.5,
                order2_to_six(seen.axes[0][:, [0, 2]]),
                fitted[:, None],
            ],
            1,
        )
        count = shapes.shape[1]
        weights = self.tensor(hidden)
        own = weights[:, -1:]
        # The last shape is the fit itself, kept unless the network takes from it.
        kept = torch.cat([torch.zeros_like(weights[:, : count - 1]), torch.ones_like(trace)], 1)
        tensor = ((weights[:, :count] + kept)[..., None] * shapes).sum(1)
        tensor = tensor + (trace + weights[:, count : count + 1]) * isotropic
        tensor = tensor + own * (own_fitted - fitted + (own_trace - trace) * isotropic)
        tensor_std = 0.3 * torch.exp(weights[:, count + 1].clamp(-5, 3)) + 1e-3
        weights = self.dyad(hidden)
        dyad = (weights[:, :count, None] * shapes).sum(1) + isotropic / 3
        dyad = dyad + weights[:, count:] * own_fitted

        return MicrostructurePrediction(
            mean, std, tensor, tensor_std, dyad, self._signal(hidden, seen)
        )

    def _signal(self, hidden: torch.Tensor, seen: MicrostructureFeatures) -> torch.Tensor:
        weights = self.signal(hidden)
        made = [seen.blocks[0] + weights[:, : self.counts[0], None]]
        start = self.counts[0]
        for i, k in enumerate(self.counts[1:]):
            mix = weights[:, start : start + k * k].unflatten(1, (k, k))
            axes = weights[:, start + k * k : start + k * k + 3 * k].unflatten(1, (k, 3))
            block = seen.blocks[i + 1]
            made.append(block + mix @ block + axes @ seen.axes[i])
            start += k * k + 3 * k
        for i, k in enumerate(self.counts):
            mix = weights[:, start : start + k * k].unflatten(1, (k, k))
            made[i] = made[i] + mix @ (seen.tensor_blocks[i] - seen.blocks[i])
            start += k * k
        return joined(made)


def _parted(tensor: torch.Tensor, isotropic: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A third of the trace (n, 1) of tensors (n, 6), and the rest."""
    trace = tensor[:, :3].mean(1, keepdim=True)
    return trace, tensor - trace * isotropic
