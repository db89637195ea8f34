"""Patches filtered in space and along the volumes at once, by Wiener's filter."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct

from fornix.core.compute import blocks
from fornix.preprocess._overlapping import Made, averaged_groups

#: Edge of a patch and steps between patches, voxels.
_SIDE, _STEP = 5, 2
#: The noise's variance counts this many times: the guide holds some of it too.
_DOUBT = 2.0
_BYTES = 1 << 23


def filter_patches(
    signals: torch.Tensor,
    guide: torch.Tensor,
    inside: NDArray[np.bool_],
    correlation: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> torch.Tensor:
    """Signals (X, Y, Z, N) after Wiener's filter of every patch, averaged where patches overlap.

    A patch is written in cosines along its axes and in the guide's principal components along the volumes;
    the guide's own coefficients say how much of each is signal (the second step of Dabov et al., IEEE TIP 16
    (2007) 2080, with one patch a group). The mean over a patch is kept as measured: nothing shifts it.

    Args:
        signals: (X, Y, Z, N) with noise of standard deviation 1.
        guide: The same, denoised before.
        inside: (X, Y, Z) patches that hold none of these voxels are left out.
        correlation: Of the noise of voxels beside each other along each axis.
    """
    grid, count = signals.shape[:3], signals.shape[3]
    side = [min(_SIDE, n) for n in grid]
    cosines, noise = _cosines(side, correlation)
    cosines, noise = cosines.to(signals), noise.to(signals)
    offsets = torch.tensor(list(product(*[range(s) for s in side])))
    corners = _corners(grid, side, inside)
    rows, guides = signals.reshape(-1, count), guide.reshape(-1, count)
    many = max(1, _BYTES // (4 * len(offsets) * count))

    def work(part: slice) -> Made:
        at = corners[part, None] + offsets[None]
        index = ((at[..., 0] * grid[1] + at[..., 1]) * grid[2] + at[..., 2]).to(signals.device)
        made, trust = _filtered(rows[index], guides[index], cosines, noise)
        return index, made * trust, trust

    done = averaged_groups(work, list(blocks(len(corners), many)), rows)
    return done.reshape(signals.shape)


def _filtered(
    signals: torch.Tensor, guide: torch.Tensor, cosines: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(filtered, trust (B, 1, 1)) of patches (B, V, N)."""
    centred = guide - guide.mean(1, keepdim=True)
    _, vectors = torch.linalg.eigh(centred.transpose(1, 2) @ centred)
    power = (cosines @ (centred @ vectors)) ** 2
    share = power / (power + _DOUBT * noise[:, None])
    share[:, 0] = 1
    made = (cosines @ (signals @ vectors)) * share
    trust = 1 / ((share**2).sum((1, 2)))
    return cosines.T @ (made @ vectors.transpose(1, 2)), trust[:, None, None]


def _cosines(
    side: list[int], correlation: tuple[float, float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(V, V) orthonormal cosines of a patch, its mean first, and the noise's variance in each, (V,)."""
    basis, variance = np.ones((1, 1)), np.ones(1)
    for n, near in zip(side, correlation):
        along = dct(np.eye(n), axis=0, norm="ortho")
        # As a Gaussian filter correlates it.
        apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        covariance = near ** (apart.astype(float) ** 2) if near > 0 else np.eye(n)
        own = np.einsum("ki,ij,kj->k", along, covariance, along).clip(1e-3)
        basis, variance = np.kron(basis, along), np.kron(variance, own)
    return torch.from_numpy(basis).float(), torch.from_numpy(variance).float()


def _corners(grid: torch.Size, side: list[int], inside: NDArray[np.bool_]) -> torch.Tensor:
    """Lowest corners (m, 3) of the patches that hold a voxel inside; the last ones flush with the border."""
    starts = [sorted({*range(0, n - s + 1, _STEP), n - s}) for n, s in zip(grid, side)]
    sums = np.pad(inside.astype(np.int64), ((1, 0),) * 3).cumsum(0).cumsum(1).cumsum(2)
    corners = np.array(list(product(*starts)))
    held = np.zeros(len(corners), dtype=np.int64)
    for far in product((0, 1), repeat=3):
        at = corners + np.array(far) * np.array(side)
        held += (-1) ** (3 - sum(far)) * sums[tuple(at.T)]
    return torch.from_numpy(corners[held > 0])
