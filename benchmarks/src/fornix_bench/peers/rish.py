"""Linear RISH as published: per shell, of one protocol at both sites, the harmonics' residual dropped.

Cetin Karayumak et al., NeuroImage 184 (2019) 180; the equations of their section 2, written anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.numerics import harmonics

Array = NDArray[np.float64]
#: b of a shell, and order.
Key = tuple[int, int]
LMAX = 4
_SMALL = 1e-6


def features(dwi: DWI) -> dict[Key, Array]:
    """Energy (X, Y, Z) of each order on each shell, of the signal over S0."""
    out = {}
    for b, coefficients, _ in _shells(dwi):
        for ell in range(0, LMAX + 1, 2):
            out[b, ell] = (coefficients[..., harmonics.order_slice(ell)] ** 2).sum(-1)
    return out


def scales(
    site: Sequence[Mapping[Key, Array]], reference: Sequence[Mapping[Key, Array]]
) -> dict[Key, Array]:
    """Scale of each order: root of the ratio of mean energies."""
    return {
        k: np.sqrt(
            np.mean([f[k] for f in reference], 0) / (np.mean([f[k] for f in site], 0) + _SMALL)
        )
        for k in site[0]
    }


def harmonized(dwi: DWI, scale: Mapping[Key, Array]) -> DWI:
    """The scan from its scaled harmonics."""
    data = np.array(dwi.data, np.float64)
    s0 = _s0(dwi)[..., None]
    for b, coefficients, volumes in _shells(dwi):
        made = coefficients.copy()
        for ell in range(0, LMAX + 1, 2):
            made[..., harmonics.order_slice(ell)] *= scale[b, ell][..., None]
        basis = harmonics.evaluate(LMAX, dwi.gradients.directions[volumes])
        data[..., volumes] = np.clip(made @ basis.T, 0, None) * s0
    return dwi.with_(data=data.astype(np.float32))


def _s0(dwi: DWI) -> Array:
    return np.maximum(np.asarray(dwi.data)[..., dwi.gradients.b0_mask].mean(-1), 1e-3).astype(float)


def _shells(dwi: DWI) -> list[tuple[int, Array, list[int]]]:
    signals = np.asarray(dwi.data) / _s0(dwi)[..., None]
    out = []
    for shell in dwi.gradients.shells:
        volumes = list(shell.volumes)
        basis = harmonics.evaluate(LMAX, dwi.gradients.directions[volumes])
        out.append((round(shell.b), signals[..., volumes] @ np.linalg.pinv(basis).T, volumes))
    return out
