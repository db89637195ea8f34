"""Functions of the angle to one axis: the response of a fibre, from signals and to a convolution."""

from __future__ import annotations

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray

from fornix.numerics import harmonics


def convolution(
    directions: NDArray[np.float64], zonal: NDArray[np.float64], lmax: int
) -> NDArray[np.float64]:
    """(N, coefficients): the signal of each orientation coefficient in each direction.

    Args:
        directions: (N, 3) unit vectors.
        zonal: Legendre coefficients a_l of the response, signal = sum_l a_l P_l(cos angle). Orders that
            the response lacks are left out.
        lmax: Highest harmonic order, even.
    """
    ells, _ = harmonics.orders(lmax)
    known = np.zeros(lmax // 2 + 1)
    known[: len(zonal)] = zonal[: len(known)]
    # Funk-Hecke: convolving with a_l P_l multiplies order l by 4 pi a_l / (2 l + 1).
    return harmonics.evaluate(lmax, directions) * (4 * np.pi / (2 * ells + 1) * known[ells // 2])


def fit_zonal(
    signals: NDArray[np.float32],
    directions: NDArray[np.float64],
    axes: NDArray[np.float64],
    lmax: int,
) -> NDArray[np.float64]:
    """Legendre coefficients (lmax/2 + 1,) of the response of voxels with known fibre axes.

    there: without this, noise of the high orders puts waves into the response (Smith et al., ISMRM
    2018; `amp2response`).

    Args:
        signals: (voxels, N)
        directions: (N, 3)
        axes: (voxels, 3) unit vectors. One least-squares fit over all voxels, never negative and
            falling towards the fibre's axis, since diffusion is fastest
        lmax: Highest harmonic order, even.
    """
    from scipy.optimize import nnls  # slow to load

    cosine = np.abs(axes @ directions.T).ravel()
    design = legvander(cosine, lmax)[:, ::2]
    grid = legvander(np.cos(np.linspace(0, np.pi / 2, 91)), lmax)[:, ::2]
    shape = np.concatenate([grid[:1], np.diff(grid, axis=0)])
    orthogonal, upper = np.linalg.qr(design)
    best = orthogonal.T @ signals.astype(np.float64).ravel()
    # The nearest point of the cone {shape @ a >= 0}, by its dual (Lawson & Hanson, 1974).
    cone = np.linalg.solve(upper.T, shape.T)
    cone /= np.linalg.norm(cone, axis=0)
    size = float(np.linalg.norm(best))
    if size == 0:
        return np.zeros(lmax // 2 + 1)
    multipliers, _ = nnls(cone, -best / size)
    return np.asarray(np.linalg.solve(upper, best + size * (cone @ multipliers)))


def finite(signals: NDArray) -> NDArray:
    """The signals with zero for what is not finite: such a volume says nothing of its voxel."""
    return np.nan_to_num(signals, nan=0.0, posinf=0.0, neginf=0.0)
