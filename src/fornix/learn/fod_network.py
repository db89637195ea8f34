"""The network of fibre orientations: functions on the sphere, multiplied with each other.

Channels are functions on the sphere as harmonics up to order 8. The first are mixes of the signal's
own harmonics and those of its axes, order by order, with weights that a perceptron reads from the
invariants: with one channel and no more that is a deconvolution whose filter each voxel chooses. A
linear filter cannot sharpen what noise has blurred without ringing; products can. Each quadratic
layer multiplies two mixes of the channels point by point on the sphere and returns to order 8. Since
a product of two functions of order 8 has order 16, a quadrature of degree 24 projects it exactly, and
the layer commutes with every rotation, not only with those of a grid (spherical networks in harmonic
space: Kondor et al., NeurIPS 2018; for deconvolution: Elaldi et al., IPMI 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fornix.core import harmonics
from fornix.learn.equivariant import Trunk
from fornix.learn.features import Features, size
from fornix.learn.fod_truth import COEFFICIENTS, LMAX
from fornix.learn.population import Population
from fornix.qspace import SignalPrior, default_prior

#: Functions on the sphere that each layer holds, and products that it makes.
CHANNELS, PRODUCTS = 12, 8
_ORDERS = LMAX // 2 + 1
_AXES = 3
#: Where each order's coefficients stand.
PARTS = tuple(slice(2 * i * i - i, 2 * i * i + 3 * i + 1) for i in range(_ORDERS))


@dataclass(eq=False)  # not frozen: Fabric wraps what passes through a network
class FodAnswer:
    """What a network says of the fibres of n voxels.

    fod: (n, 45) harmonics of the mean amplitude per steradian.
    floor, share: (n,) its standard deviation at direction u: sqrt(floor² + (share * fod(u))²).
    tissue: (n, 3) fractions of white matter, grey matter and free water; they sum to 1.
    """

    fod: torch.Tensor
    floor: torch.Tensor
    share: torch.Tensor
    tissue: torch.Tensor

    def std(self, amplitude: torch.Tensor) -> torch.Tensor:
        """Standard deviation of amplitudes (n, …) of the FOD."""
        shape = (-1, *[1] * (amplitude.ndim - 1))
        relative = self.share.view(shape) * amplitude
        return (self.floor.view(shape).square() + relative.square()).sqrt()


def quadrature(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions (P, 3) and weights (P,) that integrate even functions up to `degree` exactly.

    Gauss and trapezoid; the lower half of the sphere repeats the upper.
    """
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    kept = nodes > -1e-9
    nodes = nodes[kept]
    weights = np.where(nodes > 1e-9, 2.0, 1.0) * weights[kept]
    phi = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    z = np.repeat(nodes, len(phi))
    around = np.tile(phi, len(nodes))
    radius = np.sqrt(1 - z**2)
    points = np.stack([radius * np.cos(around), radius * np.sin(around), z], 1)
    return points, np.repeat(weights, len(phi)) * 2 * np.pi / len(phi)


class PerOrder(nn.Module):
    """Mixes of channels (n, C, 45) -> (n, Q, 45), other weights for each order: equivariant."""

    def __init__(self, channels: int, made: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(_ORDERS, made, channels) / channels**0.5)
        self.constant = nn.Parameter(torch.zeros(made))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        mixed = torch.cat([self.weight[i] @ h[..., part] for i, part in enumerate(PARTS)], -1)
        return mixed + nn.functional.pad(self.constant[:, None], (0, COEFFICIENTS - 1))


class Quadratic(nn.Module):
    """Adds products of functions on the sphere, weighted by what the voxel's invariants say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left, self.right = PerOrder(CHANNELS, PRODUCTS), PerOrder(CHANNELS, PRODUCTS)
        self.back = PerOrder(PRODUCTS, CHANNELS)
        with torch.no_grad():
            self.back.weight.mul_(0.2)  # begin near a linear filter
        self.gains = nn.Linear(width, _ORDERS * PRODUCTS)
        nn.init.normal_(self.gains.weight, std=0.02)
        nn.init.constant_(self.gains.bias, 0.5)

    def forward(
        self, h: torch.Tensor, hidden: torch.Tensor, basis: torch.Tensor, analysis: torch.Tensor
    ) -> torch.Tensor:
        """h: (n, C, 45); basis: (45, P); analysis: (P, 45)."""
        product = ((self.left(h) @ basis) * (self.right(h) @ basis)) @ analysis
        return h + self.back(product * spread(self.gains(hidden), PRODUCTS))


class FodNetwork(nn.Module):
    """From `Features` to a `FodAnswer`.

    sources: views of a voxel, as in `Equivariant`. width, depth: of the perceptron.
    """

    def __init__(
        self, width: int = 192, depth: int = 3, sources: int = 1, prior: SignalPrior | None = None
    ) -> None:
        super().__init__()
        known = prior or default_prior()
        self.counts = [len(f) for f in known.factors]
        self.population = Population(size(1, known))
        self.trunk = Trunk(size(sources, known), width, depth, self.population.places)
        self.first = nn.Linear(width, CHANNELS * (1 + sum(k + _AXES for k in self.counts[1:])))
        self.layers = nn.ModuleList(Quadratic(width) for _ in range(2))
        self.last = nn.Linear(width, _ORDERS * CHANNELS)
        self.rest = nn.Linear(width, 5)
        nn.init.normal_(self.first.weight, std=0.02)
        nn.init.normal_(self.first.bias, std=0.3)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.normal_(self.last.bias, std=0.1)
        nn.init.normal_(self.rest.weight, std=0.01)
        nn.init.zeros_(self.rest.bias)
        points, weights = quadrature(3 * LMAX)
        basis = harmonics.evaluate(LMAX, points)
        for name, table in (
            ("basis", basis.T), ("analysis", basis * weights[:, None]), ("weights", weights),
        ):  # fmt: skip
            self.register_buffer(name, torch.as_tensor(table.copy()).float(), persistent=False)

    def forward(self, seen: Features, scan: torch.Tensor) -> FodAnswer:
        """scan: what is known of the whole scan, `Population`'s (P,), or invariants (k, `size()`) of
        some of its voxels."""
        known = self.population(scan) if scan.ndim == 2 else scan
        hidden = self.trunk(seen.invariants, known)
        h = self._begin(hidden, seen)
        for layer in self.layers:
            h = layer(h, hidden, self.basis, self.analysis)
        fod = (h * spread(self.last(hidden), CHANNELS)).sum(1)
        rest = self.rest(hidden)
        noise = torch.exp(rest[:, :2].clamp(-5, 3))
        tissue = torch.softmax(rest[:, 2:], 1)
        return FodAnswer(fod, 0.1 * noise[:, 0] + 1e-3, 0.2 * noise[:, 1], tissue)

    def _begin(self, hidden: torch.Tensor, seen: Features) -> torch.Tensor:
        weights = self.first(hidden).unflatten(1, (CHANNELS, -1))
        made, start = [weights[..., :1]], 1
        for block, axes in zip(seen.blocks[1:], seen.axes):
            inputs = torch.cat([block, axes], 1)
            made.append(weights[..., start : start + inputs.shape[1]] @ inputs)
            start += inputs.shape[1]
        return torch.cat(made, -1)


def spread(gains: torch.Tensor, channels: int) -> torch.Tensor:
    """One gain per channel and order (n, channels * orders), repeated for each harmonic."""
    degrees = torch.tensor([4 * i + 1 for i in range(_ORDERS)], device=gains.device)
    return gains.unflatten(1, (channels, _ORDERS)).repeat_interleave(degrees, 2)
