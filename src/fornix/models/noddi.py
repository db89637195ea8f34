"""NODDI: neurite density, orientation dispersion and free water, fitted exactly.

S/S0 = (1 - fwf) [ndi A_in + (1 - ndi) A_ex] + fwf exp(-b d_iso), with sticks of diffusivity d_par
dispersed by a Watson density and tortuous extra-neurite water, d_perp = d_par (1 - ndi) (Zhang et
al., NeuroImage 2012). All six parameters (ndi, odi, fwf, S0, axis) are optimised together from a
coarse grid; where the noise level is known, the Rician likelihood is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.models.base import Fit, checked_sigma, checked_signals
from fornix.physics.kernels import lmax_for, recurrence, zonal
from fornix.physics.watson import moments

#: What a NODDI fit estimates, and in which columns.
COLUMNS = {
    "ndi": slice(0, 1), "odi": slice(1, 2), "fwf": slice(2, 3), "direction": slice(3, 6),
    "s0": slice(6, 7),
}  # fmt: skip
D_PAR, D_ISO = 1.7, 3.0  # µm²/ms, in vivo (Zhang et al.)
_ODI_ROWS = 2001
_STEP = 0.02


def fit_noddi(
    signals: ArrayLike,
    gradients: Gradients,
    method: str = "exact",
    sigma: ArrayLike | None = None,
    std: bool = True,
    d_par: float = D_PAR,
    d_iso: float = D_ISO,
) -> Fit:
    """Fit NODDI to each voxel, in float64 inside, on all threads numba is set to use.

    Args:
        signals: (voxels, N) in any unit; NaN or inf marks the voxel bad (zeros come back).
        gradients: N b-values and world directions; two or more shells, of any b-values.
        method: `exact`, the published model, in which the extra-neurite water is one Gaussian whose
            tensor is averaged over the dispersion; `dispersed`, in which it is dispersed like the
            neurites, as `fornix.physics` simulates it.
        sigma: Noise standard deviation of the complex channels, a number or (voxels,), in units of the
            signals; None, NaN or 0 where unknown: then least squares, and errors from the residuals.
        std: Also compute standard deviations: first order, and never above those of a uniform
            distribution over the range of each fraction.
        d_par: Fixed diffusivities in µm²/ms.
        d_iso: See `d_par`.

    Returns:
        ndi, odi, fwf in [0, 1], direction (world axes, without sign), s0.

    Raises:
        FornixError: Where the protocol gives no NODDI.
    """
    if reason := gradients.facts.why_not_noddi:
        raise FornixError(f"no NODDI from this protocol: {reason}")
    if method not in ("exact", "dispersed"):
        raise FornixError(f"NODDI has no method {method!r}; choose one of: exact, dispersed")
    if not (d_par > 0 and d_iso > 0):
        raise FornixError(f"diffusivities must be positive, not {d_par} and {d_iso} µm²/ms")
    from fornix.models._noddi_kernels import fit_noddi_voxels
    from fornix.models._noddi_signal import GRID_NDI, GRID_ODI, GRID_TERMS, grid_series

    data = checked_signals(signals, len(gradients))
    noise = checked_sigma(sigma, len(data))
    order, starts, level_b, flat = _levels(gradients)
    sorted_gradients = gradients.subset(order)
    b = np.asarray(sorted_gradients.b)
    lmax = lmax_for(float(b.max()), tolerance=1e-5)
    stick = zonal(torch.as_tensor(level_b * d_par), lmax).numpy()
    kernel, kernel_slope = _kernel_table(float(b.max()) * d_par, lmax)
    watson, watson_slope = _watson_table(lmax)
    tables = (stick, kernel, kernel_slope, _STEP, watson, watson_slope)
    grid = np.empty((len(GRID_NDI) * len(GRID_ODI), len(level_b), GRID_TERMS))
    grid_series(level_b, d_par, method == "exact", *tables, grid)
    # The tensor that gives the starting axis: volumes at which it is not biased, if they suffice.
    low, _ = sorted_gradients.facts.tensor_volumes()
    design = sorted_gradients.facts.tensor_design
    pinv = np.zeros_like(design)
    pinv[:, low] = np.linalg.pinv(design[:, low].T)
    values = np.zeros((len(data), 7), dtype=np.float32)
    spread = np.zeros_like(values)
    flags = np.zeros(len(data), dtype=np.uint8)
    fit_noddi_voxels(
        np.ascontiguousarray(data[:, order]), noise, np.array(sorted_gradients.directions), starts,
        level_b, flat, np.exp(-b * d_iso), d_par, method == "exact", *tables,
        np.array(recurrence(lmax)), grid, design, pinv, std, values, spread, flags,
    )  # fmt: skip
    return Fit(COLUMNS, values, spread if std else None, flags)


def _levels(
    gradients: Gradients,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Volumes sorted by b; first volume of each different b; its b; True where undirected."""
    undirected = (gradients.directions**2).sum(1) < 0.5
    order = np.lexsort((undirected, gradients.b))
    key = np.stack([gradients.b[order], undirected[order]], axis=1)
    new = np.flatnonzero(np.r_[True, (np.diff(key, axis=0) != 0).any(axis=1)])
    return order, np.r_[new, len(order)], key[new, 0].copy(), key[new, 1] > 0


@lru_cache(maxsize=8)
def _kernel_table(xmax: float, lmax: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """k_l and dk_l/dx at x = 0, 0.02 … xmax."""
    x = torch.arange(int(np.ceil(xmax / _STEP)) + 2, dtype=torch.float64) * _STEP
    return _with_slope(x, lambda u: zonal(u, lmax))


@lru_cache(maxsize=8)
def _watson_table(lmax: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Watson moments and their slope by odi at 2001 values of odi from 0 to 1."""
    odi = torch.linspace(0, 1, _ODI_ROWS, dtype=torch.float64)
    table, slope = _with_slope(odi, lambda u: moments(u, lmax))
    # At odi = 0 the moments are clamped to odi 1e-6 and lose their slope, which is -pi l(l+1)/4
    # there (w_l ≈ 1 - l(l+1)/(2 kappa), kappa ≈ 2/(pi odi)).
    ell = np.arange(0, lmax + 1, 2)
    slope[0] = -np.pi * ell * (ell + 1) / 4
    return table, slope


def _with_slope(
    x: torch.Tensor, function: object
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values (len(x), L) of a function that acts on each x alone, and their derivatives."""
    at = x.clone().requires_grad_(True)
    values = function(at)  # type: ignore[operator]
    slopes = [torch.autograd.grad(c.sum(), at, retain_graph=True)[0] for c in values.unbind(-1)]
    return values.detach().numpy().copy(), torch.stack(slopes, -1).numpy().copy()
