"""The convolutional network: 3×3×3 convolutions over maps of invariants, and the centre beside them.

For `fornix experiment context`. Two layers see 5×5×5 voxels, three 7×7×7. The voxel's own invariants
skip the convolutions, so that an edge that the neighbourhood blurs can still be seen. What lies
outside the brain has no influence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fornix.nets.features import Features
from fornix.nets.microstructure_net import Trunk
from fornix.nets.targets import METRICS, linked


@dataclass(eq=False)  # not frozen: Fabric wraps what passes through a network
class Grid:
    """Invariants of B patches on a grid.

    invariants: (B, X, Y, Z, C). inside: (B, X, Y, Z) bool, the brain. anchor, anchor_std:
    (B, X, Y, Z, 4) tensor fit. What they hold outside does not matter.
    """

    invariants: torch.Tensor
    inside: torch.Tensor
    anchor: torch.Tensor
    anchor_std: torch.Tensor


def on_grid(
    features: Features, place: torch.Tensor, count: int, grid: tuple[int, int, int]
) -> Grid:
    """Features of n voxels put on `count` grids at place (n, 4): patch, x, y, z."""
    where = tuple(place.T)

    def put(values: torch.Tensor) -> torch.Tensor:
        out = values.new_zeros((count, *grid, *values.shape[1:]))
        out[where] = values
        return out

    inside = torch.zeros((count, *grid), dtype=torch.bool, device=place.device)
    inside[where] = True
    return Grid(
        put(features.invariants),
        inside,
        put(features.anchor[:, 0]),
        put(features.anchor_std[:, 0]),
    )


class Cnn(nn.Module):
    """From a `Grid` to means and standard deviations (n, M) of its n voxels inside, in C order.

    size: number of invariants. channels: of the convolutions. layers: of them, 2 or 3. width, depth:
    of the perceptron that reads the convolutions and the centre.
    """

    def __init__(
        self, size: int, channels: int = 32, layers: int = 2, width: int = 128, depth: int = 2
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(size, channels)
        self.mixed = nn.ModuleList(
            nn.Conv3d(channels, channels, 3, padding=1) for _ in range(layers)
        )
        self.trunk = Trunk(size + channels, width, depth)
        self.scalars = nn.Linear(width, 2 * len(METRICS))
        nn.init.normal_(self.scalars.weight, std=0.01)
        nn.init.zeros_(self.scalars.bias)

    def forward(self, seen: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        inside = seen.inside[:, None]
        own = seen.invariants[seen.inside]
        filled = torch.where(seen.inside[..., None], seen.invariants, 0.0)
        x = torch.where(inside, self.embed(filled).movedim(-1, 1), 0.0)
        for layer in self.mixed:
            x = x + torch.where(inside, nn.functional.silu(layer(x)), 0.0)
        around = x.movedim(1, -1)[seen.inside]
        raw, log_std = self.scalars(self.trunk(torch.cat([own, around], 1))).chunk(2, 1)
        anchor, anchor_std = (v[seen.inside] for v in (seen.anchor, seen.anchor_std))
        return linked(raw, log_std, anchor, anchor_std)
