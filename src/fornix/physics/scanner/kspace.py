"""What happens in k-space: truncation (Gibbs ringing), partial Fourier, the Nyquist ghost."""

from __future__ import annotations

import torch

from fornix.physics.scanner.artefacts import Artefacts


def lines(size: int) -> torch.Tensor:
    """Signed k-space index of each FFT sample, (size,)."""
    return torch.fft.fftfreq(size, 1.0 / size).round()


def in_kspace(volume: torch.Tensor, artefacts: Artefacts) -> torch.Tensor:
    """Magnitude image after truncation, partial Fourier (zero-filled) and ghosting: (X, Y, Z).

    The ghost is a phase of ± asin(ghost) on odd and even lines; it moves `ghost` of the signal half
    a field of view along the phase-encoded axis (Bruder et al., MRM 1992).
    """
    axes = [a for a in range(3) if a != artefacts.slice_axis]
    kspace = torch.fft.fftn(volume, dim=axes)
    for axis in axes:
        index = lines(volume.shape[axis]).to(volume.device)
        half = volume.shape[axis] / 2
        keep = index.abs() <= artefacts.gibbs * half
        factor = keep.to(kspace.dtype)
        if axis == artefacts.phase_axis:
            factor = factor * (index >= -(2 * artefacts.partial_fourier - 1) * half)
            angle = torch.asin(torch.tensor(artefacts.ghost, dtype=volume.dtype))
            sense = 1 - 2 * (index.long() % 2)
            factor = factor * torch.exp(1j * angle.to(volume.device) * sense)
        shape = [1, 1, 1]
        shape[axis] = -1
        kspace = kspace * factor.reshape(shape)
    return torch.fft.ifftn(kspace, dim=axes).abs()


def touches_kspace(artefacts: Artefacts) -> bool:
    """Whether any of it is switched on."""
    return artefacts.gibbs < 1 or artefacts.partial_fourier < 1 or artefacts.ghost > 0
