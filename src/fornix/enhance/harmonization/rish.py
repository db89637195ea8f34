"""Rotation-invariant features of the signal at reference b-values, of any protocol, and the signal with them
scaled.

The energy of each harmonic order says how strong the signal is (order 0) and how sharply it depends on
direction (2, 4, …), whatever way the fibres run. Linear RISH scales each order of a site by the root of the
ratio of its mean energies to the reference's. As published it needs one protocol everywhere: energies are of
a shell that all have. Here they come from the q-space encoder: a site's at its own shells, where they are
measured, and the reference's at the shells of all.

Mirzaalian et al., NeuroImage 135 (2016) 311; Cetin Karayumak et al., NeuroImage 184 (2019) 180.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.estimators.predict import normalised
from fornix.numerics.directions import spread
from fornix.qspace.encoder import Encoder

Array = NDArray[np.float32]
#: Order and b in s/mm².
Feature = tuple[int, int]

ORDERS = (0, 2, 4)
#: Shells count as one where their b differ by no more than this share; b of features are multiples of _STEP.
_NEAR, _STEP = 0.07, 50
#: Share of the noise that the encoder is told when energies are asked for: told all of it, it would draw a
#: noisy scan to the prior, and the site would look as if its signal were weaker.
_TRUST = 0.3
_BLOCK = 16_384
#: Least share of an energy that is left after its noise is taken off.
_LEAST = 0.1
#: Scales are kept within a factor of this.
_LARGEST = 2.0


def feature_name(feature: Feature) -> str:
    """Name of a feature as a map: `rish_l2b1000`."""
    return f"rish_l{feature[0]}b{feature[1]}"


def features_of(protocols: Sequence[Gradients]) -> tuple[Feature, ...]:
    """Every order at every b at which one of the protocols has a shell."""
    levels: list[int] = []
    for b in sorted(s.b for p in protocols for s in p.shells):
        if not levels or b > levels[-1] * (1 + _NEAR):
            levels.append(int(round(b / _STEP) * _STEP))
    return tuple((ell, b) for ell in ORDERS for b in levels)


def told_by(
    gradients: Gradients, features: Sequence[Feature], between: bool
) -> tuple[Feature, ...]:
    """The features that a protocol tells.

    Args:
        gradients: The protocol.
        features: Those asked for.
        between: Also between its shells, by the encoder: of the reference, and of protocols without shells.
    """
    shells = np.array([s.b for s in gradients.shells])
    top = float(gradients.bvals.max()) * (1 + _NEAR)
    if between or gradients.continuous_b:
        return tuple(f for f in features if f[1] <= top)
    return tuple(f for f in features if (np.abs(shells - f[1]) <= _NEAR * f[1]).any())


def energies(dwi: DWI, features: Sequence[Feature]) -> dict[Feature, Array]:
    """Energy (X, Y, Z) of each order of the signal over S0 at each b, less that of the noise.

    NaN outside the mask.

    Args:
        dwi: The scan, with mask and noise level.
        features: Orders and b-values.

    Raises:
        FornixError: No b0, or no noise level.
    """
    _check(dwi)
    signals, _, sigma = normalised(dwi)
    encoder = Encoder(dwi.gradients)
    matrices = {f: _matrix(encoder, *f) for f in features}
    found = {f: np.empty(len(signals), np.float32) for f in features}
    for part in blocks(len(signals), _BLOCK):
        noise = sigma[part].to(encoder.device)
        told = encoder.shrink(encoder.project(signals[part].to(encoder.device)), _TRUST * noise)
        spread_of = encoder.noise_of(told.weight, noise)
        for feature, (matrix, mean) in matrices.items():
            coefficients = told.z @ matrix.T + mean
            energy = (coefficients**2).sum(1)
            bias = (spread_of @ (encoder.turned(matrix) ** 2).T).sum(1)
            found[feature][part] = torch.maximum(energy - bias, _LEAST * energy).cpu().numpy()
    return {f: _unmasked(dwi, v) for f, v in found.items()}


def rescaled(dwi: DWI, log_scales: Mapping[Feature, Array]) -> DWI:
    """The scan with each order of its signal scaled; what the encoder does not explain is kept as it is.

    Args:
        dwi: The scan, with mask and noise level.
        log_scales: (X, Y, Z) log of the factor by feature; between their b-values it is linear in b.
    """
    _check(dwi)
    signals, s0, sigma = normalised(dwi)
    encoder = Encoder(dwi.gradients)
    inside = np.flatnonzero(dwi.brain())
    weighted = torch.as_tensor(~dwi.gradients.b0_mask)
    limit = float(np.log(_LARGEST))
    factors = {
        f: np.clip(np.nan_to_num(v.reshape(-1)[inside]), -limit, limit)
        for f, v in log_scales.items()
    }
    added = np.zeros(signals.shape, np.float32)
    for part in blocks(len(signals), _BLOCK):
        z = encoder.encode(signals[part].to(encoder.device), sigma[part].to(encoder.device)).z
        change = torch.zeros_like(signals[part])
        for ell, band in _bands(encoder, z):
            scale = _at(factors, ell, part, dwi.gradients)
            if scale is not None:
                change += (torch.from_numpy(np.exp(scale)) - 1) * band.cpu() * weighted
        added[part] = change.numpy()
    data = np.clip(dwi.signals() + added * s0[:, None], 0, None)
    out = np.array(dwi.data, np.float32).reshape(-1, len(dwi.gradients))
    out[inside] = data
    return dwi.with_(data=out.reshape(*dwi.grid, -1))


def _check(dwi: DWI) -> None:
    if dwi.sigma is None:
        raise FornixError("the noise level is not known; call estimate_noise first")


def _matrix(encoder: Encoder, ell: int, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients of one order at one b: (2l + 1, F) of the features, (2l + 1,) of the mean."""
    from fornix.numerics import harmonics

    directions = spread(60)
    basis = harmonics.evaluate(encoder.prior.lmax, directions)
    design = encoder.prior.design(np.full(60, b / 1000), directions)
    made = np.linalg.pinv(basis)[harmonics.order_slice(ell)] @ design
    mean = np.zeros(2 * ell + 1)
    if ell == 0:
        mean[0] = float(encoder.prior.mean_at([b / 1000])[0]) * np.sqrt(4 * np.pi)
    made, mean = made.astype(np.float32), mean.astype(np.float32)
    return torch.as_tensor(made).to(encoder.device), torch.as_tensor(mean).to(encoder.device)


def _bands(encoder: Encoder, z: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Each order's part (voxels, N) of the predicted signal at the scan's own gradients."""
    gradients = encoder.gradients
    design = torch.as_tensor(
        encoder.prior.design(gradients.b, gradients.directions),
        dtype=torch.float32,
        device=encoder.device,
    )
    start = 0
    for i, factor in enumerate(encoder.prior.factors):
        stop = start + len(factor) * (4 * i + 1)
        band = z[:, start:stop] @ design[:, start:stop].T
        if i == 0:
            mean = encoder.prior.mean_at(gradients.b)
            band = band + torch.as_tensor(mean, dtype=torch.float32, device=encoder.device)
        yield 2 * i, band
        start = stop


def _at(
    factors: Mapping[Feature, NDArray[np.floating]], ell: int, part: slice, gradients: Gradients
) -> Array | None:
    """Log factors (voxels, N) of one order at the scan's b-values."""
    known = sorted(b for order, b in factors if order == ell)
    if not known:
        return None
    values = np.stack([factors[ell, b][part] for b in known])
    weights = np.stack([np.interp(gradients.bvals, known, row) for row in np.eye(len(known))])
    return np.asarray(values.T @ weights, np.float32)


def _unmasked(dwi: DWI, values: Array) -> Array:
    out = np.full(int(np.prod(dwi.grid)), np.nan, np.float32)
    out[np.flatnonzero(dwi.brain())] = values
    return out.reshape(dwi.grid)
