"""What training leaves to chance beside its data, each from a generator that is passed."""

from __future__ import annotations

import math

import torch

#: Apart from the seeds of the data streams.
_STREAM = 613


def generator(seed: int) -> torch.Generator:
    """A source of chance of its own, the same for the same seed."""
    return torch.Generator().manual_seed(1_000_003 * seed + _STREAM)


def shown_voxels(invariants: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """A part of a batch's voxels: a scan may show few or many to be characterised by.

    Args:
        invariants: (n, size) of the batch.
        draw: Decides how many and which.

    Returns:
        (k, size), k between 100 and n, evenly on a logarithmic scale.
    """
    most = len(invariants)
    low, high = math.log(min(100, most)), math.log(most)
    count = round(math.exp(low + (high - low) * float(torch.rand((), generator=draw))))
    return invariants[torch.randperm(most, generator=draw)[:count].to(invariants.device)]
