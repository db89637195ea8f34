"""Denoising from the scan itself: principal components of neighbourhoods, then of patches in cosines.

Three steps, each the guide of the next: MP-PCA; Wiener's filter on the principal components of
neighbourhoods; the same on cosines of small patches times principal components, which few directions gain
most from. The mean of a magnitude is more than the signal, so it is taken back to the signal at the end.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import ive

from fornix.core.compute import pick_device
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.preprocess._neighbourhood_wiener import filter_neighbourhoods
from fornix.preprocess._patch_wiener import filter_patches
from fornix.preprocess.mppca import mppca
from fornix.preprocess.noise import estimate_noise
from fornix.preprocess.noise_correlation import UNKNOWN, noise_correlation

_FEWEST = 7
#: Voxels between the patches of the first guide, of which little is asked.
_GUIDE_STEP = 4
#: Without a mask, voxels darker than this share of the bright ones are background.
_DARK = 0.08
#: Signals over the noise level at which what is expected of a magnitude is tabulated.
_TABLE = np.linspace(0, 30, 6001)
#: Standard deviation of the filter that takes the phase of the background, voxels in the slice plane.
_PHASE_WIDTH = 2.0


def qspace(dwi: DWI, device: str = "auto") -> DWI:
    """The denoised scan, without the Rician bias of its mean, and with its noise level.

    Voxels of the background, outside the mask or dark where there is none, stay as they are.

    Args:
        dwi: A magnitude scan of 7 volumes or more. Its `sigma` is used where it is known.
        device: `auto`, `cpu` or `cuda`.
    """
    made, inside, level = _denoised(dwi, device)
    data = np.array(dwi.data)
    data[inside] = true_signal(made[inside], level[inside][:, None])
    return dwi.with_(data=data, sigma=level)


def qspace_complex(dwi: DWI, phase: NDArray[np.floating], device: str = "auto") -> DWI:
    """The denoised scan from magnitude and phase: its real part holds all signal and no Rician bias.

    Args:
        dwi: The magnitudes.
        phase: (X, Y, Z, N) radians.
        device: `auto`, `cpu` or `cuda`.
    """
    real = real_part(dwi, phase)
    made, inside, level = _denoised(real, device)
    data = np.array(real.data)
    data[inside] = made[inside]
    return dwi.with_(data=data, sigma=level)


def real_part(dwi: DWI, phase: NDArray[np.floating]) -> DWI:
    """The real part of the images after their smooth background phase is taken off.

    Args:
        dwi: The magnitudes, slices along the third axis.
        phase: (X, Y, Z, N) radians.
    """
    if phase.shape != dwi.data.shape:
        raise FornixError(f"the phase has shape {phase.shape}, the magnitudes {dwi.data.shape}")
    data = np.asarray(dwi.data)
    if not np.isfinite(phase).all() or np.abs(phase).max() > 7:
        raise FornixError("the phase must be in radians, finite and within one turn or two")
    made = np.empty(data.shape, dtype=np.float32)
    width = (_PHASE_WIDTH, _PHASE_WIDTH, 0)
    for v in range(data.shape[3]):
        image = data[..., v] * np.exp(1j * phase[..., v])
        smooth = gaussian_filter(image.real, width) + 1j * gaussian_filter(image.imag, width)
        made[..., v] = (image * np.exp(-1j * np.angle(smooth))).real
    return dwi.with_(data=made)


def expected_magnitude(
    signal: NDArray[np.floating], sigma: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Mean magnitude of signals with complex noise; sigma: of one channel, of a shape that goes with them."""
    level = np.maximum(sigma, 1e-12)
    return np.asarray(_expected(np.maximum(signal, 0) / level) * level)


def _expected(ratio: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean of the Rice distribution with noise 1."""
    half = np.asarray(ratio, dtype=np.float64) ** 2 / 4
    return np.asarray(
        np.sqrt(np.pi / 2) * ((1 + 2 * half) * ive(0, half) + 2 * half * ive(1, half))
    )


def true_signal(mean: NDArray[np.floating], sigma: NDArray[np.floating]) -> NDArray[np.float32]:
    """The signal whose magnitude has this mean; 0 where it is no more than that of noise.

    Args:
        mean: Expected magnitudes.
        sigma: Noise level of one channel, of a shape that goes with it.

    Koay and Basser, Journal of Magnetic Resonance 179 (2006) 317.
    """
    expected = _expected(_TABLE)
    level = np.maximum(sigma, 1e-12)
    ratio = mean / level
    far = np.sqrt(np.maximum(ratio**2 - 1, 0))
    near = np.interp(ratio, expected, _TABLE)
    return np.asarray(np.where(ratio > expected[-1], far, near) * level, dtype=np.float32)


def _denoised(
    dwi: DWI, device: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Denoised signals (X, Y, Z, N), the voxels that they hold for, and the noise level (X, Y, Z)."""
    if len(dwi.gradients) < _FEWEST:
        raise FornixError(
            f"`qspace` needs {_FEWEST} volumes or more, there are {len(dwi.gradients)}; leave denoising out"
        )
    inside = _foreground(dwi) if dwi.mask is None else dwi.mask
    known = dwi.with_(mask=inside)
    if known.sigma is None:
        known = estimate_noise(known)
    level = np.broadcast_to(np.asarray(known.sigma, dtype=np.float32), dwi.grid)
    if not (level[inside] > 0).all():
        raise FornixError("the noise level is 0 in places; there is no noise to remove")
    level = np.where(level > 0, level, np.median(level[inside])).astype(np.float32)
    guided = mppca(known, device=device, step=_GUIDE_STEP)
    where = pick_device(device)
    correlation = noise_correlation(known, np.flatnonzero(inside))
    with torch.no_grad():
        scale = torch.from_numpy(level)[..., None].to(where)
        signals = torch.from_numpy(np.asarray(known.data)).to(where) / scale
        guide = torch.from_numpy(np.asarray(guided.data)).to(where) / scale
        chosen = torch.from_numpy(inside).to(where)
        guide[chosen] = filter_neighbourhoods(signals[chosen], guide[chosen], inside)
        made = filter_patches(
            signals, guide, inside, (0, 0, 0) if correlation == UNKNOWN else correlation
        )
        return (made * scale).cpu().numpy(), inside, level


def _foreground(dwi: DWI) -> NDArray[np.bool_]:
    mean = gaussian_filter(np.nan_to_num(dwi.mean_b0()), 1.0)
    bright = np.percentile(mean, 98)
    if not bright > 0:
        raise FornixError("the scan is empty: its b0 is 0 everywhere")
    return np.asarray(mean > _DARK * bright)
