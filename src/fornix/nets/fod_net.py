"""The network of fibre orientations: functions on the sphere, multiplied with each other.

Channels are functions on the sphere as harmonics up to order 8. The first are mixes of the signal's
own harmonics and those of its axes, order by order, with weights that a perceptron reads from the
invariants: with one channel and no more that is a deconvolution whose filter each voxel chooses. A
linear filter cannot sharpen what noise has blurred without ringing; products can. Each quadratic
layer multiplies two mixes of the channels point by point on the sphere and returns to order 8. One
factor keeps order 8, the other order 6: their product seen through order 8 has order 22 at most, which
97 axes integrate exactly (Lebedev and Laikov, 1999), so that the layer commutes with every rotation
(spherical networks in harmonic space: Kondor et al., NeurIPS 2018; for deconvolution: Elaldi et al.,
IPMI 2021).

Two functions come out. The mean FOD learns from squares, so where measurements cannot part two
fibres it shows one broad lobe between them. The field learns from yes and no: at each axis the
log-odds that a fibre lies near. A logarithm turns the product of two narrow lobes' absence into a
sum: maxima 30 degrees apart, which no sum of blobs of order 8 shows, are within its reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fornix.nets.features import Features, extract, size
from fornix.nets.microstructure_net import Trunk
from fornix.nets.scan_encoder import ScanEncoder
from fornix.numerics import harmonics
from fornix.numerics.directions import quadrature
from fornix.physics.fod_truth import LMAX
from fornix.qspace.prior import SignalPrior, default_prior

#: Functions on the sphere that each layer holds, and products that it makes.
CHANNELS, PRODUCTS = 12, 8
_ORDERS = LMAX // 2 + 1
_AXES = 3
#: Views of a voxel in the network that reads neighbours: itself, and the first average over them. The
#: second average adds noise here.
SPATIAL_VIEWS = 2
#: Where each order's coefficients stand.
PARTS = harmonics.order_slices(LMAX)
_ORDER_OF = torch.repeat_interleave(
    torch.arange(_ORDERS), torch.tensor([p.stop - p.start for p in PARTS])
)
#: Degree of polynomials that the layers' axes integrate exactly.
DEGREE = 23
#: The field of a voxel of which nothing is known, as the coefficient of order 0: log-odds of -4.
_FIELD = -4 * (4 * np.pi) ** 0.5


@dataclass(eq=False)  # not frozen: Fabric wraps what passes through a network
class FodPrediction:
    """What a network says of the fibres of n voxels.

    Attributes:
        fod: (n, 45) harmonics of the mean amplitude per steradian.
        std_floor: (n,) its standard deviation at direction u: sqrt(std_floor² + (std_relative *
            fod(u))²).
        std_relative: See `std_floor`.
        tissue: (n, 3) fractions of white matter, grey matter and free water; they sum to 1.
        fibre_logits: (n, 45) harmonics of the log-odds that a fibre lies near (`fod_truth.nearness`).
    """

    fod: torch.Tensor
    std_floor: torch.Tensor
    std_relative: torch.Tensor
    tissue: torch.Tensor
    fibre_logits: torch.Tensor

    def std(self, amplitude: torch.Tensor) -> torch.Tensor:
        """Standard deviation of amplitudes (n, …) of the FOD."""
        shape = (-1, *[1] * (amplitude.ndim - 1))
        relative = self.std_relative.view(shape) * amplitude
        return (self.std_floor.view(shape).square() + relative.square()).sqrt()


class SHLinear(nn.Module):
    """Mixes of channels (45, C, n) -> (…, Q, n), other weights for each order: equivariant.

    Args:
        orders: Of which are mixed, the others are cut off.
    """

    def __init__(self, channels: int, made: int, orders: int = _ORDERS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(orders, made, channels) / channels**0.5)
        self.constant = nn.Parameter(torch.zeros(made))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Mixes the channels at each order: ``(45, channels, n)`` to ``(coefficients, made, n)``."""
        count = PARTS[len(self.weight) - 1].stop
        made = self.weight[_ORDER_OF[:count]] @ h[:count]
        made[0] += self.constant[:, None]
        return made


class SphericalProductLayer(nn.Module):
    """Adds products of functions on the sphere, weighted by what the voxel's invariants say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left, self.right = (
            SHLinear(CHANNELS, PRODUCTS),
            SHLinear(CHANNELS, PRODUCTS, _ORDERS - 1),
        )
        self.back = SHLinear(PRODUCTS, CHANNELS)
        with torch.no_grad():
            self.back.weight.mul_(0.2)  # begin near a linear filter
        self.gains = nn.Linear(width, _ORDERS * PRODUCTS)
        nn.init.normal_(self.gains.weight, std=0.02)
        nn.init.constant_(self.gains.bias, 0.5)

    def forward(
        self, h: torch.Tensor, hidden: torch.Tensor, basis: torch.Tensor, analysis: torch.Tensor
    ) -> torch.Tensor:
        """h: (45, C, n); basis: (P, 45); analysis: (45, P)."""
        left, right = self.left(h), self.right(h)
        product = (basis @ left.flatten(1)) * (basis[:, : len(right)] @ right.flatten(1))
        made = (analysis @ product).unflatten(1, left.shape[1:])
        return h + self.back(spread(made, self.gains(hidden)))


class FodNet(nn.Module):
    """From `Features` to a `FodPrediction`.

    Args:
        sources: Views of a voxel, as in `MicrostructureNet`.
        width: Of the perceptron.
        depth: See `width`.
    """

    reads = staticmethod(extract)

    def __init__(
        self, width: int = 192, depth: int = 3, sources: int = 1, prior: SignalPrior | None = None
    ) -> None:
        super().__init__()
        known = prior or default_prior()
        self.counts = [len(f) for f in known.factors]
        self.scan_encoder = ScanEncoder(size(sources, known))
        self.trunk = Trunk(size(sources, known), width, depth, self.scan_encoder.places)
        self.first = nn.Linear(width, CHANNELS * (1 + sum(k + _AXES for k in self.counts[1:])))
        self.layers = nn.ModuleList(SphericalProductLayer(width) for _ in range(2))
        self.last = nn.Linear(width, _ORDERS * CHANNELS)
        self.near = nn.Linear(width, _ORDERS * CHANNELS)
        self.rest = nn.Linear(width, 5)
        nn.init.normal_(self.first.weight, std=0.02)
        nn.init.normal_(self.first.bias, std=0.3)
        for head in (self.last, self.near):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.normal_(head.bias, std=0.1)
        nn.init.normal_(self.rest.weight, std=0.01)
        nn.init.zeros_(self.rest.bias)
        points, weights = quadrature(DEGREE)
        basis = harmonics.evaluate(LMAX, points)
        for name, table in (
            ("basis", basis),
            ("analysis", basis.T * weights),
            ("weights", weights),
        ):
            self.register_buffer(name, torch.as_tensor(table.copy()).float(), persistent=False)

    def forward(self, seen: Features, scan: torch.Tensor) -> FodPrediction:
        """scan: what is known of the whole scan, `ScanEncoder`'s (P,), or invariants (k, `size()`) of
        some of its voxels.
        """
        known = self.scan_encoder(scan) if scan.ndim == 2 else scan
        hidden = self.trunk(seen.invariants, known)
        h = self._begin(hidden, seen)
        for layer in self.layers:
            h = layer(h, hidden, self.basis, self.analysis)
        fod = spread(h, self.last(hidden)).sum(1).T
        field = spread(h, 5 * self.near(hidden)).sum(1).T
        field = torch.cat([field[:, :1] + _FIELD, field[:, 1:]], 1)
        rest = self.rest(hidden)
        noise = torch.exp(rest[:, :2].clamp(-5, 3))
        tissue = torch.softmax(rest[:, 2:], 1)
        return FodPrediction(fod, 0.1 * noise[:, 0] + 1e-3, 0.2 * noise[:, 1], tissue, field)

    def _begin(self, hidden: torch.Tensor, seen: Features) -> torch.Tensor:
        """The first channels (45, C, n)."""
        weights = self.first(hidden).unflatten(1, (CHANNELS, -1))
        made, start = [weights[..., 0].T[None]], 1
        for block, axes in zip(seen.blocks[1:], seen.axes):
            inputs = torch.cat([block, axes], 1)
            part = weights[..., start : start + inputs.shape[1]] @ inputs
            made.append(part.permute(2, 1, 0))
            start += inputs.shape[1]
        return torch.cat(made)


def spread(h: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """Channels (45, C, n) times one gain per voxel, channel and order (n, C * orders)."""
    each = gains.T.contiguous().unflatten(0, (h.shape[1], _ORDERS)).transpose(0, 1)
    return torch.cat([h[part] * gain for part, gain in zip(PARTS, each)])
