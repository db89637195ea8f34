"""What a scan's voxels are like together: the prior that a single voxel is judged by.

An estimate from few measurements leans on what is likely. What is likely differs between heads,
ages and scanners, and a scan's thousands of voxels show it even where each one alone is noise: how
neurite density goes with diffusivity, how much restricted water there is, how the noise behaves.
Means and spreads of a small perceptron over many voxels say it in a few numbers, which do not depend
on order or count (Zaheer et al., NeurIPS 2017): empirical Bayes (Robbins 1956), learned.
"""

from __future__ import annotations

import torch
from torch import nn

#: Voxels that are looked at, at most; more would tell no more.
ENOUGH = 8192


class ScanEncoder(nn.Module):
    """From invariants of some of a scan's voxels (k, size) to `places` numbers for all of them."""

    def __init__(self, size: int, width: int = 64, places: int = 32) -> None:
        super().__init__()
        self.places = places
        self.voxel_mlp = nn.Sequential(nn.Linear(size, width), nn.SiLU(), nn.Linear(width, width))
        self.scan_mlp = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, places), nn.Tanh()
        )

    def forward(self, invariants: torch.Tensor) -> torch.Tensor:
        """The scan's vector ``(width,)`` from the invariants of its voxels ``(n, size)``."""
        each = self.voxel_mlp(invariants)
        mean = each.mean(0)
        spread = ((each - mean).square().mean(0) + 1e-4).sqrt()
        known: torch.Tensor = self.scan_mlp(torch.cat([mean, spread]))
        return known
