"""The noise level where no volume is left over: the smallest principal component of each neighbourhood.

Six directions and a b0 fit a tensor without a rest, so the rest says nothing. Over a few millimetres,
though, tissue changes along two or three patterns of the volumes only, noise along all of them: the
smallest eigenvalue of the volumes' covariance there is noise (as in MP-PCA: Veraart et al., NeuroImage
2016). What neighbours share of the noise moves it little, unlike differences between neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Edge of a neighbourhood, voxels; distance between their centres; reach of the smoothing in centres.
_EDGE, _STRIDE, _REACH = 5, 2, 7
#: Patterns of the volumes that tissue is taken to follow, after its mean.
_PATTERNS = 2
#: Share of the neighbourhoods around that lie below: in some of them tissue follows every pattern.
_QUANTILE = 0.25
_AT_ONCE = 4096


def smallest_component(
    data: NDArray[np.floating], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Noise level from volumes of one scan.

    Args:
        data: (X, Y, Z, M) weighted volumes, M >= 3.
        inside: (X, Y, Z) the brain.

    Returns:
        (X, Y, Z), NaN where no neighbourhood lies near.
    """
    width = [min(_EDGE, n - 1 + n % 2) for n in data.shape[:3]]
    stride = [_STRIDE if n > _EDGE else 1 for n in data.shape[:3]]
    reach = [w // 2 for w in width]
    held = ndimage.uniform_filter(inside.astype(np.float32), width, mode="constant") > 0.999
    coarse = tuple(slice(r, n - r, s) for r, n, s in zip(reach, data.shape[:3], stride))
    centres = np.argwhere(held[coarse])
    found = np.full(held[coarse].shape, np.nan)
    if len(centres):
        corner = centres * np.array(stride)
        offsets = np.argwhere(np.ones(width, dtype=bool))
        expected = _smallest_of_noise(len(offsets), max(data.shape[3] - _PATTERNS, 1))
        for start in range(0, len(corner), _AT_ONCE):
            part = corner[start : start + _AT_ONCE, None, :] + offsets
            signals = data[part[..., 0], part[..., 1], part[..., 2]].astype(np.float64)
            signals -= signals.mean(1, keepdims=True)
            covariance = np.einsum("npi,npj->nij", signals, signals) / (len(offsets) - 1)
            fine = np.isfinite(covariance).all((1, 2))
            smallest = np.linalg.eigvalsh(covariance[fine])[:, 0].clip(0)
            place = tuple(centres[start : start + _AT_ONCE][fine].T)
            found[place] = np.sqrt(smallest / expected)
    level = _lower_quantile(found)
    back = [
        np.clip(np.rint((np.arange(n) - r) / s), 0, m - 1).astype(np.int64)
        for n, r, s, m in zip(data.shape[:3], reach, stride, level.shape)
    ]
    return np.asarray(level[np.ix_(*back)])


def _lower_quantile(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the neighbourhoods near each, NaN left out; where there are none, the nearest's."""
    known = np.isfinite(found)
    if not known.any():
        return found

    def quantile(values: NDArray[np.float64]) -> float:
        fine = values[np.isfinite(values)]
        return float(np.quantile(fine, _QUANTILE)) if len(fine) else np.nan

    # Each place counts with its surroundings as long as one of these is known.
    size = tuple(min(_REACH, n) for n in found.shape)
    level = ndimage.generic_filter(found, quantile, size=size, mode="constant", cval=np.nan)
    near = ndimage.distance_transform_edt(
        np.isnan(level), return_distances=False, return_indices=True
    )
    return ndimage.gaussian_filter(level[tuple(near)], 1.0)


def _smallest_of_noise(samples: int, components: int) -> float:
    """Smallest eigenvalue of the covariance of pure noise of unit variance, on average."""
    noise = np.random.default_rng(0).standard_normal((300, samples, components))
    noise -= noise.mean(1, keepdims=True)
    covariance = np.einsum("npi,npj->nij", noise, noise) / (samples - 1)
    return float(np.linalg.eigvalsh(covariance)[:, 0].mean())
