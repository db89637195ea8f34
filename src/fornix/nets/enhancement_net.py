"""A network that corrects small voxels, deconvolved from larger ones, by the measured ones around them.

For each small voxel it gives 27 weights of the measured voxel it lies in and that one's neighbours. They sum
to 0, are added to what deconvolution gives, and are the same for all directions of a shell: the scan's
contrast between directions is carried over and never drawn anew, and any number of volumes costs the same.
What it looks at does not depend on the protocol: mean images, how unlike neighbours are over all volumes, the
quadratic part of the signal, noise level, voxel sizes and profiles. A position inside the measured voxel asks
for the weights there, so any factor is served (after LIIF: Chen et al., CVPR 2021; predicted kernels:
Mildenhall et al., CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

#: Neighbours of a measured voxel, itself among them, and each pair of neighbours once.
OFFSETS = tuple(product((-1, 0, 1), repeat=3))
PAIRS = OFFSETS[14:]
#: Image channels, and numbers that hold for a whole scan, see `enhancement_channels`.
CHANNELS, FACTS = 8 + 6 + len(PAIRS), 13
_HIDDEN = 64


class _Residual(nn.Module):
    """Two convolutions whose result is added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one = nn.Conv3d(width, width, 3, padding=1)
        self.two = nn.Conv3d(width, width, 3, padding=1)
        nn.init.zeros_(self.two.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.two(F.silu(self.one(F.silu(x))))


class EnhancementNet(nn.Module):
    """Weights of the neighbours, and what spreads the error, for positions inside measured voxels.

    Args:
        width: Features of a measured voxel.
        depth: Residual blocks.
    """

    def __init__(self, width: int = 48, depth: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv3d(CHANNELS, width, 3, padding=1)
        self.facts = nn.Linear(FACTS, width)
        self.body = nn.Sequential(*[_Residual(width) for _ in range(depth)])
        self.of_voxel = nn.Linear(width, _HIDDEN)
        self.of_place = nn.Linear(_PLACE, _HIDDEN)
        self.inner = nn.Linear(_HIDDEN, _HIDDEN)
        self.out = nn.Linear(_HIDDEN, len(OFFSETS) + 3)
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([0.0] * len(OFFSETS) + [-1.0, -3.5, -0.3]))

    @classmethod
    def like(cls, recipe: Mapping[str, Any]) -> EnhancementNet:
        """An untrained network of a recipe's width and depth."""
        return cls(recipe["width"], recipe["depth"])

    def features(self, channels: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        """Of measured voxels.

        Args:
            channels: (CHANNELS, X, Y, Z).
            facts: (FACTS,).

        Returns:
            (X, Y, Z, hidden).
        """
        x = self.first(channels[None]) + self.facts(facts)[:, None, None, None]
        x = F.silu(self.body(x))[0]
        made: torch.Tensor = self.of_voxel(x.permute(1, 2, 3, 0))
        return made

    def forward(
        self,
        channels: torch.Tensor,
        facts: torch.Tensor,
        voxels: torch.Tensor,
        place: torch.Tensor,
        step: torch.Tensor,
        shells: Sequence[float],
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """What `mix` gives for each shell, from a scan's channels.

        Args:
            channels: As in `features`.
            facts: As in `features`.
            voxels: (n, 3) indices of the measured voxels that the small ones lie in.
            place: As in `mix`.
            step: As in `mix`.
            shells: b of each, ms/µm².
        """
        x, y, z = voxels.unbind(1)
        mine = self.features(channels, facts)[x, y, z]
        return [self.mix(mine, place, step, b) for b in shells]

    def mix(
        self, features: torch.Tensor, place: torch.Tensor, step: torch.Tensor, b: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights for small voxels.

        Args:
            features: (n, hidden) of the measured voxels that they lie in.
            place: (n, 3) from its centre, in measured voxels, -0.5 to 0.5.
            step: (3,) a small voxel's edges over a measured one's.
            b: Of the volumes that are mixed, ms/µm², 0 for b0s.

        Returns:
            (n, 27) weights in the order of OFFSETS, each row sums to 0, and (n, 3): the share of the local
            spread, the part of the scale and the share of the noise that make the error's standard deviation.
        """
        same = torch.tensor([min(b, 4.0), float(b == 0)]).to(place)
        more = torch.cat([step, same]).expand(len(place), -1)
        x = features + self.of_place(torch.cat([place, place.square(), more], 1))
        x = self.out(F.silu(self.inner(F.silu(x))))
        change = x[:, : len(OFFSETS)]
        return change - change.mean(1, keepdim=True), x[:, len(OFFSETS) :].clamp(-9, 3).exp()


_PLACE = 3 + 3 + 3 + 2


#: Channels in which edges are sought: means of b0s and shells, and the quadratic form.
GUIDES = (0, 1, 2, 8, 9, 10, 11, 12, 13)


def enhancement_channels(
    signals: torch.Tensor,
    b: torch.Tensor,
    directions: torch.Tensor,
    b0: torch.Tensor,
    sigma: torch.Tensor,
    raw: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    """What the network sees of a scan.

    Args:
        signals: (X, Y, Z, N) over the scan's scale.
        b: (N,) ms/µm².
        directions: (N, 3) unit vectors in voxel axes.
        b0: (N,) which volumes are b0s.
        sigma: (X, Y, Z) noise over the scale, as it is left in the signals.
        raw: (X, Y, Z) the same as it was measured: means of many volumes keep its share.
        mask: (X, Y, Z) bool.

    Returns:
        (CHANNELS, X, Y, Z): means of b0s and of the lowest and highest shell, spread over the highest shell's
        directions, noise of a volume, of the b0s' mean and of all weighted volumes' mean, the mask; the
        quadratic form that fits the highest shell; how unlike neighbours are, a channel for each pair.
    """
    weighted = ~b0
    low, high = shells_of(b, b0)
    top = signals[..., high]
    mean = top.mean(-1)
    # Of few directions the spread is a poor one, but it is what there is.
    spread = (top.var(-1) - sigma.square()).clamp(min=0).sqrt() if top.shape[-1] > 1 else 0 * mean
    first = signals[..., b0].mean(-1) if bool(b0.any()) else mean
    parts = [
        first, signals[..., low].mean(-1), mean, 2 * spread, 5 * sigma,
        5 * raw / max(int(b0.sum()), 1) ** 0.5, 5 * raw / max(int(weighted.sum()), 1) ** 0.5,
        mask.to(signals),
    ]  # fmt: skip
    g = directions[high].to(signals)
    x, y, z = g.unbind(1)
    design = torch.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], 1)
    normal = design.T @ design + 0.02 * len(g) * torch.eye(6).to(signals)
    form = top @ torch.linalg.solve(normal, design.T).T
    parts += list(form.unbind(-1))
    parts += [3 * apart for apart in unlikeness(signals[..., weighted], sigma)]
    return torch.stack(parts) * mask.to(signals)


def unlikeness(signals: torch.Tensor, sigma: torch.Tensor) -> list[torch.Tensor]:
    """Root mean square difference of each pair of neighbours over volumes, noise taken off.

    Args:
        signals: (X, Y, Z, N).
        sigma: (X, Y, Z).

    Returns:
        An image (X, Y, Z) for each of PAIRS; 0 where the neighbour is off the grid.
    """
    made = []
    for pair in PAIRS:
        here, there = ([], [])  # type: tuple[list[slice], list[slice]]
        for n, d in zip(signals.shape, pair):
            here.append(slice(max(0, -d), n - max(0, d)))
            there.append(slice(max(0, d), n - max(0, -d)))
        a, c = tuple(here), tuple(there)
        square = (signals[a] - signals[c]).square().mean(-1)
        noise = sigma[a].square() + sigma[c].square()
        out = torch.zeros_like(sigma)
        out[a] = (square - noise).clamp(min=0).sqrt()
        made.append(out)
    return made


def shells_of(b: torch.Tensor, b0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which volumes (N,) are of the lowest and of the highest shell: within a tenth of the ends' b."""
    weighted = ~b0
    if not bool(weighted.any()):
        return b0, b0
    least, most = b[weighted].min(), b[weighted].max()
    low = weighted & (b <= 1.15 * least + 0.05)
    high = weighted & (b >= 0.85 * most - 0.05)
    return low, high


def scan_facts(
    b: torch.Tensor,
    b0: torch.Tensor,
    voxel_size: torch.Tensor,
    step: torch.Tensor,
    profiles: tuple[str, str, str],
) -> torch.Tensor:
    """(FACTS,) of a scan: lowest and highest b, measured voxels' edges, factors, profiles, volumes."""
    low, high = shells_of(b, b0)
    kinds = torch.tensor([{"slice": 1.0, "sinc": -1.0, "box": 0.0}[p] for p in profiles])
    count = torch.tensor([float((~b0).sum()), float(b0.sum())]).clamp(min=1).log() / 3
    ends = torch.stack([b[low].mean(), b[high].mean()]).float()
    size = (voxel_size.float() / 2).log()
    return torch.cat([ends, size, -step.float().log(), kinds, count])


def around(image: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
    """Values (n, 27, …) of voxels and their neighbours, in the order of OFFSETS, edges repeated.

    Args:
        image: (X, Y, Z, …).
        voxels: (n, 3) indices.
    """
    offsets = torch.tensor(OFFSETS, device=voxels.device)
    at = voxels[:, None] + offsets
    top = torch.tensor(image.shape[:3], device=voxels.device) - 1
    x, y, z = torch.minimum(at.clamp(min=0), top).unbind(-1)
    return image[x, y, z]


def error_std(spread: torch.Tensor, values: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Standard deviation (n, volumes) of the error: noise that comes through, and what is not known.

    Args:
        spread: (n, 3), see `EnhancementNet.mix`.
        values: (n, 27, volumes) of the measured voxels.
        sigma: (n,) their noise, or (n, volumes).
    """
    level = sigma[:, None] if sigma.ndim == 1 else sigma
    noise = (level * spread[:, 2:]).square()
    local = (values.var(1) - level.square()).clamp(min=0)
    return (noise + spread[:, :1].square() * local + spread[:, 1:2].square()).sqrt()
