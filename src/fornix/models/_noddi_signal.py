"""The compiled NODDI signal, its derivatives, and the grid that a fit starts from.

All that a voxel's parameters change are the coefficients of one Legendre series per b-value; the
volumes come sorted by b-value ("levels"), so a signal and its derivatives are a few sums. Tables:
`kernel[j, l]` is k_l(x) = ∫₀¹ exp(-x t²) P_l(t) dt at x = j * step, `watson[j, l]` the Legendre
moment of the Watson density at odi = j / (rows - 1); both with their slopes, read by cubic Hermite
interpolation (error below 1e-8).
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fornix.numerics.algebra import compiled, compiled_parallel

#: The grid that a fit starts from.
GRID_NDI = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
GRID_ODI = np.array([0.03, 0.12, 0.3, 0.6])
GRID_TERMS = 5  # orders up to 8: enough to choose a starting point


@compiled
def read_table(
    table: np.ndarray, slopes: np.ndarray, place: float, step: float, out: np.ndarray, d: np.ndarray
) -> None:
    """Row `place / step` of a table and its derivative, by cubic Hermite interpolation."""
    at = place / step
    j = min(max(int(at), 0), table.shape[0] - 2)
    t = at - j
    a, b = (1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2 * step
    c, e = t * t * (3 - 2 * t), t * t * (t - 1) * step
    da, db = 6 * t * (t - 1) / step, (1 - t) * (1 - 3 * t)
    de = t * (3 * t - 2)
    for ell in range(table.shape[1]):
        p, q, m, n = table[j, ell], table[j + 1, ell], slopes[j, ell], slopes[j + 1, ell]
        out[ell] = a * p + b * m + c * q + e * n
        d[ell] = da * (p - q) + db * m + de * n


@compiled
def series_coefficients(
    ndi: float,
    odi: float,
    level_b: np.ndarray,
    d_par: float,
    averaged: bool,
    stick: np.ndarray,
    kernel: np.ndarray,
    kernel_slope: np.ndarray,
    step: float,
    watson: np.ndarray,
    watson_slope: np.ndarray,
    out: np.ndarray,
) -> None:
    """Out (3, levels, L): the Legendre series of the tissue signal, and by ndi, and by odi.

    Args:
        stick: (levels, L) k_l(b d_par). Extra-neurite water: a zeppelin with tortuous d_perp = d_par (1
            - ndi), either dispersed like the neurites, or (`averaged`, as Zhang et al.) one Gaussian of
            the averaged tensor.
    """
    terms = stick.shape[1]
    w, dw = np.empty(terms), np.empty(terms)
    k, dk = np.empty(terms), np.empty(terms)
    read_table(watson, watson_slope, odi, 1.0 / (watson.shape[0] - 1), w, dw)
    for level in range(len(level_b)):
        bd = level_b[level] * d_par
        if averaged:
            x, dx_ndi, dx_odi = bd * ndi * w[1], bd * w[1], bd * ndi * dw[1]
            decay = math.exp(-bd * (1.0 - ndi) - bd * ndi * (1.0 - w[1]) / 3.0)
            down_ndi = bd - bd * (1.0 - w[1]) / 3.0
            down_odi = bd * ndi * dw[1] / 3.0
        else:
            x, dx_ndi, dx_odi = bd * ndi, bd, 0.0
            decay = math.exp(-bd * (1.0 - ndi))
            down_ndi, down_odi = bd, 0.0
        read_table(kernel, kernel_slope, x, step, k, dk)
        for ell in range(terms):
            many = 4.0 * ell + 1.0  # 2 l + 1 for l = 2 ell
            inner = stick[level, ell] * w[ell]
            extra = decay * k[ell]
            by_ndi = decay * (down_ndi * k[ell] + dx_ndi * dk[ell])
            by_odi = decay * (down_odi * k[ell] + dx_odi * dk[ell])
            if not averaged:
                by_odi = extra * dw[ell]
                by_ndi *= w[ell]
                extra *= w[ell]
            out[0, level, ell] = many * (ndi * inner + (1.0 - ndi) * extra)
            out[1, level, ell] = many * (inner - extra + (1.0 - ndi) * by_ndi)
            out[2, level, ell] = many * (ndi * stick[level, ell] * dw[ell] + (1.0 - ndi) * by_odi)


@compiled
def sum_series(
    coefficients: np.ndarray,
    starts: np.ndarray,
    flat: np.ndarray,
    recurrence: np.ndarray,
    cosine: np.ndarray,
    work: np.ndarray,
    out: np.ndarray,
) -> None:
    """Out (4, n): tissue signal of each volume, and by ndi, by odi, by the cosine.

    Args:
        starts: (levels + 1,) first volume of each level
        flat: (levels,) True where only l = 0 counts (a b0 of unknown direction).
        work: (5, n) scratch.
    """
    terms = coefficients.shape[2]
    squared, p, before = work[0], work[1], work[2]
    slope, slope_before = work[3], work[4]
    for level in range(len(starts) - 1):
        low, high = starts[level], starts[level + 1]
        for i in range(low, high):
            squared[i] = cosine[i] * cosine[i]
            p[i], before[i], slope[i], slope_before[i] = 1.0, 0.0, 0.0, 0.0
            out[0, i] = coefficients[0, level, 0]
            out[1, i] = coefficients[1, level, 0]
            out[2, i] = coefficients[2, level, 0]
            out[3, i] = 0.0
        if flat[level]:
            continue
        for ell in range(1, terms):
            alpha, beta = recurrence[ell - 1, 0], recurrence[ell - 1, 1]
            gamma = recurrence[ell - 1, 2]
            a = coefficients[0, level, ell]
            b, c = coefficients[1, level, ell], coefficients[2, level, ell]
            for i in range(low, high):
                up = alpha * squared[i] + beta
                tilt = up * slope[i] + gamma * slope_before[i] + 2 * alpha * cosine[i] * p[i]
                value = up * p[i] + gamma * before[i]
                slope_before[i], slope[i] = slope[i], tilt
                before[i], p[i] = p[i], value
                out[0, i] += a * value
                out[1, i] += b * value
                out[2, i] += c * value
                out[3, i] += a * tilt


@compiled
def _two_fractions(
    tissue: np.ndarray, water: np.ndarray, m: np.ndarray
) -> tuple[float, float, float]:
    """Amounts of tissue and water >= 0 that fit m best, and what they explain of |m|²."""
    tt = tw = ww = tm = wm = 0.0
    for i in range(len(m)):
        tt += tissue[i] * tissue[i]
        tw += tissue[i] * water[i]
        ww += water[i] * water[i]
        tm += tissue[i] * m[i]
        wm += water[i] * m[i]
    det = tt * ww - tw * tw
    if det > 1e-12 * tt * ww:
        a, b = (tm * ww - wm * tw) / det, (wm * tt - tm * tw) / det
        if a >= 0.0 and b >= 0.0:
            return a, b, a * tm + b * wm
    only_t, only_w = tm / tt, wm / ww
    if only_t * tm >= only_w * wm:
        return only_t, 0.0, only_t * tm
    return 0.0, only_w, only_w * wm


@compiled_parallel
def grid_series(
    level_b: np.ndarray,
    d_par: float,
    averaged: bool,
    stick: np.ndarray,
    kernel: np.ndarray,
    kernel_slope: np.ndarray,
    step: float,
    watson: np.ndarray,
    watson_slope: np.ndarray,
    out: np.ndarray,
) -> None:
    """Out (points, levels, GRID_TERMS): Legendre series of the tissue at every point of the grid."""
    for point in prange(len(out)):
        coefficients = np.empty((3, stick.shape[0], stick.shape[1]))
        series_coefficients(
            GRID_NDI[point // len(GRID_ODI)], GRID_ODI[point % len(GRID_ODI)], level_b, d_par,
            averaged, stick, kernel, kernel_slope, step, watson, watson_slope, coefficients,
        )  # fmt: skip
        out[point] = coefficients[0, :, :GRID_TERMS]


@compiled
def start(
    grid: np.ndarray,
    starts: np.ndarray,
    flat: np.ndarray,
    recurrence: np.ndarray,
    cosine: np.ndarray,
    water: np.ndarray,
    m: np.ndarray,
    legendre: np.ndarray,
    tissue: np.ndarray,
    par: np.ndarray,
) -> None:
    """Par (ndi odi fwf s0) of the grid point that fits best, with the best amount of free water."""
    n = len(m)
    for i in range(n):
        legendre[0, i] = 1.0
    for ell in range(GRID_TERMS - 1):
        alpha, beta, gamma = recurrence[ell, 0], recurrence[ell, 1], recurrence[ell, 2]
        for i in range(n):
            legendre[ell + 1, i] = (alpha * cosine[i] * cosine[i] + beta) * legendre[ell, i]
        if ell > 0:
            for i in range(n):
                legendre[ell + 1, i] += gamma * legendre[ell - 1, i]
    best = -1.0
    for point in range(len(grid)):
        for level in range(len(starts) - 1):
            for i in range(starts[level], starts[level + 1]):
                tissue[i] = grid[point, level, 0]
            if flat[level]:
                continue
            for ell in range(1, GRID_TERMS):
                c = grid[point, level, ell]
                for i in range(starts[level], starts[level + 1]):
                    tissue[i] += c * legendre[ell, i]
        amount, free, explained = _two_fractions(tissue, water, m)
        if explained > best:
            best = explained
            par[0] = GRID_NDI[point // len(GRID_ODI)]
            par[1] = GRID_ODI[point % len(GRID_ODI)]
            par[3] = amount + free
            par[2] = min(max(free / par[3], 0.02), 0.95)
