"""Tissue that Fornix's own model does not hold: exchange between compartments, axons of finite width.

Each fibre population has water inside axons, which also moves across them a little (a zeppelin, not
a stick), and water around them; the two exchange while the gradients act (Kärger, 1985). Free water
is a third compartment without exchange. The response to one fibre is put through the same Watson
dispersion as `fornix.physics.signal`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fornix.core.compute import blocks
from fornix.core.gradients import Gradients
from fornix.numerics.harmonics import legendre
from fornix.physics import D_FREE, Tissue, watson
from fornix.physics.kernels import lmax_for, sum_series

NODES = 32


@dataclass(frozen=True, eq=False)
class Exchanging:
    """tissue: axes, fractions and diffusivities. d_inside, rate: (n,).

    d_inside: across the axons, inside them, µm²/ms. rate: exchanges per diffusion time (t/τ).
    """

    tissue: Tissue
    d_inside: torch.Tensor
    rate: torch.Tensor

    def __len__(self) -> int:
        return len(self.tissue)

    def signal(self, gradients: Gradients, block: int = 2048) -> torch.Tensor:
        """Noise-free signals (n, N), float64, S0 of the tissue (1 where it has none)."""
        made = [self._block(part, gradients) for part in blocks(len(self), block)]
        return torch.cat(made)

    def _block(self, part: slice, gradients: Gradients) -> torch.Tensor:
        tissue = self.tissue[part].to(dtype=torch.float64)
        wide, rate = self.d_inside[part].double(), self.rate[part].double()
        out = torch.zeros(len(tissue), len(gradients), dtype=torch.float64)
        table = torch.as_tensor(gradients.directions.copy())
        for level in np.unique(gradients.b):
            volumes = np.flatnonzero(gradients.b == level)
            order = lmax_for(float(level))
            spread = watson.moments(tissue.odi, order)
            series = _response(tissue, wide, rate, float(level), order) * spread
            cosine = tissue.mu @ table[volumes].T
            neural = sum_series(series * tissue.fraction[..., None], cosine.square()).sum(1)
            free = tissue.fwf * float(np.exp(-level * D_FREE))
            out[:, volumes] = tissue.neural[:, None] * neural + free[:, None]
        return out if tissue.s0 is None else out * tissue.s0[:, None]


def karger(
    b: float,
    inside: torch.Tensor,
    around: torch.Tensor,
    share: torch.Tensor,
    rate: torch.Tensor,
) -> torch.Tensor:
    """The signal of two compartments in exchange; arguments broadcast.

    inside, around: apparent diffusivities along the gradient; share: of the first compartment;
    rate: 0 gives the sum of two exponentials, infinity one exponential of the mean diffusivity.
    With A = b diag(D) + rate K, S = 1ᵀ exp(-A) f in closed form for 2x2.
    """
    a = b * inside + rate * (1 - share)
    d = b * around + rate * share
    middle = (a + d) / 2
    root = (((a - d) / 2).square() + rate.square() * share * (1 - share)).sqrt().clamp_min(1e-9)
    mean = b * (share * inside + (1 - share) * around)  # 1ᵀ A f: the columns of K sum to zero
    grow, decay = torch.exp(root - middle), torch.exp(-root - middle)
    return (grow + decay) / 2 - (grow - decay) / (2 * root) * (mean - middle)


def _response(
    tissue: Tissue, wide: torch.Tensor, rate: torch.Tensor, b: float, lmax: int
) -> torch.Tensor:
    """(n, 1 or P, lmax/2 + 1): coefficients of P_l(g·u) of the signal of fibres along u."""
    x, w = np.polynomial.legendre.leggauss(2 * NODES)
    cosine, weight = torch.as_tensor(x[NODES:]), torch.as_tensor(w[NODES:])
    square = cosine.square()
    along = tissue.d_par[..., None]
    across = tissue.d_perp_extra[..., None]
    inner = wide[:, None, None]
    made = karger(
        b,
        inner + (along - inner) * square,
        across + (along - across) * square,
        tissue.ndi[..., None],
        rate[:, None, None],
    )
    degrees = torch.arange(0, lmax + 1, 2)
    return ((made * weight) @ legendre(lmax, cosine)) * (2 * degrees + 1)
