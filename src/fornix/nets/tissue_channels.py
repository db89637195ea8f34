"""What the tissue network sees of a scan, whatever its protocol: four maps, all of the same scale.

The training's synthetic heads go through the same `channels`, so that both meet the network alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.dwi import DWI

Array = NDArray[np.float32]

#: Channels of the network: b0, weighted mean brought to b = 1000, diffusivity, anisotropy, and 1 where there
#: is an image at all.
CHANNELS = 5
#: b-values that are averaged, s/mm²: below there is blood's signal, above tissue sinks into the noise.
LOWEST, HIGHEST = 300.0, 1800.0
#: Volumes below which anisotropy is not told.
_FEWEST = 6


@dataclass(frozen=True, eq=False)
class ScanMaps:
    """Maps of a scan on its own grid.

    Attributes:
        b0: (X, Y, Z) mean without diffusion weighting, any unit.
        weighted: (X, Y, Z) mean of weighted volumes in the same unit; None where there are none.
        b: Mean b-value of those, s/mm².
        anisotropy: (X, Y, Z) standard deviation over directions divided by the mean, without the noise's
            share; None with fewer than six directions.
    """

    b0: Array
    weighted: Array | None
    b: float
    anisotropy: Array | None


def scan_maps(dwi: DWI) -> ScanMaps:
    """The maps of a scan; one pass over the volumes that are used."""
    b0 = np.nan_to_num(dwi.mean_b0()).clip(0)
    bvals = dwi.gradients.bvals
    index = _chosen(dwi)
    if not len(index):
        return ScanMaps(b0, None, 0.0, None)
    b = float(bvals[index].mean())
    if len(index) < _FEWEST:
        return ScanMaps(b0, np.nan_to_num(dwi.mean_of(index)).clip(0), b, None)
    design = _design(bvals[index], dwi.gradients.directions[index])
    # Projection onto the second-order harmonics; their spread over the directions is the anisotropy.
    q, r = np.linalg.qr(design)
    kept = np.abs(np.diag(r)) > 1e-6 * np.abs(r).max()
    isotropic, angular = q[:, :3][:, kept[:3]], q[:, 3:][:, kept[3:]]
    n, rest = len(index), len(index) - int(kept.sum())
    basis = np.ascontiguousarray(np.concatenate([isotropic, angular], 1), np.float32)
    mean, spread = np.empty(dwi.grid, np.float32), np.empty(dwi.grid, np.float32)
    residual = np.zeros(dwi.grid, np.float32)
    for here, signals in dwi.slabs(index):
        rows = np.nan_to_num(signals.reshape(-1, n), copy=False)
        middle = rows.mean(1)
        mean[here] = middle.reshape(mean[here].shape)
        # The constant is in the design: without it the residual is no small difference of large numbers.
        rows = rows - middle[:, None]
        fitted = rows @ basis
        power = np.square(fitted[:, isotropic.shape[1] :]).sum(1)
        spread[here] = power.reshape(mean[here].shape)
        if rest > 0:
            left = np.einsum("vn,vn->v", rows, rows) - np.square(fitted).sum(1)
            residual[here] = (left / rest).reshape(mean[here].shape)
    mean = mean.clip(0)
    bright = mean > mean.mean()
    noise = float(np.median(residual[bright])) if rest > 0 and bright.any() else 0.0
    variance = (spread - angular.shape[1] * noise).clip(0) / n
    floor = 0.1 * _scale(mean)
    return ScanMaps(b0, mean, b, np.sqrt(variance) / np.maximum(mean, max(floor, 1e-12)))


def _chosen(dwi: DWI) -> NDArray[np.int64]:
    """Weighted volumes between LOWEST and HIGHEST, or those of the b-value nearest to them."""
    bvals = dwi.gradients.bvals
    weighted = ~dwi.gradients.b0_mask
    index = np.flatnonzero(weighted & (bvals >= LOWEST) & (bvals <= HIGHEST))
    if len(index) or not weighted.any():
        return index
    away = np.abs(bvals - 1000.0)
    nearest = bvals[weighted][away[weighted].argmin()]
    return np.flatnonzero(weighted & (np.abs(bvals - nearest) < 150))


def _design(bvals: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Constant, two powers of b, then the five second-order products of directions, (n, 8)."""
    x, y, z = directions.T
    b = bvals / 1000.0
    spread = b - b.mean()
    steps = np.stack([spread, spread**2 - (spread**2).mean()], 1) * (np.ptp(b) > 0.1)
    turns = np.stack([x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], 1)
    # Steeper where b is larger; harmonics are told apart from a mere change of b.
    return np.concatenate([np.ones((len(b), 1)), steps, turns * b[:, None]], 1)


def _scale(image: Array) -> float:
    """The signal of tissue, roughly: the mean of what is above the mean."""
    above = image[image > image.mean()]
    return float(above.mean()) if len(above) else 1.0


def channels(
    b0: torch.Tensor,
    weighted: torch.Tensor | None,
    b: float,
    anisotropy: torch.Tensor | None,
    field: torch.Tensor,
) -> torch.Tensor:
    """What the network sees, (5, X, Y, Z), from maps on its working grid.

    Args:
        b0: See `ScanMaps`.
        weighted: See `ScanMaps`.
        b: See `ScanMaps`.
        anisotropy: See `ScanMaps`.
        field: (X, Y, Z) 1 where there is an image, 0 where the grid goes beyond it.
    """
    made = b0.new_zeros((CHANNELS, *b0.shape))
    made[4] = field
    there = field > 0.5
    if not bool(there.any()):
        return made
    scale = _level(b0, there)
    made[0] = (b0 / scale).clamp(0, 8).sqrt()
    if weighted is not None:
        share = min(1.0, 1000.0 / b)
        bright = b0.clamp(min=0) ** (1 - share) * weighted.clamp(min=0) ** share
        made[1] = (bright / _level(bright, there)).clamp(0, 8).sqrt()
        floor = 0.02 * scale
        decay = torch.log((b0 + floor) / (weighted.clamp(min=0) + floor)) * (1000.0 / b)
        # In the dark it is noise: shown as far as there is signal.
        made[2] = decay.clamp(-0.5, 3.5) / 2 * (b0 / (b0 + 0.1 * scale))
        if anisotropy is not None:
            made[3] = (
                2 * anisotropy.clamp(0, 1.5) * (bright / (bright + 0.1 * _level(bright, there)))
            )
    return made * field


def _level(image: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """The signal of tissue, roughly: the mean of what is above the mean; bright fat or fluid counts less."""
    inside = image[there]
    above = inside[inside >= inside.mean()]
    return above.sqrt().mean().square().clamp(min=1e-12)
