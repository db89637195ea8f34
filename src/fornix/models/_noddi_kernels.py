"""The compiled NODDI fit: from a grid's best point, Levenberg-Marquardt on all six parameters."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fornix.models._noddi_signal import GRID_TERMS, series_coefficients, start, sum_series
from fornix.models._signals import prepare_signals
from fornix.models._tensor_kernels import RANDOM_AXIS, fit_log_linear
from fornix.models._tensor_nlls import misfit
from fornix.models.flags import BAD_DATA, EMPTY, NOT_CONVERGED, SINGULAR, TOO_FEW
from fornix.numerics.algebra import (
    cholesky,
    compiled,
    compiled_parallel,
    eigen_symmetric,
    solve_lower,
    solve_upper,
)
from fornix.numerics.rician import information

#: Columns of the output: ndi odi fwf | direction | s0.
COLUMNS = 7
CHUNK = 64
MAX_ITERATIONS = 100
#: Bounds of ndi, odi, fwf. Below odi 0.002 nothing changes at any b that scanners reach.
LOWEST = np.array([0.0, 0.002, 0.0])


@compiled
def _tangents(mu: np.ndarray, one: np.ndarray, two: np.ndarray) -> None:
    """Two unit vectors across mu and each other."""
    least = 0
    for i in range(1, 3):
        if abs(mu[i]) < abs(mu[least]):
            least = i
    norm = math.sqrt(1.0 - mu[least] ** 2)
    for i in range(3):
        one[i] = ((1.0 if i == least else 0.0) - mu[least] * mu[i]) / norm
    two[0] = mu[1] * one[2] - mu[2] * one[1]
    two[1] = mu[2] * one[0] - mu[0] * one[2]
    two[2] = mu[0] * one[1] - mu[1] * one[0]


@compiled
def _derivatives(
    directions: np.ndarray,
    mu: np.ndarray,
    par: np.ndarray,
    tissue: np.ndarray,
    water: np.ndarray,
    s: np.ndarray,
    sigma: float,
    pull: np.ndarray,
    one: np.ndarray,
    two: np.ndarray,
    jac: np.ndarray,
    scratch: np.ndarray,
    g: np.ndarray,
    hessian: np.ndarray,
) -> None:
    """Gradient g (6,) and Fisher information (6, 6), times sigma², by ndi odi fwf s0 and two turns.

    Also sets the turns' axes `one`, `two`, across mu.
    """
    n = len(s)
    _tangents(mu, one, two)
    share = par[3] * (1.0 - par[2])
    for i in range(n):
        jac[0, i] = share * tissue[1, i]
        jac[1, i] = share * tissue[2, i]
        jac[2, i] = par[3] * (water[i] - tissue[0, i])
        jac[3, i] = s[i] / par[3]
        turn = share * tissue[3, i]
        x, y, z = directions[i, 0], directions[i, 1], directions[i, 2]
        jac[4, i] = turn * (x * one[0] + y * one[1] + z * one[2])
        jac[5, i] = turn * (x * two[0] + y * two[1] + z * two[2])
    known = not math.isnan(sigma)
    for p in range(6):
        total = 0.0
        for i in range(n):
            total += jac[p, i] * pull[i]
        g[p] = total
    for i in range(n):
        scratch[i] = max(information(max(s[i], 0.0), sigma), 0.02) if known else 1.0
    for p in range(6):
        for q in range(p + 1):
            total = 0.0
            for i in range(n):
                total += jac[p, i] * jac[q, i] * scratch[i]
            hessian[p, q] = hessian[q, p] = total


@compiled
def _step(
    par: np.ndarray,
    mu: np.ndarray,
    g: np.ndarray,
    hessian: np.ndarray,
    damping: float,
    one: np.ndarray,
    two: np.ndarray,
    a: np.ndarray,
    move: np.ndarray,
    trial: np.ndarray,
    new_mu: np.ndarray,
) -> float:
    """The damped step to (trial, new_mu) within the bounds; its largest component."""
    for p in range(6):
        move[p] = -g[p]
        for q in range(6):
            a[p, q] = hessian[p, q]
        a[p, p] += damping * hessian[p, p] + 1e-10
    for p in range(3):  # on a bound and pushed outwards: held there
        if (par[p] <= LOWEST[p] and g[p] > 0.0) or (par[p] >= 1.0 and g[p] < 0.0):
            for q in range(6):
                a[p, q] = a[q, p] = 0.0
            a[p, p], move[p] = 1.0, 0.0
    if not cholesky(a, 6):
        trial[:], new_mu[:] = par, mu
        return math.inf
    solve_lower(a, move, 6)
    solve_upper(a, move, 6)
    length = math.sqrt(move[4] ** 2 + move[5] ** 2)
    if length > 0.5:  # a turn is linear only so far
        move[4] *= 0.5 / length
        move[5] *= 0.5 / length
    size = max(abs(move[4]), abs(move[5]))
    for p in range(3):
        trial[p] = min(max(par[p] + move[p], LOWEST[p]), 1.0)
        size = max(size, abs(trial[p] - par[p]))
    trial[3] = max(par[3] + move[3], 0.1 * par[3])
    size = max(size, abs(trial[3] - par[3]) / par[3])
    norm = 0.0
    for i in range(3):
        new_mu[i] = mu[i] + move[4] * one[i] + move[5] * two[i]
        norm += new_mu[i] ** 2
    norm = math.sqrt(norm)
    for i in range(3):
        new_mu[i] /= norm
    return size


@compiled_parallel
def fit_noddi_voxels(
    signals: np.ndarray,
    sigma: np.ndarray,
    directions: np.ndarray,
    starts: np.ndarray,
    level_b: np.ndarray,
    flat: np.ndarray,
    water: np.ndarray,
    d_par: float,
    averaged: bool,
    stick: np.ndarray,
    kernel: np.ndarray,
    kernel_slope: np.ndarray,
    step: float,
    watson: np.ndarray,
    watson_slope: np.ndarray,
    recurrence: np.ndarray,
    grid: np.ndarray,
    design: np.ndarray,
    pinv: np.ndarray,
    want_std: bool,
    values: np.ndarray,
    std: np.ndarray,
    flags: np.ndarray,
) -> None:
    """Fit every voxel; fills values, std (voxels, 7) and flags (voxels,).

    signals (voxels, n) and directions (n, 3) are sorted by level; water: (n,) exp(-b d_iso).

    Args:
        sigma: (voxels,) noise standard deviation, NaN where unknown: then least squares.
    """
    count, n = signals.shape
    levels, terms = stick.shape
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        s, confidence, weights = np.empty(n), np.empty(n), np.empty(n)
        logs, scratch, m = np.empty(n), np.empty(n), np.empty(n)
        beta, factor = np.empty(7), np.zeros((7, 7))
        lam, vec = np.empty(3), np.empty((3, 3))
        coefficients = np.empty((3, levels, terms))
        work, tissue = np.empty((5, n)), np.empty((4, n))
        jac, cosine = np.empty((6, n)), np.empty(n)
        pull, trial_pull = np.empty(n), np.empty(n)
        legendre = np.empty((GRID_TERMS, n))
        par, trial = np.empty(4), np.empty(4)  # ndi odi fwf s0
        mu, new_mu, one, two = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
        hessian, a, g, move = np.zeros((6, 6)), np.zeros((6, 6)), np.empty(6), np.empty(6)
        column = np.empty(6)
        for v in range(chunk * CHUNK, min((chunk + 1) * CHUNK, count)):
            scale, flag = prepare_signals(signals[v], s, confidence, 7)
            beta[:] = 0.0
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
            flag &= TOO_FEW
            eigen_symmetric(beta[1:7], lam, vec)
            mu[:] = vec[:, 0]
            level_sigma = sigma[v] / scale
            for i in range(n):
                m[i] = max(float(signals[v, i]), 0.0) / scale
                cosine[i] = (
                    directions[i, 0] * mu[0] + directions[i, 1] * mu[1] + directions[i, 2] * mu[2]
                )
            start(grid, starts, flat, recurrence, cosine, water, m, legendre, tissue[0], par)
            flag |= NOT_CONVERGED
            damping, cost = 1e-3, math.inf
            trial[:], new_mu[:] = par, mu
            size = math.inf
            for _ in range(MAX_ITERATIONS):
                # Evaluate the trial point, with derivatives: it is nearly always accepted.
                for i in range(n):
                    cosine[i] = (
                        directions[i, 0] * new_mu[0]
                        + directions[i, 1] * new_mu[1]
                        + directions[i, 2] * new_mu[2]
                    )
                series_coefficients(
                    trial[0], trial[1], level_b, d_par, averaged, stick, kernel, kernel_slope,
                    step, watson, watson_slope, coefficients,
                )  # fmt: skip
                sum_series(coefficients, starts, flat, recurrence, cosine, work, tissue)
                share = trial[3] * (1.0 - trial[2])
                for i in range(n):
                    s[i] = share * tissue[0, i] + trial[3] * trial[2] * water[i]
                changed = misfit(m, s, level_sigma, trial_pull)
                if changed <= cost:
                    gained = cost - changed
                    cost = changed
                    par[:], mu[:], pull[:] = trial, new_mu, trial_pull
                    _derivatives(
                        directions, mu, par, tissue, water, s, level_sigma, pull,
                        one, two, jac, scratch, g, hessian,
                    )  # fmt: skip
                    if size < 1e-6 or (size < 1e-2 and gained <= 1e-8 * abs(cost)):
                        flag &= ~NOT_CONVERGED
                        break
                    damping = max(damping / 10.0, 1e-12)
                else:
                    damping *= 10.0
                    if size < 1e-6 or damping > 1e12:
                        flag &= ~NOT_CONVERGED
                        break
                size = _step(par, mu, g, hessian, damping, one, two, a, move, trial, new_mu)
            flags[v] = flag
            for p in range(3):
                values[v, p] = par[p]
            for i in range(3):
                values[v, 3 + i] = mu[i]
            values[v, 6] = par[3] * scale
            if not want_std:
                continue
            variance = level_sigma * level_sigma
            if math.isnan(variance):
                variance = 2.0 * cost / (n - 6) if n > 6 else math.nan
            variance = max(variance, 1e-16)
            for p in range(6):
                for q in range(p + 1):
                    a[p, q] = hessian[p, q] / variance
            # What is known of any fraction or axis before the scan; it bounds the errors where
            # the scan says nothing (dispersion in free water).
            for p in range(3):
                a[p, p] += 12.0
            a[4, 4] += 3.0
            a[5, 5] += 3.0
            a[3, 3] += 1e-6
            if not cholesky(a, 6):
                std[v, :] = math.nan
                continue
            for p in range(6):
                column[:] = 0.0
                column[p] = 1.0
                solve_lower(a, column, 6)
                total = 0.0
                for q in range(6):
                    total += column[q] ** 2
                move[p] = math.sqrt(total)
            for p in range(3):
                std[v, p] = move[p]
            std[v, 6] = move[3] * scale
            for i in range(3):
                column[:] = 0.0
                column[4], column[5] = one[i], two[i]
                solve_lower(a, column, 6)
                total = 0.0
                for q in range(6):
                    total += column[q] ** 2
                std[v, 3 + i] = min(math.sqrt(total), RANDOM_AXIS)
