"""Design matrices of the log-linear signal models: which rows a gradient table gives.

ln S = ln S0 - b D(n) + b²/6 V(n), with D(n) = nᵀ D n and V = MD² W the fully symmetric fourth-order part
(Basser et al., J Magn Reson B 1994; Jensen et al., MRM 2005).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Powers of x, y, z of the 15 elements of a fully symmetric 4th-order tensor, and how often each
#: occurs. The order is DIPY's: xxxx yyyy zzzz xxxy xxxz xyyy yyyz xzzz yzzz xxyy xxzz yyzz xxyz
#: xyyz xyzz.
QUARTIC = (
    (4, 0, 0, 1), (0, 4, 0, 1), (0, 0, 4, 1), (3, 1, 0, 4), (3, 0, 1, 4),
    (1, 3, 0, 4), (0, 3, 1, 4), (1, 0, 3, 4), (0, 1, 3, 4), (2, 2, 0, 6),
    (2, 0, 2, 6), (0, 2, 2, 6), (2, 1, 1, 12), (1, 2, 1, 12), (1, 1, 2, 12),
)  # fmt: skip


def quadratic_form(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows with D(n) = row @ (Dxx, Dyy, Dzz, Dxy, Dxz, Dyz).

    Args:
        directions: (N, 3) unit vectors; a zero vector (a b0 whose direction is unknown) gets the mean
            over the sphere.

    Returns:
        (N, 6).
    """
    x, y, z = np.asarray(directions, dtype=np.float64).T
    rows = np.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], axis=-1)
    rows[(rows[:, :3].sum(1)) < 0.5] = [1 / 3, 1 / 3, 1 / 3, 0, 0, 0]
    return rows


def quartic_form(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows with V(n) = row @ the 15 elements of a symmetric fourth-order tensor, ordered as `QUARTIC`.

    Args:
        directions: (N, 3) unit vectors; zero vectors as in `quadratic_form`.

    Returns:
        (N, 15).
    """
    x, y, z = np.asarray(directions, dtype=np.float64).T
    rows = np.stack([c * x**i * y**j * z**k for i, j, k, c in QUARTIC], axis=-1)
    zero = (x * x + y * y + z * z) < 0.5
    rows[zero] = [0.2] * 3 + [0.0] * 6 + [0.4] * 3 + [0.0] * 3
    return rows


def tensor_design(b: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The tensor's design: ln S = column · (ln S0, Dxx, Dyy, Dzz, Dxy, Dxz, Dyz).

    Args:
        b: (N,) ms/µm².
        directions: (N, 3) unit vectors, in the axes that D is wanted in.

    Returns:
        (7, N), D in µm²/ms.
    """
    rows = np.column_stack([np.ones(len(b)), -b[:, None] * quadratic_form(directions)])
    return np.ascontiguousarray(rows.T)


def kurtosis_design(b: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The kurtosis design: the tensor's rows, then 15 elements of V = MD² W with weight b²/6.

    Args:
        b: (N,) ms/µm².
        directions: (N, 3) unit vectors.

    Returns:
        (22, N).
    """
    quartic = b[:, None] ** 2 / 6 * quartic_form(directions)
    return np.ascontiguousarray(np.vstack([tensor_design(b, directions), quartic.T]))


def condition(design: NDArray[np.float64]) -> float:
    """Condition number of a design (p, N) with its rows scaled to unit length; inf if rank-poor."""
    p, n = design.shape
    length = np.linalg.norm(design, axis=1)
    if n < p or (length == 0).any():
        return float("inf")
    values = np.linalg.svd(design / length[:, None], compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 1e-7 * values[0] else float("inf")
