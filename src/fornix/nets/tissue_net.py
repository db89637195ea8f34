"""A small 3-D U-Net that tells the tissue of each voxel and the side of the head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fornix.nets.tissue_channels import CHANNELS
from fornix.nets.tissue_classes import CLASSES

#: Features of each level, in units of the first's.
_WIDER = (1, 2, 3, 4, 6)
_GROUP = 16


class _Block(nn.Module):
    """Two convolutions, each normalised in groups of features."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for n in (before, width):
            parts.append(nn.Conv3d(n, width, 3, padding=1))
            parts.append(nn.GroupNorm(max(1, width // _GROUP), width))
            parts.append(nn.LeakyReLU(0.05))
        self.body = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x)
        return out


class TissueNet(nn.Module):
    """Log-odds of seven classes and of the left side.

    After Ronneberger et al., MICCAI 2015.

    Args:
        width: Features at full resolution.
        depth: Levels; each halves the resolution. Grids must be multiples of 2^(depth - 1).
    """

    def __init__(self, width: int = 16, depth: int = 5) -> None:
        super().__init__()
        widths = [width * _WIDER[min(i, len(_WIDER) - 1)] for i in range(depth)]
        self.down = nn.ModuleList(
            _Block(CHANNELS if i == 0 else widths[i - 1], w) for i, w in enumerate(widths)
        )
        self.finer = nn.ModuleList(
            nn.ConvTranspose3d(widths[i + 1], widths[i], 2, stride=2) for i in range(depth - 1)
        )
        self.up = nn.ModuleList(_Block(2 * widths[i], widths[i]) for i in range(depth - 1))
        self.out = nn.Conv3d(width, len(CLASSES) + 1, 1)
        self.multiple = 2 ** (depth - 1)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 5, X, Y, Z), see `tissue_channels.channels`, to (N, 8, X, Y, Z) log-odds."""
        x = x.contiguous(memory_format=torch.channels_last_3d)
        kept = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool3d(x, 2) if i else x)
            kept.append(x)
        for i in reversed(range(len(self.up))):
            x = self.up[i](torch.cat([kept[i], self.finer[i](x)], 1))
        odds: torch.Tensor = self.out(x)
        return odds
