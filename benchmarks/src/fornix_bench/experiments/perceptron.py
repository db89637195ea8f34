"""The simple perceptron: voxel by voxel, from the encoder's features straight to the metrics.

The first thing one would try, for `fornix experiment mlp-dti6`. It knows nothing of rotations: it has
to learn them from turned examples. What it says is possible whatever it is shown: metrics stay in
their ranges, the tensor is positive definite by its Cholesky factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from fornix.nets.encoding import PROTOCOL_SIZE, EncodedVoxels, ProtocolEncoder
from fornix.nets.microstructure_net import Trunk
from fornix.nets.targets import METRICS, SMALLEST_STD, spread, upper
from fornix.qspace.prior import SignalPrior, default_prior

#: Where outputs start, as shares of their largest value: about the mean of each over tissue.
_START = (0.3, 0.22, 0.22, 0.18, 0.15, 0.12, 0.1, 0.4, 0.5, 0.3, 0.1, 0.1)
#: Largest element of the Cholesky factor, so that a tensor's diagonal stays below 3 * 3.24 µm²/ms.
_LONGEST = 1.8
#: Smallest eigenvalue of a tensor, µm²/ms.
_SMALLEST = 1e-3
_NOISE_INPUTS = 3


@dataclass(eq=False)  # not frozen: Fabric wraps what passes through a network
class Guess:
    """What the perceptron says of n voxels.

    mean, std: (n, M) of `targets.METRICS`, µm²/ms. tensor: (n, 6) Dxx Dyy Dzz Dxy Dxz Dyz, µm²/ms,
    positive definite; tensor_std: (n,) of each element.
    """

    mean: torch.Tensor
    std: torch.Tensor
    tensor: torch.Tensor
    tensor_std: torch.Tensor


def size(prior: SignalPrior | None = None) -> int:
    """Number of inputs: the encoder's features, three numbers on noise, the protocol."""
    return (prior or default_prior()).size + _NOISE_INPUTS + PROTOCOL_SIZE


def inputs(encoder: ProtocolEncoder, seen: EncodedVoxels) -> torch.Tensor:
    """(n, `size()`) of order 1: posterior mean of the features z, noise, protocol."""
    z = encoder.qspace.shrink(seen.projected, seen.sigma).z
    noise = [
        torch.log(seen.sigma / 0.05),
        torch.log(seen.s0_std.clamp(min=1e-3) / 0.03),
        torch.log(seen.misfit.clamp(0.05, 20.0)),
    ]
    return torch.cat([z, torch.stack(noise, 1), encoder.protocol.expand(len(z), -1)], 1)


class Perceptron(nn.Module):
    """From (n, size) inputs to a `Guess`. width, depth: of the residual perceptron."""

    def __init__(self, size: int, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.trunk = Trunk(size, width, depth)
        self.scalars = nn.Linear(width, 2 * len(METRICS))
        self.tensor = nn.Linear(width, 7)
        for head in (self.scalars, self.tensor):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
        with torch.no_grad():
            self.scalars.bias[: len(METRICS)] = torch.tensor(
                [math.log(s / (1 - s)) for s in _START]
            )

    def forward(self, x: torch.Tensor) -> Guess:
        hidden = self.trunk(x)
        raw, log_std = self.scalars(hidden).chunk(2, 1)
        weights = self.tensor(hidden)
        tensor_std = 0.3 * torch.exp(weights[:, 6].clamp(-5, 3)) + 1e-3
        return Guess(*ranged(raw, log_std), cholesky(weights[:, :6]), tensor_std)


def ranged(raw: torch.Tensor, log_std: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means from 0 to their largest values and positive standard deviations, from any (n, M)."""
    scale = spread(raw)
    mean = upper(raw) * torch.sigmoid(raw)
    return mean, scale * torch.exp(log_std.clamp(-5, 2)) + SMALLEST_STD * scale


def cholesky(raw: torch.Tensor) -> torch.Tensor:
    """Positive-definite tensors (n, 6) xx yy zz xy xz yz from any numbers (n, 6)."""
    a, b, c = (_LONGEST * torch.sigmoid(raw[:, :3])).unbind(1)
    d, e, f = (_LONGEST * torch.tanh(raw[:, 3:])).unbind(1)
    # L = [[a, 0, 0], [d, b, 0], [e, f, c]], D = L Lᵀ and a little more on the diagonal.
    diagonal = [a * a, d * d + b * b, e * e + f * f + c * c]
    return torch.stack([*(v + _SMALLEST for v in diagonal), a * d, a * e, d * e + b * f], 1)
