"""Slices without ringing: subvoxel shifts along both axes, and what partial Fourier halved put back."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fornix.preprocess._gibbs_kernels import TAPS, shift_lines

Slices = NDArray[np.float32]

#: Places a voxel that shifts go to; finer ones gain nothing.
_FINE = 18
#: Noise is told from frequencies beyond this share of the highest along both axes.
_CORNER = 0.8
#: A neighbourhood's detail counts from this many times the noise's power; its width in voxels.
_DOUBT, _WIDTH = 3.0, 1.5


def without_ringing(
    slices: Slices,
    *,
    axes: tuple[bool, bool] = (True, True),
    partial_fourier: float = 1.0,
    partial_axis: int = 1,
    threads: int = 1,
) -> Slices:
    """The slices by local subvoxel shifts (Kellner et al., MRM 2016).

    The image is split in two parts, one that rings along the first axis and one along the second.

    Args:
        slices: (S, n, m) finite.
        axes: Along which of both axes it rings; the other part stays as it is.
        partial_fourier: Share of the lines of k-space that were measured, 1 is all.
        partial_axis: 0 or 1, along which they were left out.
        threads: Of the Fourier transforms.

    Returns:
        (S, n, m).
    """
    image = np.ascontiguousarray(slices, dtype=np.float32)
    if partial_fourier < 1:
        image = doubled(image, partial_fourier, partial_axis, threads)
    first = _along_first(image, axes[0], threads)
    second = _along_first(_turned(image), axes[1], threads)
    made = first + _turned(second)
    # No magnitude is negative, what was is left so.
    return np.maximum(made, np.minimum(slices, 0))


def doubled(slices: Slices, partial_fourier: float, axis: int, threads: int = 1) -> Slices:
    """Slices whose frequencies that were measured on one side only weigh as much as the others.

    Where one side of k-space is left empty, the magnitude image holds these frequencies at half their
    weight: the phase of a head is smooth, and to first order the other half goes into the imaginary part. So
    their band is added once more, where it stands out of the noise: that is what Wiener's filter leaves of it
    in a neighbourhood. The steps of k-space nearer than its border, and their ringing, go with it.

    Args:
        slices: (S, n, m).
        partial_fourier: More than 0.5, below 1.
        axis: 0 or 1.
        threads: Of the Fourier transforms.
    """
    n, m = slices.shape[1:]
    size = (n, m)[axis]
    along = np.abs(scipy.fft.fftfreq(size, 0.5))
    band = (along > 2 * partial_fourier - 1)[: size // 2 + 1].astype(np.float32)
    spectrum = scipy.fft.rfft(slices, axis=axis + 1, workers=threads)
    detail = scipy.fft.irfft(
        spectrum * (band[:, None] if axis == 0 else band), n=size, axis=axis + 1, workers=threads
    )
    power = gaussian_filter(detail**2, (0, _WIDTH, _WIDTH), mode="wrap")
    noise = _noise_power(slices, threads) * (2 - 2 * partial_fourier)
    with np.errstate(divide="ignore", invalid="ignore"):
        doubt = np.minimum(_DOUBT * noise[:, None, None] / power, 1)
    gain = np.where(power > 0, 1 - doubt**2, 0)
    return (slices + gain * detail).astype(np.float32)


def _noise_power(slices: Slices, threads: int) -> NDArray[np.float32]:
    """(S,) variance of white noise with the power of the corners of k-space, where it is not masked."""
    n, m = slices.shape[1:]
    first = np.abs(scipy.fft.fftfreq(n, 0.5)) >= _CORNER
    second = np.abs(scipy.fft.rfftfreq(m, 0.5)) >= _CORNER
    corner = scipy.fft.rfft2(slices, workers=threads)[:, first][:, :, second]
    seen = np.maximum((slices != 0).mean((1, 2)), 1e-3)
    return ((np.abs(corner) ** 2).mean((1, 2)) / (n * m) / seen).astype(np.float32)


def _along_first(image: Slices, rings: bool, threads: int) -> Slices:
    """The part of the image that rings along the first axis, without that ringing."""
    _, n, m = image.shape
    part = scipy.fft.rfft2(image, workers=threads) * _share(n, m)
    if not rings:
        return np.asarray(scipy.fft.irfft2(part, s=(n, m), workers=threads), dtype=np.float32)
    half = n // 2
    wide = np.zeros((len(image), 2 * n, part.shape[2]), np.complex64)
    wide[:, : half + 1] = 2 * part[:, : half + 1]
    wide[:, n + half + 1 :] = 2 * part[:, half + 1 :]
    if n % 2 == 0:  # the highest frequency of an even number stands for both of its signs
        wide[:, half] /= 2
        wide[:, -half] = wide[:, half]
    dense = scipy.fft.irfft2(wide, s=(2 * n, m), workers=threads, overwrite_x=True)
    out = np.empty_like(image)
    shift_lines(dense, _weights(_FINE), _FINE, _FINE // 2, out)
    return out


def _turned(image: Slices) -> Slices:
    return np.ascontiguousarray(np.swapaxes(image, 1, 2))


@lru_cache(maxsize=16)
def _share(n: int, m: int) -> NDArray[np.float32]:
    """(n, m // 2 + 1) share of each frequency in the part that rings along the first axis.

    1 at its highest frequencies, 0 at those of the second axis; both axes' shares sum to 1.
    """
    own = 1 + np.cos(2 * np.pi * scipy.fft.fftfreq(n))[:, None]
    other = 1 + np.cos(2 * np.pi * scipy.fft.rfftfreq(m))[None]
    both = own + other
    corner = both < 1e-9
    return np.where(corner, 0.5, other / np.where(corner, 1, both)).astype(np.float32)


@lru_cache(maxsize=4)
def _weights(fine: int) -> NDArray[np.float32]:
    """(fine, TAPS): values at parts of a voxel from samples two a voxel, by least squares over frequencies.

    Off by less than 0.001 of a wave of the highest frequency. Samples are -3 … 4 from the one at or before
    the place.
    """
    frequency = np.linspace(0, np.pi / 2, 400)
    sample = np.arange(TAPS) - TAPS // 2 + 1
    waves = np.concatenate([f(np.outer(frequency, sample)) for f in (np.cos, np.sin)])
    made = np.zeros((fine, TAPS))
    for q in range(fine):
        part = 2 * q / fine % 1
        wanted = np.concatenate([np.cos(frequency * part), np.sin(frequency * part)])
        made[q] = np.linalg.lstsq(waves, wanted, rcond=1e-10)[0] if part else sample == 0
        made[q] /= made[q].sum()
    return made.astype(np.float32)
