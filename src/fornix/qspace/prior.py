"""What signals on q-space look like before any is measured: a Gaussian process from the physics.

The signal of a voxel at b and direction g is sum_lm a_lm(b) Y_lm(g). No direction is special, so the
coefficients of different l or m are uncorrelated and their covariance C_l(b, b') depends on l alone.
It is computed from simulated tissue: populations p, q with series c_pl(b) about axes mu give

    C_l(b, b') = 4 pi / (2l+1)^2  E[ sum_pq c_pl(b) c_ql(b') P_l(mu_p·mu_q) ].

Each C_l is kept as a few functions of b: C_l(b, b') = sum_k phi_lk(b) phi_lk(b').
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from fornix.core.errors import FornixError
from fornix.core.protocol import NETWORK_BMAX
from fornix.numerics import harmonics
from fornix.physics import Tissue, random_tissue
from fornix.physics.tissue import zonal_series

BMAX = NETWORK_BMAX / 1000  # ms/µm²; beyond it nothing was simulated


@dataclass(frozen=True, eq=False)
class SignalPrior:
    """Mean and covariance of the normalised signal (S / S0) on q-space.

    Attributes:
        b: (B,) grid, ms/µm².
        mean: (B,) mean of the signal over directions and tissue.
        factors: For l = 0, 2, …, lmax an array (K_l, B): phi_lk on the grid.
        scale: For each l, (K_l,) variances of the factors' coefficients, 1 unless adapted to a scan.
    """

    b: NDArray[np.float64]
    mean: NDArray[np.float64]
    factors: tuple[NDArray[np.float64], ...]
    scale: tuple[NDArray[np.float64], ...]

    @property
    def lmax(self) -> int:
        """The highest spherical harmonic degree."""
        return 2 * (len(self.factors) - 1)

    @property
    def size(self) -> int:
        """Number of features F: sum over l of K_l (2l + 1)."""
        return sum(len(f) * (4 * i + 1) for i, f in enumerate(self.factors))

    def mean_at(self, b: ArrayLike) -> NDArray[np.float64]:
        """Mean signal at b (ms/µm²)."""
        return np.asarray(CubicSpline(self.b, self.mean)(self._inside(b)))

    def design(self, b: ArrayLike, directions: ArrayLike) -> NDArray[np.float64]:
        """(N, F): what each feature adds to the signal at each gradient.

        Features are ordered by l, then k, then m; scaled so that their prior variance is 1.
        """
        b = self._inside(b)
        basis = harmonics.evaluate(self.lmax, np.asarray(directions))
        columns = []
        for i, (factor, scale) in enumerate(zip(self.factors, self.scale)):
            at = CubicSpline(self.b, factor, axis=1)(b) * np.sqrt(scale)[:, None]
            here = basis[:, harmonics.order_slice(2 * i)]
            columns.append(np.einsum("kn,nm->nkm", at, here).reshape(len(b), -1))
        return np.concatenate(columns, axis=1)

    def rescaled(self, scale: tuple[NDArray[np.float64], ...]) -> SignalPrior:
        """The same prior with other variances of its coefficients."""
        return replace(self, scale=scale)

    def _inside(self, b: ArrayLike) -> NDArray[np.float64]:
        b = np.asarray(b, dtype=np.float64)
        if (b > BMAX + 1e-9).any() or (b < 0).any():
            raise FornixError(
                f"b = {1000 * b.max():.0f} s/mm² is outside what was simulated (0 to {1000 * BMAX:.0f}); "
                "leave those volumes out with --exclude"
            )
        return b


def prior_of(
    tissue: Tissue, lmax: int = 8, grid: int = 41, keep: float = 1e-5, scale_std: float = 0.2
) -> SignalPrior:
    """The prior that a sample of tissue implies.

    Args:
        tissue: Simulated tissue of n voxels.
        lmax: Highest harmonic order, even.
        grid: Number of b-values at which it is tabulated.
        keep: Factors that explain less than this share of the largest are dropped.
        scale_std: Prior standard deviation of the signal's overall scale, since S0 is only measured.
    """
    b = np.linspace(0, np.sqrt(BMAX), grid) ** 2  # denser at low b, where the signal bends
    cosine = tissue.mu @ tissue.mu.transpose(1, 2)
    overlap = harmonics.legendre(lmax, cosine)
    series, mean = [], []
    for value in b:
        c, iso = zonal_series(tissue, float(value), lmax)
        c = c.clone()
        mean.append(c[..., 0].sum(1) + iso)
        series.append(c)
    stacked = torch.stack(series)  # (B, n, P, L)
    average = torch.stack(mean)  # (B, n)
    factors = []
    for i in range(lmax // 2 + 1):
        ell = 2 * i
        if ell == 0:
            centred = average - average.mean(1, keepdim=True)
            covariance = 4 * np.pi * (centred @ centred.T) / centred.shape[1]
            m = average.mean(1) * scale_std
            covariance = covariance + 4 * np.pi * torch.outer(m, m)
        else:
            c = stacked[..., i]
            turned = torch.einsum("npq,bnq->bnp", overlap[..., i], c)
            covariance = torch.einsum("bnp,dnp->bd", c, turned) / c.shape[1]
            covariance = covariance * 4 * np.pi / (2 * ell + 1) ** 2
        factors.append(_factors(covariance.double().numpy(), keep))
    return SignalPrior(
        b,
        average.mean(1).double().numpy(),
        tuple(factors),
        tuple(np.ones(len(f)) for f in factors),
    )


@lru_cache(maxsize=1)
def default_prior() -> SignalPrior:
    """The prior that ships, in the very numbers that the shipped networks were trained with.

    It is that of the broad random tissue that `fornix.physics.random_tissue` draws (`made_prior`). It is read
    from a file and not computed: an eigenvector's sign is arbitrary and changes with the processor and the
    number of threads, and a network that reads a feature with the other sign is wrong without a word.
    """
    with np.load(Path(__file__).with_name("prior.npz")) as file:
        orders = sorted((n for n in file.files if n.startswith("order")), key=lambda n: int(n[5:]))
        factors = tuple(file[name] for name in orders)
        return SignalPrior(
            file["b"], file["mean"], factors, tuple(np.ones(len(f)) for f in factors)
        )


def made_prior(lmax: int = 8, count: int = 20_000, seed: int = 7) -> SignalPrior:
    """The shipped prior computed again; the same up to rounding and the signs of its factors.

    Args:
        lmax: Highest harmonic order.
        count: Voxels of tissue.
        seed: Of the tissue.
    """
    return prior_of(random_tissue(count, seed=seed), lmax)


def _factors(covariance: NDArray[np.float64], keep: float) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(-values)
    values, vectors = values[order], vectors[:, order]
    count = max(1, int((values > keep * values[0]).sum()))
    factors = (vectors[:, :count] * np.sqrt(values[:count])).T
    # The largest element of each is positive, so that the same covariance gives the same factors.
    largest = np.abs(factors).argmax(1)
    return np.asarray(factors * np.sign(factors[np.arange(count), largest])[:, None])
