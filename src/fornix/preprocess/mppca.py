"""Marchenko-Pastur PCA, batched: needs torch, which the rest of preprocessing does not."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from scipy.ndimage import maximum_filter

from fornix.core.compute import blocks, pick_device
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError


def mppca(dwi: DWI, device: str = "auto", radius: int = 2) -> DWI:
    """Marchenko-Pastur PCA on overlapping patches of side 2 radius + 1, batched.

    In each patch the eigenvalues of the (voxels x volumes) matrix below the Marchenko-Pastur edge
    are noise and are dropped (Veraart et al., NeuroImage 2016; edge and noise level as in
    Cordero-Grande et al., NeuroImage 2019). Patches are taken at every other voxel and averaged
    with weights 1/(1 + rank), which costs an eighth of one patch per voxel.
    """
    side = [min(2 * radius + 1, n) for n in dwi.grid]
    voxels, volumes = int(np.prod(side)), len(dwi.gradients)
    if voxels < 8 or volumes < 5:
        raise FornixError(
            f"MP-PCA needs 8 voxels in a patch and 5 volumes, there are {voxels} and {volumes}; "
            "leave denoising out"
        )
    where = pick_device(device)
    data = torch.as_tensor(np.asarray(dwi.data))
    corners = _corners(dwi, side)
    total = torch.zeros_like(data)
    weight = torch.zeros(dwi.grid)
    noise = torch.zeros(dwi.grid)
    offsets = torch.tensor(list(product(*[range(s) for s in side])))
    _, ny, nz = dwi.grid
    flat, flat_total = data.reshape(-1, volumes), total.reshape(-1, volumes)
    flat_weight, flat_noise = weight.reshape(-1), noise.reshape(-1)
    for part in blocks(len(corners), 512):
        index = corners[part, None, :] + offsets[None]
        index = (index[..., 0] * ny + index[..., 1]) * nz + index[..., 2]
        patch = flat[index].to(where)
        clean, variance, rank = _drop_noise(patch)
        trust = 1.0 / (1.0 + rank)
        spread = trust[:, None].expand(-1, voxels)
        every = index.reshape(-1)
        flat_total.index_add_(0, every, (clean * trust[:, None, None]).reshape(-1, volumes).cpu())
        flat_weight.index_add_(0, every, spread.reshape(-1).cpu())
        level = (variance.clamp(min=0).sqrt() * trust)[:, None].expand(-1, voxels)
        flat_noise.index_add_(0, every, level.reshape(-1).cpu())
    done = weight > 0
    out = torch.where(done[..., None], total / weight.clamp(min=1e-9)[..., None], data)
    sigma = torch.where(done, noise / weight.clamp(min=1e-9), 0.0).numpy()
    if (sigma > 0).any():
        sigma = np.where(sigma > 0, sigma, np.median(sigma[sigma > 0]))
        return dwi.with_(data=out.numpy(), sigma=sigma.astype(np.float32))
    return dwi.with_(data=out.numpy())


def _drop_noise(patch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(clean patches, noise variance, rank kept) of patches (B, voxels, volumes)."""
    _, m, n = patch.shape
    mean = patch.mean(dim=1, keepdim=True)
    centred = patch - mean
    small, large = min(m, n), max(m, n)
    gram = centred.transpose(1, 2) @ centred if n <= m else centred @ centred.transpose(1, 2)
    values, vectors = torch.linalg.eigh(gram.double() / large)
    values = values.clamp(min=0)
    # For each number q of smallest eigenvalues taken as noise: their mean is one estimate of the
    # variance, the width of their spectrum another; noise ends where the second exceeds the first.
    count = torch.arange(1, small + 1, dtype=values.dtype, device=values.device)
    gamma = (small - (small - count)) / (large - (small - count))
    by_mean = torch.cumsum(values, 1) / count
    by_width = (values - values[:, :1]) / (4 * torch.sqrt(gamma))
    is_noise = by_width <= by_mean
    kept_from = is_noise.to(torch.int64).mul(torch.arange(1, small + 1)).amax(1)
    variance = by_mean.gather(1, (kept_from - 1).clamp(min=0)[:, None])[:, 0]
    keep = torch.arange(small)[None] >= kept_from[:, None]
    basis = (vectors * keep[:, None, :]).to(patch.dtype)
    if n <= m:
        clean = (centred @ basis) @ basis.transpose(1, 2)
    else:
        clean = basis @ (basis.transpose(1, 2) @ centred)
    return clean + mean, variance.to(patch.dtype), keep.sum(1).to(patch.dtype)


def _corners(dwi: DWI, side: list[int]) -> torch.Tensor:
    """Lowest corners of the patches: every other voxel, the last one flush with the border."""
    axes = []
    for n, s in zip(dwi.grid, side):
        starts = list(range(0, n - s + 1, 2))
        if starts[-1] != n - s:
            starts.append(n - s)
        axes.append(starts)
    corners = np.array(list(product(*axes)))
    # A patch that holds no brain and hardly any signal is left as it is.
    bright = dwi.mean_b0() > 0 if dwi.mask is None else dwi.mask
    centre = corners + np.array(side) // 2
    reach = np.array(side) // 2
    near = maximum_filter(bright, size=[2 * r + 1 for r in reach])
    return torch.as_tensor(corners[near[tuple(centre.T)]])
