"""Attention over neighbours: which of them may help, told from the signals themselves.

A neighbour counts by how far its signals differ beyond what noise explains, how far away it is and
how noisy the scan is; the weights are rotation invariant, and what is averaged are the encoder's
coordinates, so the average is equivariant and its noise is known. A second pass compares the
averages of the first. Edges stay: a voxel of other tissue differs by more than noise.

Non-local means (Buades et al., CVPR 2005) with a learned kernel, on q-space coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fornix.learn.observe import Observed

#: Coordinates compared at most; later ones hold little signal.
COMPARED = 30
#: Voxels that a pass looks away from the centre, per axis.
REACH = 2
_INPUTS = 7


def offsets(radius_squared: int = 5) -> list[tuple[int, int, int]]:
    """Neighbours within the radius, the centre left out, nearest first."""
    around = range(-REACH, REACH + 1)
    found = [(x, y, z) for x in around for y in around for z in around]
    kept = [o for o in found if 0 < sum(v * v for v in o) <= radius_squared]
    return sorted(kept, key=lambda o: (sum(v * v for v in o), o))


@dataclass(eq=False)  # not frozen: Fabric wraps what passes through a network
class Neighbourhood:
    """Patches or a whole scan on a grid. B patches of (X, Y, Z).

    projected: (B, X, Y, Z, R). sigma: (B, X, Y, Z) noise of these, over S0. scale: (B, X, Y, Z) S0.
    s0_std: (B, X, Y, Z) relative error of S0. inside: (B, X, Y, Z) bool. size: voxel edges in mm.
    """

    projected: torch.Tensor
    sigma: torch.Tensor
    scale: torch.Tensor
    s0_std: torch.Tensor
    inside: torch.Tensor
    size: tuple[float, float, float]


def neighbourhood(
    seen: Observed,
    place: torch.Tensor,
    count: int,
    grid: tuple[int, int, int],
    size: tuple[float, float, float],
) -> Neighbourhood:
    """Observed voxels (n) put on `count` grids at place (n, 4)."""
    where = tuple(place.T)

    def put(values: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        out = values.new_full((count, *grid, *values.shape[1:]), fill)
        out[where] = values
        return out

    inside = torch.zeros((count, *grid), dtype=torch.bool, device=place.device)
    inside[where] = True
    return Neighbourhood(
        put(seen.projected), put(seen.sigma, 1.0), put(seen.scale, 1.0), put(seen.s0_std, 1.0),
        inside, size,
    )  # fmt: skip


class Attention(nn.Module):
    """Two passes of weighted averages. hidden: width of the small network that weighs a neighbour."""

    def __init__(self, hidden: int = 16, passes: int = 2) -> None:
        super().__init__()
        self.scores = nn.ModuleList(
            nn.Sequential(
                nn.Linear(_INPUTS, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                nn.Linear(hidden, 1),
            )
            for _ in range(passes)
        )  # fmt: skip
        self.own = nn.ModuleList(
            nn.Sequential(nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, 1))
            for _ in range(passes)
        )

    def forward(self, seen: Neighbourhood) -> tuple[torch.Tensor, torch.Tensor]:
        """The averaged coordinates (B, X, Y, Z, R) and their noise (B, X, Y, Z)."""
        compared = min(COMPARED, seen.projected.shape[-1])
        guide, guide_noise = seen.projected[..., :compared], seen.sigma
        raw: list[torch.Tensor] = []
        made, noise = seen.projected, seen.sigma
        for i, (score, own) in enumerate(zip(self.scores, self.own)):
            made, noise = self._pass(score, own, seen, guide, guide_noise, raw, i == 0)
            guide, guide_noise = made[..., :compared], noise
        return made, noise

    def _pass(
        self,
        score: nn.Module,
        own: nn.Module,
        seen: Neighbourhood,
        guide: torch.Tensor,
        guide_noise: torch.Tensor,
        raw: list[torch.Tensor],
        first: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        count = guide.shape[-1]
        near = offsets()
        log_noise = torch.log(seen.sigma.clamp(min=1e-4) / 0.05)
        constant = torch.full_like(log_noise, (count / 20) ** 0.5 - 1)
        s0 = torch.log(seen.scale.clamp(min=1e-6))
        padded = _Padded(guide, guide_noise.square(), s0, seen.s0_std, seen.inside)
        logits = [own(torch.stack([log_noise, constant], -1))[..., 0]]
        for k, offset in enumerate(near):
            g, v, s, e, inside = padded.at(offset)
            excess = (guide - g).square().sum(-1) / (guide_noise.square() + v).clamp(min=1e-8)
            excess = torch.asinh((excess - count) / (2 * count) ** 0.5 / 2)
            if first:
                raw.append(excess)
            jump = (s0 - s).abs() / (seen.s0_std.square() + e.square()).sqrt().clamp(min=1e-3)
            mm = sum((o * edge) ** 2 for o, edge in zip(offset, seen.size)) ** 0.5
            far = torch.full_like(log_noise, mm / 3)
            inputs = [excess, raw[k], torch.asinh(jump), far, log_noise, constant,
                      torch.asinh(20 * (s0 - s).abs())]  # fmt: skip
            logit = score(torch.stack(inputs, -1))[..., 0]
            logits.append(torch.where(inside, logit, -1e4))
        weights = torch.softmax(torch.stack(logits), 0)
        average = _Padded(seen.projected, seen.sigma.square())
        made = weights[0][..., None] * seen.projected
        variance = weights[0].square() * seen.sigma.square()
        for k, offset in enumerate(near):
            p, v = average.at(offset)
            made = made + weights[k + 1][..., None] * p
            variance = variance + weights[k + 1].square() * v
        return made, variance.sqrt()


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
