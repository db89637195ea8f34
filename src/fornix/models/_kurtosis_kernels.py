"""Compiled kernels of the kurtosis tensor: the fit, its constraints, and metrics with errors."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fornix.models._kurtosis_constraint import project
from fornix.models._signals import prepare_signals
from fornix.models._tensor_kernels import CHUNK, HIGHEST, fit_log_linear, residual_variance
from fornix.models.flags import BAD_DATA, EMPTY, NON_PHYSICAL, NOT_CONVERGED, SINGULAR
from fornix.numerics.algebra import (
    compiled,
    compiled_parallel,
    eigen_symmetric,
    solve_lower,
)

#: Columns of the output: mk ak rk kfa | md.
COLUMNS = 5
#: Slowest diffusion along any direction that enters a kurtosis, µm²/ms: below it V/D² explodes.
SLOWEST = 0.01
#: Range of every kurtosis in the output: that of water held at one place at the low end, and far
#: above any tissue at the high end.
LOWEST_K, HIGHEST_K = -3.0 / 7.0, 10.0
#: Points on the half circle across the first eigenvector.
CIRCLE = 16


@compiled
def quartic_gradient(v: np.ndarray, n: np.ndarray, out: np.ndarray) -> float:
    """V(n) and its gradient by n, for the 15 elements `v` in the order of `design.QUARTIC`."""
    x, y, z = n[0], n[1], n[2]
    out[0] = 4 * (
        v[0] * x**3
        + 3 * (v[3] * x * x * y + v[4] * x * x * z)
        + v[5] * y**3
        + v[7] * z**3
        + 3 * (v[9] * x * y * y + v[10] * x * z * z)
        + 6 * v[12] * x * y * z
        + 3 * (v[13] * y * y * z + v[14] * y * z * z)
    )
    out[1] = 4 * (
        v[1] * y**3
        + v[3] * x**3
        + 3 * (v[5] * x * y * y + v[6] * y * y * z)
        + v[8] * z**3
        + 3 * (v[9] * x * x * y + v[11] * y * z * z)
        + 6 * v[13] * x * y * z
        + 3 * (v[12] * x * x * z + v[14] * x * z * z)
    )
    out[2] = 4 * (
        v[2] * z**3
        + v[4] * x**3
        + v[6] * y**3
        + 3 * (v[7] * x * z * z + v[8] * y * z * z)
        + 3 * (v[10] * x * x * z + v[11] * y * y * z)
        + 6 * v[14] * x * y * z
        + 3 * (v[12] * x * x * y + v[13] * x * y * y)
    )
    return (x * out[0] + y * out[1] + z * out[2]) / 4


@compiled
def add_quartic_row(n: np.ndarray, scale: float, out: np.ndarray) -> None:
    """Out (15,) += scale * ∂V(n)/∂V, the row of `design.quartic_form`."""
    x, y, z = n[0], n[1], n[2]
    xx, yy, zz = x * x, y * y, z * z
    out[0] += scale * xx * xx
    out[1] += scale * yy * yy
    out[2] += scale * zz * zz
    out[3] += scale * 4 * xx * x * y
    out[4] += scale * 4 * xx * x * z
    out[5] += scale * 4 * x * yy * y
    out[6] += scale * 4 * yy * y * z
    out[7] += scale * 4 * x * zz * z
    out[8] += scale * 4 * y * zz * z
    out[9] += scale * 6 * xx * yy
    out[10] += scale * 6 * xx * zz
    out[11] += scale * 6 * yy * zz
    out[12] += scale * 12 * xx * y * z
    out[13] += scale * 12 * x * yy * z
    out[14] += scale * 12 * x * y * zz


@compiled
def add_quadratic_row(a: np.ndarray, b: np.ndarray, scale: float, out: np.ndarray) -> None:
    """Out (6,) += scale * ∂(aᵀ D b)/∂D."""
    out[0] += scale * a[0] * b[0]
    out[1] += scale * a[1] * b[1]
    out[2] += scale * a[2] * b[2]
    out[3] += scale * (a[0] * b[1] + a[1] * b[0])
    out[4] += scale * (a[0] * b[2] + a[2] * b[0])
    out[5] += scale * (a[1] * b[2] + a[2] * b[1])


@compiled
def _deviation(factor: np.ndarray, g: np.ndarray, variance: float) -> float:
    """sqrt(variance gᵀ (L Lᵀ)⁻¹ g); overwrites g."""
    solve_lower(factor, g, 22)
    total = 0.0
    for i in range(22):
        total += g[i] * g[i]
    return math.sqrt(variance * total)


@compiled
def kurtosis_metrics(
    beta: np.ndarray,
    factor: np.ndarray,
    variance: float,
    forms: np.ndarray,
    quadrature: np.ndarray,
    want_std: bool,
    values: np.ndarray,
    std: np.ndarray,
) -> int:
    """Mk ak rk kfa md of one voxel from beta = (ln S0, D (6), V = MD² W (15)), and their errors.

    Args:
        factor: Cholesky factor of the weighted normal matrix
        variance: Of the noise.
        forms: (21, Q) quadratic and quartic forms at the points of the sphere, quadrature: (Q,) their
            weights. The errors include that the first eigenvector turns with the noise.

    Returns:
        flags.
    """
    lam, vec = np.empty(3), np.empty((3, 3))
    eigen_symmetric(beta[1:7], lam, vec)
    flags = 0
    for i in range(3):
        if not 0.0 <= lam[i] <= HIGHEST:
            flags = NON_PHYSICAL
        lam[i] = min(max(lam[i], SLOWEST), HIGHEST)
    tensor, quartic = beta[1:7], beta[7:22]
    points = forms.shape[1]
    dn, vn = np.zeros(points), np.zeros(points)
    for i in range(6):
        for k in range(points):
            dn[k] += tensor[i] * forms[i, k]
    for i in range(15):
        for k in range(points):
            vn[k] += quartic[i] * forms[6 + i, k]
    mk = 0.0
    for k in range(points):
        d = max(dn[k], SLOWEST)
        dn[k] = quadrature[k] / (d * d)
        mk += dn[k] * vn[k]
        vn[k] = -2.0 * dn[k] * vn[k] / d if d > SLOWEST else 0.0
    first = vec[:, 0].copy()
    n, slope, grad = np.empty(3), np.empty(3), np.zeros(22)
    along = quartic_gradient(quartic, first, slope)
    ak = along / lam[0] ** 2
    turn_ak, turn_rk = np.zeros(2), np.zeros(2)
    for k in range(2):
        for i in range(3):
            turn_ak[k] += slope[i] * vec[i, k + 1] / lam[0] ** 2
    rk = 0.0
    grad_rk = np.zeros(22)
    for j in range(CIRCLE):
        c, s = math.cos(math.pi * j / CIRCLE), math.sin(math.pi * j / CIRCLE)
        for i in range(3):
            n[i] = c * vec[i, 1] + s * vec[i, 2]
        d = lam[1] * c * c + lam[2] * s * s
        v = quartic_gradient(quartic, n, slope)
        share = 1.0 / (CIRCLE * d * d)
        rk += v * share
        if want_std:
            add_quadratic_row(n, n, -2.0 * v * share / d, grad_rk[1:7])
            add_quartic_row(n, share, grad_rk[7:22])
            tilt = (slope[0] * first[0] + slope[1] * first[1] + slope[2] * first[2]) * share
            turn_rk[0] -= tilt * c
            turn_rk[1] -= tilt * s
    mean = quartic[0] + quartic[1] + quartic[2] + 2 * (quartic[9] + quartic[10] + quartic[11])
    mean /= 5.0
    size, rest = 0.0, 0.0
    for k in range(15):
        times = 1.0 if k < 3 else (4.0 if k < 9 else (6.0 if k < 12 else 12.0))
        iso = 1.0 if k < 3 else (1.0 / 3.0 if 9 <= k < 12 else 0.0)
        size += times * quartic[k] ** 2
        rest += times * (quartic[k] - mean * iso) ** 2
    kfa = min(1.0, math.sqrt(rest / size)) if size > 1e-24 else 0.0
    values[0] = min(max(mk, LOWEST_K), HIGHEST_K)
    values[1] = min(max(ak, LOWEST_K), HIGHEST_K)
    values[2] = min(max(rk, LOWEST_K), HIGHEST_K)
    values[3], values[4] = kfa, (lam[0] + lam[1] + lam[2]) / 3.0
    for k in range(3):
        if not -1e-6 <= (mk, ak, rk)[k] <= HIGHEST_K:
            flags |= NON_PHYSICAL
    if not want_std:
        return flags

    for i in range(6):
        total = 0.0
        for k in range(points):
            total += vn[k] * forms[i, k]
        grad[1 + i] = total
    for i in range(15):
        total = 0.0
        for k in range(points):
            total += dn[k] * forms[6 + i, k]
        grad[7 + i] = total
    std[0] = min(_deviation(factor, grad, variance), HIGHEST_K)
    # The first eigenvector tilts towards the k-th by m = (vkᵀ dD v1) / gap; where the gap is not
    # larger than its own error the linear law ends, and the tilt stays bounded.
    tilts = np.zeros((2, 22))
    for k in range(2):
        grad[:] = 0.0
        add_quadratic_row(vec[:, k + 1].copy(), first, 1.0, grad[1:7])
        tilts[k] = grad
        gap, error = lam[0] - lam[k + 1], _deviation(factor, grad, variance)
        tilts[k] *= gap / (gap * gap + error * error + 1e-12)
    grad[:] = 0.0
    add_quadratic_row(first, first, -2.0 * along / lam[0] ** 3, grad[1:7])
    add_quartic_row(first, 1.0 / lam[0] ** 2, grad[7:22])
    for i in range(22):
        grad[i] += turn_ak[0] * tilts[0, i] + turn_ak[1] * tilts[1, i]
        grad_rk[i] += turn_rk[0] * tilts[0, i] + turn_rk[1] * tilts[1, i]
    std[1] = min(_deviation(factor, grad, variance), HIGHEST_K)
    std[2] = min(_deviation(factor, grad_rk, variance), HIGHEST_K)
    grad[:] = 0.0
    if rest > 1e-24:
        for k in range(15):
            times = 1.0 if k < 3 else (4.0 if k < 9 else (6.0 if k < 12 else 12.0))
            iso = 1.0 if k < 3 else (1.0 / 3.0 if 9 <= k < 12 else 0.0)
            grad[7 + k] = kfa * times * ((quartic[k] - mean * iso) / rest - quartic[k] / size)
    std[3] = min(_deviation(factor, grad, variance), 1.0)
    grad[:] = 0.0
    grad[1] = grad[2] = grad[3] = 1.0 / 3.0
    std[4] = min(_deviation(factor, grad, variance), HIGHEST)
    return flags


@compiled_parallel
def linear_kurtosis(
    signals: np.ndarray,
    sigma: np.ndarray,
    design: np.ndarray,
    pinv: np.ndarray,
    constrained: bool,
    rows: np.ndarray,
    bounds: np.ndarray,
    forms: np.ndarray,
    quadrature: np.ndarray,
    want_std: bool,
    values: np.ndarray,
    std: np.ndarray,
    flags: np.ndarray,
) -> None:
    """Two-stage WLS of every voxel, then, where asked, moved into the physical range.

    rows (22, m), bounds (m,): the physical range as rowsᵀ beta >= bounds. Fills values, std
    (voxels, 5) and flags (voxels,).
    """
    count, n = signals.shape
    p = 22
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        s, confidence, weights = np.empty(n), np.empty(n), np.empty(n)
        logs, scratch = np.empty(n), np.empty(n)
        beta, factor = np.empty(p), np.zeros((p, p))
        row, row_std = np.zeros(COLUMNS), np.zeros(COLUMNS)
        for v in range(chunk * CHUNK, min((chunk + 1) * CHUNK, count)):
            beta[:] = 0.0
            scale, flag = prepare_signals(signals[v], s, confidence, p)
            if flag & (BAD_DATA | EMPTY) == 0:
                flag |= fit_log_linear(
                    s, confidence, design, pinv, 1, 0.0,
                    beta, weights, logs, scratch, factor,
                )  # fmt: skip
            if not np.isfinite(beta).all():
                flag |= SINGULAR
            if flag & (BAD_DATA | EMPTY | SINGULAR):
                flags[v] = flag
                values[v, :] = 0.0
                std[v, :] = 0.0
                continue
            variance = (sigma[v] / scale) ** 2
            if math.isnan(variance):
                variance = residual_variance(logs, design, beta, weights, True, scratch)
            if constrained and not project(factor, rows, bounds, beta, 1e-7, 400):
                flag |= NOT_CONVERGED
            found = kurtosis_metrics(
                beta, factor, variance, forms, quadrature, want_std, row, row_std
            )
            if constrained:
                found = 0
                for k in range(3):
                    row[k] = max(row[k], 0.0)
            flags[v] = flag | found
            values[v, :] = row
            std[v, :] = row_std
