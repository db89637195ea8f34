"""Diffusion kurtosis by weighted least squares, free or held in the physical range.

ln S = ln S0 - b D(n) + b²/6 V(n) with V = MD² W (Jensen et al., MRM 2005; Tabesh et al., MRM 2011).
The weights are the squared signals that an ordinary fit predicts. `constrained` finds the best fit
among those with D(n) > 0 and 0 <= K(n) <= 3/(b_max D(n)) in 100 directions (Tabesh et al.), by a
dual active-set method of our own.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.design import quadratic_form, quartic_form
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.models.base import Fit, checked_sigma, checked_signals
from fornix.numerics.directions import fibonacci

#: What a kurtosis fit estimates, and in which columns. md is that of the kurtosis model.
COLUMNS = {
    "mk": slice(0, 1), "ak": slice(1, 2), "rk": slice(2, 3), "kfa": slice(3, 4), "md": slice(4, 5),
}  # fmt: skip


def fit_kurtosis(
    signals: ArrayLike,
    gradients: Gradients,
    method: str = "constrained",
    sigma: ArrayLike | None = None,
    std: bool = True,
) -> Fit:
    """Fit the kurtosis tensor to each voxel, in float64 inside, on all threads numba is set to use.

    Args:
        signals: (voxels, N) in any unit; NaN or inf marks the voxel bad (zeros come back).
        gradients: N b-values and world directions.
        method: `wls`, or `constrained`: the same with D(n) >= 0.01 µm²/ms and 0 <= K(n) <= 3/(b_max
            D(n)), which leaves no black voxels.
        sigma: Noise standard deviation of the complex channels, a number or (voxels,), in units of the
            signals; None, NaN or 0 where unknown: the residuals then give the standard deviations.
        std: Also compute standard deviations (of the unconstrained estimate; first order).

    Returns:
        mk = mean over the sphere of K(n) = V(n)/D(n)², ak = K along the first eigenvector, rk = mean of
        K over the circle across it, all within [-3/7, 10] (`constrained`: [0, 10]); kfa, the anisotropy
        of W (Glenn et al., NeuroImage 2015); md (µm²/ms). `wls` flags voxels in which a kurtosis or
        diffusivity is out of range.

    Raises:
        FornixError: Where the protocol gives no kurtosis.
    """
    if reason := gradients.facts.why_not_dki:
        raise FornixError(f"no kurtosis from this protocol: {reason}")
    if method not in ("wls", "constrained"):
        raise FornixError(f"kurtosis has no method {method!r}; choose one of: constrained, wls")
    from fornix.models._kurtosis_kernels import SLOWEST, linear_kurtosis

    data = checked_signals(signals, len(gradients))
    noise = checked_sigma(sigma, len(data))
    design = gradients.facts.kurtosis_design
    pinv = np.ascontiguousarray(np.linalg.pinv(design.T))
    forms, weights = _sphere()
    rows, bounds = _physical_range(float(gradients.b.max()), SLOWEST)
    values = np.zeros((len(data), 5), dtype=np.float32)
    spread = np.zeros_like(values)
    flags = np.zeros(len(data), dtype=np.uint8)
    linear_kurtosis(
        data, noise, design, pinv, method == "constrained", rows, bounds, forms, weights,
        std, values, spread, flags,
    )  # fmt: skip
    return Fit(COLUMNS, values, spread if std else None, flags)


@lru_cache(maxsize=2)
def _sphere(order: int = 20) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Forms (21, Q) and weights (Q,) that integrate even functions up to degree 2 order - 1.

    1/D(n)² is no polynomial; at order 20 the error of MK is below 1e-3 up to FA 0.9.
    """
    nodes, weights = np.polynomial.legendre.leggauss(order)
    z, w = nodes[nodes > 0], weights[nodes > 0]
    phi = np.pi * np.arange(2 * order) / order
    radius = np.sqrt(1 - z**2)
    points = np.stack(
        [
            np.outer(radius, np.cos(phi)),
            np.outer(radius, np.sin(phi)),
            np.outer(z, np.ones_like(phi)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    forms = np.concatenate([quadratic_form(points), quartic_form(points)], axis=1)
    return np.ascontiguousarray(forms.T), np.repeat(w, len(phi)) / len(phi)


def _physical_range(bmax: float, slowest: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(22, m) and (m,): rowsᵀ beta >= bounds says D(n) >= slowest, V(n) >= 0, V(n) <= 3 D(n)/b."""
    points = fibonacci(100)
    d, v = quadratic_form(points), quartic_form(points)
    zero, none_d, none_v = np.zeros((len(points), 1)), np.zeros_like(d), np.zeros_like(v)
    rows = np.concatenate(
        [
            np.hstack([zero, d, none_v]),
            np.hstack([zero, none_d, v]),
            np.hstack([zero, 3.0 / bmax * d, -v]),
        ]
    )
    bounds = np.repeat([slowest, 0.0, 0.0], len(points))
    return np.ascontiguousarray(rows.T), bounds
