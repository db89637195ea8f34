"""The Watson distribution on the sphere, exp(kappa (mu·u)²), through its Legendre moments.

The moment w_l = <P_l(mu·u)> multiplies order l of whatever is dispersed. Concentration is given as
NODDI's orientation dispersion index, odi = 2/pi atan(1/kappa): 0 is parallel, 1 is isotropic
(Zhang et al., NeuroImage 2012).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from fornix.physics.kernels import quadrature

#: exp(kappa (t² - 1)) is integrated over t in [1 - min(1, CUT/kappa), 1]; the rest is below e^-24.
CUT = 24.0
NODES = 48
#: Chebyshev terms in odi of the table for float32; its error is below 1e-8 for l <= 20.
TERMS = 64
SMALLEST_ODI = 1e-6


def odi_from_kappa(kappa: torch.Tensor) -> torch.Tensor:
    """2/pi atan(1/kappa), kappa >= 0 (infinite allowed)."""
    return 2 / np.pi * torch.atan2(torch.ones_like(kappa), kappa)


def kappa_from_odi(odi: torch.Tensor) -> torch.Tensor:
    """1 / tan(pi odi / 2); odi below 1e-6 counts as 1e-6."""
    angle = np.pi / 2 * odi.clamp(SMALLEST_ODI, 1.0)
    return (torch.cos(angle) / torch.sin(angle)).clamp_min(0.0)


def moments(odi: torch.Tensor, lmax: int) -> torch.Tensor:
    """w_l for l = 0, 2 … lmax: (*odi.shape, lmax/2 + 1), w_0 = 1; differentiable.

    float64 is integrated directly (relative error 1e-7 or less even where w_l is 1e-9);
    float32 reads a Chebyshev series in odi whose absolute error is below 1e-6, single precision's own.
    """
    return _integrated(odi, lmax) if odi.dtype == torch.float64 else _tabulated(odi, lmax)


def _integrated(odi: torch.Tensor, lmax: int) -> torch.Tensor:
    kappa = kappa_from_odi(odi)[..., None]
    y, weights = quadrature(NODES)
    far = torch.as_tensor(1 - y).to(odi) * (CUT / kappa.clamp_min(CUT))  # 1 - t, never cancelling
    density = torch.exp(-kappa * far * (2 - far)) * torch.as_tensor(weights).to(odi)
    density = density / density.sum(-1, keepdim=True)
    t = 1 - far
    made, previous, current = [density.sum(-1)], torch.ones_like(t), t
    for ell in range(1, lmax):
        previous, current = current, ((2 * ell + 1) * t * current - ell * previous) / (ell + 1)
        if ell % 2:
            made.append((density * current).sum(-1))
    return torch.stack(made, -1)


@lru_cache(maxsize=8)
def _table(lmax: int) -> np.ndarray:
    """(TERMS, lmax/2 + 1) Chebyshev coefficients over odi mapped to [-1, 1]."""
    x = np.cos(np.pi * (np.arange(TERMS) + 0.5) / TERMS)
    values = _integrated(torch.as_tensor((x + 1) / 2), lmax).numpy()
    return np.polynomial.chebyshev.chebfit(x, values, TERMS - 1)


def _tabulated(odi: torch.Tensor, lmax: int) -> torch.Tensor:
    x = (2 * odi - 1).clamp(-1.0, 1.0)
    series = [torch.ones_like(x), x]
    while len(series) < TERMS:
        series.append(2 * x * series[-1] - series[-2])
    return torch.stack(series, -1) @ torch.as_tensor(_table(lmax)).to(x)


def density(odi: float, cosine: np.ndarray) -> np.ndarray:
    """The density per steradian at cos(angle to mu), any shape; integrates to 1 over the sphere."""
    kappa = float(kappa_from_odi(torch.tensor(odi, dtype=torch.float64)))
    t, w = quadrature(200)
    scale = 4 * np.pi * (w * np.exp(kappa * (t**2 - 1))).sum()
    return np.exp(kappa * (np.asarray(cosine) ** 2 - 1)) / scale
