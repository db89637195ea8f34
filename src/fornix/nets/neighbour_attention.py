"""NeighbourAttention over neighbours: which of them may help, told from the signals themselves.

A neighbour counts by how far its signals differ beyond what noise explains, how far away it is and
how noisy the scan is; the weights are rotation invariant, and what is averaged are the encoder's
coordinates, so the average is equivariant and its noise is known. Coordinates in which tissue varies
more than the noise count for more: there a fibre's turn shows first. A second pass compares the
averages of the first. Edges stay: a voxel of other tissue differs by more than noise.

Non-local means (Buades et al., CVPR 2005) with a learned kernel, on q-space coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fornix.nets.encoding import EncodedVoxels

#: Coordinates compared at most; later ones hold little signal.
COMPARED = 30
#: Voxels that a pass looks away from the centre, per axis.
REACH = 2
#: Averages that are made, each of neighbours compared by the one before.
PASSES = 2
_INPUTS = 8
#: Noise that neighbours do not share.
WHITE = (0.0, 0.0, 0.0)


def offsets(radius_squared: int = 5) -> list[tuple[int, int, int]]:
    """Neighbours within the radius, the centre left out, nearest first."""
    around = range(-REACH, REACH + 1)
    found = [(x, y, z) for x in around for y in around for z in around]
    kept = [o for o in found if 0 < sum(v * v for v in o) <= radius_squared]
    return sorted(kept, key=lambda o: (sum(v * v for v in o), o))


@dataclass(eq=False)  # not frozen: Fabric wraps what passes through a network
class Neighbourhood:
    """Patches or a whole scan on a grid. B patches of (X, Y, Z).

    Attributes:
        projected: (B, X, Y, Z, R).
        sigma: (B, X, Y, Z) noise of these, over S0.
        scale: (B, X, Y, Z) S0.
        s0_std: (B, X, Y, Z) relative error of S0.
        inside: (B, X, Y, Z) bool.
        variance: (R,) of the coordinates over all tissue.
        size: Voxel edges in mm.
        correlation: Of the noise of two voxels beside each other, per axis of the grid.
    """

    projected: torch.Tensor
    sigma: torch.Tensor
    scale: torch.Tensor
    s0_std: torch.Tensor
    inside: torch.Tensor
    variance: torch.Tensor
    size: tuple[float, float, float]
    correlation: tuple[float, float, float] = WHITE


def correlation_at(
    offsets: NDArray[np.int64], correlation: tuple[float, float, float]
) -> NDArray[np.float64]:
    """Correlation (…) of the noise of voxels that lie offsets (…, 3) apart.

    As a Gaussian kernel leaves it that gives `correlation` to voxels beside each other along each axis.
    """
    base = np.clip(np.asarray(correlation, dtype=np.float64), 1e-6, 0.95)
    return np.asarray(np.prod(base ** (np.asarray(offsets) ** 2), axis=-1))


def neighbourhood(
    seen: EncodedVoxels,
    variance: torch.Tensor,
    place: torch.Tensor,
    count: int,
    grid: tuple[int, int, int],
    size: tuple[float, float, float],
    correlation: tuple[float, float, float] = WHITE,
) -> Neighbourhood:
    """EncodedVoxels voxels (n) put on `count` grids at place (n, 4); variance: `Encoder.variance`."""
    where = tuple(place.T)

    def put(values: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        out = values.new_full((count, *grid, *values.shape[1:]), fill)
        out[where] = values
        return out

    inside = torch.zeros((count, *grid), dtype=torch.bool, device=place.device)
    inside[where] = True
    return Neighbourhood(
        put(seen.projected), put(seen.sigma, 1.0), put(seen.scale, 1.0), put(seen.s0_std, 1.0),
        inside, variance, size, correlation,
    )  # fmt: skip


@dataclass(eq=False)  # not frozen: Fabric wraps what passes through a network
class Average:
    """Voxels averaged with their like.

    Attributes:
        projected: (…, R) averaged coordinates.
        noise: (…) standard deviation of the noise left in them, over S0.
        unlike: (…, 2) mean over the neighbours, weighted as they were averaged, of how far they differ
            beyond noise, and the share of the voxel itself: how far the average may have blurred.
    """

    projected: torch.Tensor
    noise: torch.Tensor
    unlike: torch.Tensor

    def __getitem__(self, index: Any) -> Average:
        return Average(self.projected[index], self.noise[index], self.unlike[index])

    def to(self, device: torch.device) -> Average:
        """The same on another device."""
        return Average(self.projected.to(device), self.noise.to(device), self.unlike.to(device))


class NeighbourAttention(nn.Module):
    """Passes of weighted averages. hidden: width of the small network that weighs a neighbour."""

    def __init__(self, hidden: int = 24, passes: int = PASSES) -> None:
        super().__init__()
        self.scores = nn.ModuleList(
            nn.Sequential(nn.Linear(_INPUTS, hidden), nn.SiLU(), nn.Linear(hidden, 1))
            for _ in range(passes)
        )
        self.own = nn.ModuleList(
            nn.Sequential(nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, 1))
            for _ in range(passes)
        )

    def forward(self, seen: Neighbourhood) -> list[Average]:
        """After each pass: averaged coordinates (B, X, Y, Z, R) and their noise (B, X, Y, Z)."""
        compared = min(COMPARED, seen.projected.shape[-1])
        guide, guide_noise = seen.projected[..., :compared], seen.sigma
        raw: list[torch.Tensor] = []
        passes: list[Average] = []
        for score, own in zip(self.scores, self.own):
            average = self._pass(score, own, seen, guide, guide_noise, raw, not passes)
            guide, guide_noise = average.projected[..., :compared], average.noise
            passes.append(average)
        return passes

    def first_pass(self) -> NeighbourAttention:
        """An attention that stops after its first pass."""
        hidden = self.scores[0][0].out_features  # type: ignore[index]
        only = NeighbourAttention(int(hidden), 1)
        only.scores[0].load_state_dict(self.scores[0].state_dict())
        only.own[0].load_state_dict(self.own[0].state_dict())
        return only.eval()

    def _pass(
        self,
        score: nn.Module,
        own: nn.Module,
        seen: Neighbourhood,
        guide: torch.Tensor,
        guide_noise: torch.Tensor,
        raw: list[torch.Tensor],
        first: bool,
    ) -> Average:
        count = guide.shape[-1]
        near = offsets()
        variance = seen.variance[:count]
        telling = variance / (variance + guide_noise[..., None].square())
        expected, width = telling.sum(-1), (2 * telling.square().sum(-1)).sqrt()
        log_noise = torch.log(seen.sigma.clamp(min=1e-4) / 0.05)
        known = expected.sqrt() / 2 - 1
        s0 = torch.log(seen.scale.clamp(min=1e-6))
        padded = _Padded(guide, guide_noise.square(), s0, seen.s0_std, seen.inside)
        logits = [own(torch.stack([log_noise, known], -1))[..., 0]]
        differs: list[torch.Tensor] = []
        alike = correlation_at(np.array(near), seen.correlation)
        for k, offset in enumerate(near):
            g, v, s, e, inside = padded.at(offset)
            squares = (guide - g).square()
            noise = ((guide_noise.square() + v) * (1 - float(alike[k]))).clamp(min=1e-8)
            excess = ((squares * telling).sum(-1) / noise - expected) / width
            excess = torch.asinh(excess / 2)
            over_all = torch.asinh((squares.sum(-1) / noise - count) / (2 * count) ** 0.5 / 2)
            if first:
                raw.append(excess)
            differs.append(excess)
            jump = (s0 - s).abs() / (seen.s0_std.square() + e.square()).sqrt().clamp(min=1e-3)
            mm = sum((o * edge) ** 2 for o, edge in zip(offset, seen.size)) ** 0.5
            far = torch.full_like(log_noise, mm / 3)
            inputs = [excess, over_all, raw[k], torch.asinh(jump), far, log_noise, known,
                      torch.asinh(20 * (s0 - s).abs())]  # fmt: skip
            logit = score(torch.stack(inputs, -1))[..., 0]
            logits.append(torch.where(inside, logit, -1e4))
        weights = torch.softmax(torch.stack(logits), 0)
        average = _Padded(seen.projected, seen.sigma)
        made = weights[0][..., None] * seen.projected
        parts = [weights[0] * seen.sigma]
        for k, offset in enumerate(near):
            p, level = average.at(offset)
            made = made + weights[k + 1][..., None] * p
            parts.append(weights[k + 1] * level)
        every = torch.stack(parts)
        shared = torch.as_tensor(shared_noise(seen.correlation)).to(every)
        total = (every * torch.einsum("kl,l...->k...", shared, every)).sum(0)
        others = torch.where(seen.inside, (weights[1:] * torch.stack(differs)).sum(0), 0.0)
        unlike = torch.stack([others, weights[0]], -1)
        return Average(made, total.clamp(min=1e-12).sqrt(), unlike)


def shared_noise(correlation: tuple[float, float, float]) -> NDArray[np.float64]:
    """(K + 1, K + 1) correlation of the noise among a voxel (first) and its neighbours."""
    points = np.array([(0, 0, 0), *offsets()])
    return correlation_at(points[:, None] - points[None], correlation)


def averages(
    attention: NeighbourAttention,
    seen: EncodedVoxels,
    variance: torch.Tensor,
    place: NDArray[np.int64],
    size: tuple[float, float, float],
    correlation: tuple[float, float, float] = WHITE,
) -> list[Average]:
    """What `attention` makes of the voxels (n) of one scan at place (n, 3), per pass.

    Compiled, on the CPU, on all threads numba is set to use.
    """
    from fornix.nets._neighbour_attention_kernel import attend

    low = place.min(0)
    index = np.full(place.max(0) + 1 - low, -1, dtype=np.int32)
    index[tuple((place - low).T)] = np.arange(len(place))
    near = np.array(offsets())
    far = np.sqrt(((near * np.array(size)) ** 2).sum(1))
    projected, sigma, s0_std = (_f32(v) for v in (seen.projected, seen.sigma, seen.s0_std))
    log_s0 = np.log(np.maximum(_f32(seen.scale), 1e-6))
    compared = min(COMPARED, projected.shape[1])
    guide, guide_noise = np.ascontiguousarray(projected[:, :compared]), sigma
    raw = np.empty((len(place), len(near)), dtype=np.float32)
    alike = correlation_at(near, correlation)
    shared = shared_noise(correlation)
    passes: list[Average] = []
    for score, own in zip(attention.scores, attention.own):
        made, noise = np.empty_like(projected), np.empty_like(sigma)
        unlike = np.empty((len(sigma), 2), dtype=np.float32)
        attend(
            place - low, index, near, far, alike, shared, projected, sigma, log_s0, s0_std, guide,
            guide_noise, _f32(variance)[:compared], raw, not passes,
            *_layers(score), *_layers(own), made, noise,
            unlike,
        )  # fmt: skip
        guide, guide_noise = np.ascontiguousarray(made[:, :compared]), noise
        passes.append(Average(*(torch.from_numpy(v) for v in (made, noise, unlike))))
    return passes


def _layers(network: nn.Module) -> tuple[NDArray[np.float64], ...]:
    """Weights (H, inputs), biases (H,), and weights of the output with its bias last (H + 1,)."""
    assert isinstance(network, nn.Sequential)
    first, last = network[0], network[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    numbers = (first.weight, first.bias, torch.cat([last.weight[0], last.bias]))
    return tuple(n.detach().double().cpu().numpy() for n in numbers)


def _f32(values: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32)


class _Padded:
    """Arrays (B, X, Y, Z[, C]) padded by the reach, to be read at an offset as views."""

    def __init__(self, *arrays: torch.Tensor) -> None:
        self._grid = arrays[0].shape[1:4]
        self._arrays = []
        for a in arrays:
            shape = (a.shape[0], *[n + 2 * REACH for n in a.shape[1:4]], *a.shape[4:])
            padded = a.new_zeros(shape)
            x, y, z = self._grid
            padded[:, REACH : REACH + x, REACH : REACH + y, REACH : REACH + z] = a
            self._arrays.append(padded)

    def at(self, offset: tuple[int, int, int]) -> list[torch.Tensor]:
        """What lies at this offset from every voxel; zeros (False) beyond the edge."""
        x, y, z = (slice(REACH + o, REACH + o + n) for o, n in zip(offset, self._grid))
        return [a[:, x, y, z] for a in self._arrays]
