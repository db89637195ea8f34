"""Marchenko-Pastur PCA, batched: needs torch, which the rest of preprocessing does not."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from scipy.ndimage import maximum_filter

from fornix.core.compute import blocks, in_parallel, pick_device
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.series import put_planes, room_like

#: Patches that go through linear algebra at once, at most, and their bytes; lots of them between two
#: moves of the window.
_PATCHES, _BYTES, _TOGETHER = 512, 1 << 23, 4


def mppca(dwi: DWI, device: str = "auto", radius: int = 2, step: int = 2) -> DWI:
    """Marchenko-Pastur PCA on overlapping patches of side 2 radius + 1, batched.

    In each patch the eigenvalues of the (voxels x volumes) matrix below the Marchenko-Pastur edge
    are noise and are dropped (Veraart et al., NeuroImage 2016; edge and noise level as in
    Cordero-Grande et al., NeuroImage 2019). Patches are taken at every other voxel and averaged
    with weights 1/(1 + rank), which costs an eighth of one patch per voxel.

    Args:
        dwi: The scan.
        device: `auto`, `cpu` or `cuda`.
        radius: Of a patch.
        step: Voxels from one patch to the next along each axis.
    """
    side = [min(2 * radius + 1, n) for n in dwi.grid]
    voxels, volumes = int(np.prod(side)), len(dwi.gradients)
    if voxels < 8 or volumes < 5:
        raise FornixError(
            f"MP-PCA needs 8 voxels in a patch and 5 volumes, there are {voxels} and {volumes}; "
            "leave denoising out"
        )
    where = pick_device(device)
    corners = _corners(dwi, side, step)
    offsets = torch.tensor(list(product(*[range(s) for s in side])))
    size = max(1, min(_PATCHES, _BYTES // (4 * voxels * volumes)))
    lots = list(blocks(len(corners), size))
    groups = [lots[i : i + _TOGETHER] for i in range(0, len(lots), _TOGETHER)]
    reach = [(int(corners[g[0].start, 0]), int(corners[g[-1].stop - 1, 0])) for g in groups]
    window = _Window(dwi, max((b - a for a, b in reach), default=0) + side[0])

    def work(part: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        index = window.rows(corners[part, None, :] + offsets[None])
        clean, variance, rank = _drop_noise(window.data[index].to(where))
        return index, clean.cpu(), variance.cpu(), rank.cpu()

    for group, (first, last) in zip(groups, reach):
        window.move(first, last + side[0])
        found = (
            in_parallel(work, group, compiled=False) if where.type == "cpu" else map(work, group)
        )
        for index, clean, variance, rank in found:
            window.add(index, clean, variance, 1.0 / (1.0 + rank))
    window.move(dwi.grid[0], dwi.grid[0])
    sigma = window.sigma
    if (sigma > 0).any():
        sigma = np.where(sigma > 0, sigma, np.median(sigma[sigma > 0]))
        return dwi.with_(data=window.out, sigma=sigma.astype(np.float32))
    return dwi.with_(data=window.out)


class _Window:
    """The planes x that patches lie in now: signals, sums over patches, and what is done of the scan.

    out: (X, Y, Z, N) the denoised signals, on disk where the scan is. sigma: (X, Y, Z), 0 where no
    patch lay.
    """

    def __init__(self, dwi: DWI, depth: int) -> None:
        self._dwi, self._depth = dwi, depth
        self._plane = dwi.grid[1] * dwi.grid[2]
        volumes = dwi.data.shape[3]
        self.data = torch.zeros(depth * self._plane, volumes)
        self._total = torch.zeros_like(self.data)
        self._weight = torch.zeros(depth * self._plane)
        self._noise = torch.zeros_like(self._weight)
        self._first = self._last = 0
        self.sigma = np.zeros(dwi.grid, dtype=np.float32)
        self.out = room_like(dwi.data)

    def rows(self, places: torch.Tensor) -> torch.Tensor:
        """Where voxels (…, 3) of the planes in the window stand in its arrays."""
        x, y, z = places.unbind(-1)
        return ((x % self._depth) * self._dwi.grid[1] + y) * self._dwi.grid[2] + z

    def add(
        self, index: torch.Tensor, clean: torch.Tensor, variance: torch.Tensor, trust: torch.Tensor
    ) -> None:
        """Add patches (B, voxels, N) that stand at index (B, voxels), weighted by trust (B,)."""
        every, shape = index.reshape(-1), index.shape
        part = (clean * trust[:, None, None]).reshape(-1, clean.shape[2])
        self._total.index_add_(0, every, part)
        self._weight.index_add_(0, every, trust[:, None].expand(shape).reshape(-1))
        level = (variance.clamp(min=0).sqrt() * trust)[:, None].expand(shape)
        self._noise.index_add_(0, every, level.reshape(-1))

    def move(self, first: int, last: int) -> None:
        """Finish the planes below `first` and read those below `last`."""
        for x in range(self._first, first):
            if x >= self._last:  # no patch lies in it
                put_planes(self.out, x, np.asarray(self._dwi.data[x : x + 1]))
                continue
            here = self._slot(x)
            data, total, weight = self.data[here], self._total[here], self._weight[here]
            done, weight = weight > 0, weight.clamp(min=1e-9)
            clean = torch.where(done[:, None], total / weight[:, None], data)
            put_planes(self.out, x, clean.numpy().reshape(1, *self._dwi.grid[1:], -1))
            noise = torch.where(done, self._noise[here] / weight, 0.0)
            self.sigma[x] = noise.numpy().reshape(self._dwi.grid[1:])
        for x in range(max(first, self._last), last):
            here = self._slot(x)
            signals = np.asarray(self._dwi.data[x : x + 1]).reshape(self._plane, -1)
            self.data[here] = torch.as_tensor(signals)
            for sums in (self._total, self._weight, self._noise):
                sums[here] = 0
        self._first, self._last = first, max(last, self._last)

    def _slot(self, x: int) -> slice:
        start = (x % self._depth) * self._plane
        return slice(start, start + self._plane)


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


def _corners(dwi: DWI, side: list[int], step: int) -> torch.Tensor:
    """Lowest corners of the patches, the last one along each axis flush with the border."""
    axes = []
    for n, s in zip(dwi.grid, side):
        starts = list(range(0, n - s + 1, step))
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
