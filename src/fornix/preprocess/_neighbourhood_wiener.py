"""Voxels filtered among their neighbours: Wiener's filter on the principal components of neighbourhoods."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks
from fornix.preprocess._overlapping import Made, averaged_groups

#: Reach of a group and steps between groups, voxels.
_REACH, _STEP = 2, 3
#: The noise's variance counts this many times: the guide holds some of it too.
_DOUBT = 2.0
#: Bytes of the signals of groups that are worked on at once.
_BYTES = 1 << 23


def filter_neighbourhoods(
    signals: torch.Tensor, guide: torch.Tensor, inside: NDArray[np.bool_]
) -> torch.Tensor:
    """Signals (n, N) of the voxels inside, filtered (Lebrun et al., SIAM Journal on Imaging Sciences 2013).

    Every third voxel along each axis gathers its neighbourhood of 5 x 5 x 5. How the guide's signals vary in
    it says how much of each principal component is signal. What a voxel gets from all groups it is in is
    averaged, with more weight on groups of few components.

    Args:
        signals: (n, N) with noise of standard deviation 1.
        guide: (n, N) the same, denoised before.
        inside: (X, Y, Z) n voxels.
    """
    number = torch.full(tuple(s + 2 * _REACH for s in inside.shape), -1, dtype=torch.int64)
    places = torch.from_numpy(np.argwhere(inside))
    number[tuple((places + _REACH).T)] = torch.arange(len(places))
    number = number.to(signals.device)
    offsets = torch.tensor(list(product(range(2 * _REACH + 1), repeat=3)))
    centres = places[(places % _STEP == 0).all(1)]
    if not len(centres):
        centres = places
    many = max(1, _BYTES // (4 * len(offsets) * signals.shape[1]))

    def work(part: slice) -> Made:
        at = (centres[part, None] + offsets[None]).to(signals.device)
        group = number[at[..., 0], at[..., 1], at[..., 2]]
        there = (group >= 0).to(signals.dtype)[..., None]
        group = group.clamp(min=0)
        made, trust = _filtered(signals[group], guide[group], there)
        return group, made * trust, trust

    return averaged_groups(work, list(blocks(len(centres), many)), guide)


def _filtered(
    signals: torch.Tensor, guide: torch.Tensor, there: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(filtered, trust (B, K, 1)) of groups (B, K, N); there: (B, K, 1) 1 or 0 where a place is empty."""
    count = there.sum(1, keepdim=True).clamp(min=1)
    centred = (guide - (guide * there).sum(1, keepdim=True) / count) * there
    values, vectors = torch.linalg.eigh(centred.transpose(1, 2) @ centred / count)
    values = values.clamp(min=0)
    share = values / (values + _DOUBT)
    middle = (signals * there).sum(1, keepdim=True) / count
    made = middle + ((signals - middle) @ (vectors * share[:, None])) @ vectors.transpose(1, 2)
    return made, there / (1 + share.sum(1))[:, None, None]
