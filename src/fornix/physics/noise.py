"""Noise of magnitude images: Rician, non-central chi, spatially varying, correlated.

Every volume (and coil) has its own random stream keyed by (seed, volume, coil), drawn on the CPU:
the same seed gives the same bits for any number of threads, any block of volumes and any device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from fornix.core.errors import FornixError


@dataclass(frozen=True)
class Noise:
    """How the scanner's noise behaves.

    Attributes:
        snr: Reference signal (white matter at b = 0) over the standard deviation of one real channel at
            the map's mean level; infinite is no noise.
        coils: 1 is Rician; more is sum of squares, non-central chi with 2 * coils degrees of freedom.
        coil_correlation: Correlation of the noise between any two coils, 0 to below 1.
        variation: Relative amplitude of a smooth g-factor-like map, 0 is uniform; the centre is
            noisiest.
        smoothing: Full width at half maximum, in voxels, of the kernel that correlates neighbours, as
            interpolation does; the standard deviation is kept. 0 is white noise.
    """

    snr: float = 30.0
    coils: int = 1
    coil_correlation: float = 0.0
    variation: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not self.snr > 0:
            raise FornixError(f"snr must be positive (inf is no noise), not {self.snr}")
        if self.coils < 1:
            raise FornixError(f"coils must be 1 or more, not {self.coils}")
        if not 0 <= self.coil_correlation < 1:
            raise FornixError(f"coil_correlation must lie in [0, 1), not {self.coil_correlation}")
        if not 0 <= self.variation < 1 or self.smoothing < 0:
            raise FornixError("variation must lie in [0, 1) and smoothing be 0 or more")


def stream(seed: int, *key: int) -> torch.Generator:
    """A CPU generator of its own for (seed, key): independent of every other key."""
    word = np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word >> np.uint64(1)))


def sigma_map(
    noise: Noise, grid: tuple[int, int, int], reference: float, seed: int = 0
) -> torch.Tensor:
    """Standard deviation of one real channel per voxel, (X, Y, Z), mean level reference / snr.

    It rises smoothly to the middle, as the g-factor of parallel imaging does, with a random smooth
    part of a third of the amplitude.
    """
    level = reference / noise.snr
    flat = torch.full(grid, level, dtype=torch.float32)
    if not noise.variation or level == 0:
        return flat
    axes = [torch.linspace(-1, 1, size) if size > 1 else torch.zeros(1) for size in grid]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    middle = torch.exp(-(x**2 + y**2 + 0.5 * z**2))
    coarse = torch.randn((1, 1, 4, 4, 4), generator=stream(seed, 10**6))
    rough = F.interpolate(coarse, size=grid, mode="trilinear", align_corners=True)[0, 0]
    shape = middle + rough / 3
    shape = shape - shape.mean()
    shape = shape / shape.abs().max().clamp_min(1e-6)
    return flat * (1 + noise.variation * shape)


def add(
    signal: torch.Tensor,
    sigma: torch.Tensor | float,
    noise: Noise,
    seed: int = 0,
    first_volume: int = 0,
) -> torch.Tensor:
    """Magnitude images with noise: (X, Y, Z, N) or (n, N) like the signal.

    Rician: Gudbjartsson & Patz, MRM 1995. Non-central chi: Constantinides et al., MRM 1997;
    correlated coils: Aja-Fernandez & Tristan-Vega, MRM 2012.

    Args:
        signal: Noise-free magnitude. With several coils each of C coils sees signal / sqrt(C), so that
            the sum of squares of the noise-free coils is the signal.
        sigma: Standard deviation of one real channel, a number or a map over the leading axes.
        noise: The noise model.
        seed: Of all chance.
        first_volume: Index of the first volume given, so that blocks of volumes draw what the whole
            would.
    """
    if noise.snr == float("inf"):
        return signal.clone()
    space = signal.shape[:-1]
    level = torch.as_tensor(sigma).to(signal)
    common, own = noise.coil_correlation**0.5, (1 - noise.coil_correlation) ** 0.5
    out = torch.empty_like(signal)
    for v in range(signal.shape[-1]):
        volume = first_volume + v
        clean = signal[..., v] / noise.coils**0.5
        shared = _field(noise, space, seed, volume, 0, signal) if common else None
        total = torch.zeros_like(clean)
        for coil in range(noise.coils):
            channels = own * _field(noise, space, seed, volume, coil + 1, signal)
            if shared is not None:
                channels = channels + common * shared
            total += (clean + level * channels[0]) ** 2 + (level * channels[1]) ** 2
        out[..., v] = total.sqrt()
    return out


def _field(
    noise: Noise, space: torch.Size, seed: int, volume: int, coil: int, like: torch.Tensor
) -> torch.Tensor:
    """Real and imaginary standard normal fields, (2, *space), correlated if asked for."""
    drawn = torch.randn((2, *space), generator=stream(seed, volume, coil), dtype=torch.float32)
    if noise.smoothing and len(space) == 3:
        drawn = smooth(drawn, noise.smoothing)
    return drawn.to(like)


def kernel(fwhm: float) -> torch.Tensor:
    """A Gaussian of this full width at half maximum in voxels, scaled to sum of squares 1."""
    width = fwhm / 2.3548
    reach = max(1, int(np.ceil(3 * width)))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / width) ** 2)
    return taps / taps.square().sum().sqrt()


def smooth(fields: torch.Tensor, fwhm: float | tuple[float, float, float]) -> torch.Tensor:
    """Correlate (C, X, Y, Z) white noise, standard deviation kept (wraps round).

    Args:
        fields: White noise.
        fwhm: Of the kernel in voxels, along all axes or along each; below 0.3 an axis is left white.
    """
    widths = (fwhm,) * 3 if isinstance(fwhm, float | int) else fwhm
    for axis, width in zip((1, 2, 3), widths, strict=True):
        if width < 0.3:
            continue
        taps = kernel(width)
        reach = len(taps) // 2
        made = torch.zeros_like(fields)
        for weight, shift in zip(taps.tolist(), range(-reach, reach + 1)):
            made += weight * torch.roll(fields, shift, axis)
        fields = made
    return fields


def fwhm_of(correlation: float) -> float:
    """Width in voxels of the kernel that leaves voxels beside each other with this correlation."""
    widths, correlations = _correlations()
    if correlation < correlations[0]:
        return 0.0
    return float(np.interp(correlation, correlations, widths))


@lru_cache(maxsize=1)
def _correlations() -> tuple[np.ndarray, np.ndarray]:
    """Widths of kernels and the correlation that each leaves: of the taps, which are few."""
    widths = np.linspace(0.6, 12.0, 400)
    taps = [kernel(float(w)) for w in widths]
    return widths, np.array([float((t[1:] * t[:-1]).sum()) for t in taps])


def moments(signal: np.ndarray, sigma: float, coils: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the noisy magnitude for independent coils (exact).

    E[M²] = S² + 2 L sigma², E[M] = sigma sqrt(pi/2) L_{1/2}^{(L-1)}(-S²/2 sigma²).
    """
    from scipy.special import gammaln, hyp1f1

    s = np.asarray(signal, dtype=np.float64)
    rise = np.exp(gammaln(coils + 0.5) - gammaln(coils)) * np.sqrt(2) * sigma
    mean = rise * hyp1f1(-0.5, coils, -(s**2) / (2 * sigma**2))
    return mean, s**2 + 2 * coils * sigma**2 - mean**2
