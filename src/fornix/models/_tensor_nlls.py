"""The compiled non-linear tensor fit: Levenberg-Marquardt on the signals themselves."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fornix.models._signals import prepare_signals
from fornix.models._tensor_kernels import CHUNK, COLUMNS, fit_log_linear, tensor_metrics
from fornix.models.flags import BAD_DATA, EMPTY, NOT_CONVERGED, SINGULAR
from fornix.numerics.algebra import (
    cholesky,
    compiled,
    compiled_parallel,
    eigen_symmetric,
    exp_array,
    inverse_from_cholesky,
    normal_matrix,
    solve_lower,
    solve_upper,
)
from fornix.numerics.rician import expected_part, information

MAX_ITERATIONS = 100
#: Smallest eigenvalue of the starting point, µm²/ms: at 0 the square-root form has no slope.
START_AT_LEAST = 0.02


@compiled
def signals_of(beta: np.ndarray, design: np.ndarray, out: np.ndarray, scratch: np.ndarray) -> None:
    """Out (n,) = exp(beta · design)."""
    p, n = design.shape
    for k in range(n):
        out[k] = 0.0
    for i in range(p):
        for k in range(n):
            out[k] += beta[i] * design[i, k]
    for k in range(n):
        out[k] = min(out[k], 20.0)
    exp_array(out, scratch)


@compiled
def misfit(m: np.ndarray, s: np.ndarray, sigma: float, pull: np.ndarray) -> float:
    """-ln likelihood of magnitudes m given signals s; `pull` becomes its gradient by s.

    Both are multiplied by sigma². NaN for sigma: half the sum of squares.
    """
    total = 0.0
    if math.isnan(sigma):
        for k in range(len(m)):
            pull[k] = s[k] - m[k]
            total += 0.5 * pull[k] * pull[k]
        return total
    variance = sigma * sigma
    for k in range(len(m)):
        part, log = expected_part(m[k], s[k], variance)
        pull[k] = s[k] - part
        total += 0.5 * (s[k] - m[k]) ** 2 - variance * log
    return total


@compiled
def _from_root(theta: np.ndarray, beta: np.ndarray, jac: np.ndarray) -> None:
    """Beta = (ln S0, D = L Lᵀ) and ∂beta/∂theta from theta = (ln S0, l11 l22 l33 l21 l31 l32)."""
    a, b, c, d, e, f = theta[1], theta[2], theta[3], theta[4], theta[5], theta[6]
    beta[0] = theta[0]
    beta[1], beta[2], beta[3] = a * a, d * d + b * b, e * e + f * f + c * c
    beta[4], beta[5], beta[6] = a * d, a * e, d * e + b * f
    jac[:] = 0.0
    jac[0, 0] = 1.0
    jac[1, 1] = 2 * a
    jac[2, 2], jac[2, 4] = 2 * b, 2 * d
    jac[3, 3], jac[3, 5], jac[3, 6] = 2 * c, 2 * e, 2 * f
    jac[4, 1], jac[4, 4] = d, a
    jac[5, 1], jac[5, 5] = e, a
    jac[6, 2], jac[6, 4], jac[6, 5], jac[6, 6] = f, e, d, b


@compiled
def _to_root(beta: np.ndarray, theta: np.ndarray) -> None:
    """The root of the nearest tensor whose eigenvalues are not too small to start from."""
    lam, vec = np.empty(3), np.empty((3, 3))
    eigen_symmetric(beta[1:7], lam, vec)
    d = np.zeros((3, 3))
    for k in range(3):
        value = min(max(lam[k], START_AT_LEAST), 10.0)
        for i in range(3):
            for j in range(3):
                d[i, j] += value * vec[i, k] * vec[j, k]
    cholesky(d, 3)
    theta[0] = beta[0]
    theta[1], theta[2], theta[3] = d[0, 0], d[1, 1], d[2, 2]
    theta[4], theta[5], theta[6] = d[1, 0], d[2, 0], d[2, 1]


@compiled
def _minimise(
    m: np.ndarray,
    sigma: float,
    design: np.ndarray,
    positive: bool,
    beta: np.ndarray,
    hessian: np.ndarray,
    scratch: np.ndarray,
) -> tuple[float, int]:
    """Move beta (7,) to the optimum; (misfit, flags). hessian: Fisher information there * sigma²."""
    p, n = design.shape
    theta, trial = np.empty(p), np.empty(p)
    jac, mixed, a = np.zeros((p, p)), np.zeros((p, p)), np.zeros((p, p))
    gradient, g, new = np.empty(p), np.empty(p), np.empty(p)
    s, pull, w = np.empty(n), np.empty(n), np.empty(n)
    if positive:
        _to_root(beta, theta)
        _from_root(theta, beta, jac)
    else:
        theta[:] = beta
        for i in range(p):
            jac[i, i] = 1.0
    signals_of(beta, design, s, scratch)
    cost = misfit(m, s, sigma, pull)
    damping = 1e-3
    flag = NOT_CONVERGED
    for _ in range(MAX_ITERATIONS):
        for k in range(n):
            known = 1.0 if math.isnan(sigma) else max(information(s[k], sigma), 0.02)
            w[k] = known * s[k] * s[k]
        normal_matrix(design, w, scratch, hessian)
        for i in range(p):
            total = 0.0
            for k in range(n):
                total += design[i, k] * s[k] * pull[k]
            gradient[i] = total
            for j in range(i):
                hessian[j, i] = hessian[i, j]
        for i in range(p):
            total = 0.0
            for k in range(p):
                total += jac[k, i] * gradient[k]
            g[i] = total
            for j in range(p):
                total = 0.0
                for k in range(p):
                    total += hessian[i, k] * jac[k, j]
                mixed[i, j] = total
        better = False
        while damping < 1e10:
            for i in range(p):
                for j in range(i + 1):
                    total = 0.0
                    for k in range(p):
                        total += jac[k, i] * mixed[k, j]
                    a[i, j] = total
                a[i, i] *= 1.0 + damping
                a[i, i] += 1e-14
                trial[i] = -g[i]
            if cholesky(a, p):
                solve_lower(a, trial, p)
                solve_upper(a, trial, p)
                size = 0.0
                for i in range(p):
                    size = max(size, abs(trial[i]))
                    trial[i] += theta[i]
                if positive:
                    _from_root(trial, new, jac)
                else:
                    new[:] = trial
                signals_of(new, design, s, scratch)
                changed = misfit(m, s, sigma, pull)
                if changed <= cost:
                    better = True
                    break
                if size < 1e-9:
                    break
                if positive:
                    _from_root(theta, new, jac)
            damping *= 8.0
        if not better:
            # No descent at any step length: this is the optimum to rounding.
            if positive:
                _from_root(theta, beta, jac)
            signals_of(beta, design, s, scratch)
            flag = 0
            break
        gained = cost - changed
        cost = changed
        theta[:] = trial
        beta[:] = new
        damping = max(damping / 10.0, 1e-9)
        if size < 1e-7 or (size < 1e-3 and gained <= 1e-11 * cost):
            flag = 0
            break
    for k in range(n):
        known = 1.0 if math.isnan(sigma) else information(s[k], sigma)
        w[k] = known * s[k] * s[k]
    normal_matrix(design, w, scratch, hessian)
    return cost, flag


@compiled_parallel
def nonlinear_tensor(
    signals: np.ndarray,
    sigma: np.ndarray,
    design: np.ndarray,
    pinv: np.ndarray,
    positive: bool,
    want_std: bool,
    values: np.ndarray,
    std: np.ndarray,
    flags: np.ndarray,
) -> None:
    """Non-linear fit of every voxel from its WLS fit; arguments as `linear_tensor`."""
    count, n = signals.shape
    p = 7
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        s, confidence, weights = np.empty(n), np.empty(n), np.empty(n)
        logs, scratch, m = np.empty(n), np.empty(n), np.empty(n)
        beta, factor, cov = np.empty(p), np.zeros((p, p)), np.zeros((p, p))
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
            level = sigma[v] / scale
            for k in range(n):
                m[k] = max(float(signals[v, k]), 0.0) / scale
            cost, ended = _minimise(m, level, design, positive, beta, factor, scratch)
            flag |= ended
            if want_std:
                if not math.isnan(level):
                    variance = level * level
                else:
                    variance = 2.0 * cost / (n - p) if n > p else math.nan
                if cholesky(factor, p):
                    inverse_from_cholesky(factor, cov, p)
                else:  # all signal lost in the noise: errors at their upper bounds
                    cov[:] = 0.0
                    for i in range(p):
                        cov[i, i] = 1e12
                for i in range(p):
                    for j in range(p):
                        cov[i, j] *= variance
            flags[v] = flag | tensor_metrics(beta, cov, scale, want_std, row, row_std)
            values[v, :] = row
            std[v, :] = row_std
