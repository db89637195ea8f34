"""Overlapping groups of voxels put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from fornix.core.compute import in_parallel

#: Rows of a group, what it makes of them, and how far that is to be trusted.
Made = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def averaged_groups(
    work: Callable[[slice], Made], parts: Sequence[slice], otherwise: torch.Tensor
) -> torch.Tensor:
    """Rows (n, N), each the mean of what all groups that hold it make of it, weighted by trust.

    Args:
        work: Gives of some groups the rows (B, K), the values (B, K, N) times their trust, and the trust
            (B, K, 1).
        parts: Which groups are worked on at once.
        otherwise: (n, N) where no group holds a row.
    """
    total, weight = torch.zeros_like(otherwise), torch.zeros_like(otherwise[:, 0])
    here = otherwise.device.type == "cpu"
    for rows, made, trust in in_parallel(work, parts, compiled=False) if here else map(work, parts):
        total.index_add_(0, rows.reshape(-1), made.reshape(-1, made.shape[2]))
        weight.index_add_(0, rows.reshape(-1), trust.expand(*made.shape[:2], 1).reshape(-1))
    return torch.where(weight[:, None] > 0, total / weight.clamp(min=1e-12)[:, None], otherwise)
