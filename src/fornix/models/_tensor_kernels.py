"""Compiled kernels of the tensor: log-linear fits, and metrics with their propagated errors."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fornix.models._signals import prepare_signals
from fornix.models.flags import BAD_DATA, EMPTY, NON_PHYSICAL, NOT_CONVERGED, SINGULAR
from fornix.numerics.algebra import (
    cholesky,
    compiled,
    compiled_parallel,
    eigen_symmetric,
    exp_array,
    inverse_from_cholesky,
    log_array,
    normal_matrix,
    quadratic,
    solve_lower,
    solve_upper,
)

#: Columns of the output: fa md ad rd | Dxx Dyy Dzz Dxy Dxz Dyz | v1 | s0.
COLUMNS = 14
#: No tissue or fluid in a body diffuses faster, µm²/ms; noise in empty voxels seems to.
HIGHEST = 10.0
#: Standard deviation of one component of a random unit vector: no direction is known worse.
RANDOM_AXIS = 1.0 / math.sqrt(3.0)
#: Voxels per task of the thread pool.
CHUNK = 256


@compiled
def fit_log_linear(
    s: np.ndarray,
    confidence: np.ndarray,
    design: np.ndarray,
    pinv: np.ndarray,
    rounds: int,
    tolerance: float,
    beta: np.ndarray,
    weights: np.ndarray,
    logs: np.ndarray,
    scratch: np.ndarray,
    factor: np.ndarray,
) -> int:
    """Fit ln s = beta · design, weighted by the squared signals that the fit before predicts.

    Args:
        rounds: 0 is ordinary least squares, 1 is WLS with the weights of OLS, more is iterated until
            beta changes by less than `tolerance`. After it `weights` holds the last weights used and
            `factor` the Cholesky factor of the weighted normal matrix.

    Returns:
        flags.
    """
    p, n = design.shape
    clean = True
    log_array(s, logs, weights)
    for k in range(n):
        clean = clean and confidence[k] == 1.0
    if clean:
        for i in range(p):
            total = 0.0
            for k in range(n):
                total += pinv[i, k] * logs[k]
            beta[i] = total
    elif not _solve_weighted(design, confidence, logs, scratch, factor, beta):
        return SINGULAR
    if rounds == 0:
        for k in range(n):
            weights[k] = confidence[k]
        normal_matrix(design, weights, scratch, factor)
        return 0 if cholesky(factor, p) else SINGULAR
    for trip in range(rounds):
        for k in range(n):
            weights[k] = 0.0
        for i in range(p):
            for k in range(n):
                weights[k] += beta[i] * design[i, k]
        for k in range(n):
            weights[k] = 2.0 * min(weights[k], 20.0)
        exp_array(weights, scratch)
        largest = 0.0
        for k in range(n):
            largest = max(largest, weights[k])
        for k in range(n):  # noise alone can drive a few weights to rule over all others
            weights[k] = max(weights[k], 1e-10 * largest) * confidence[k]
        before = beta.copy() if rounds > 1 else beta
        if not _solve_weighted(design, weights, logs, scratch, factor, beta):
            return SINGULAR
        if trip > 0 and np.abs(beta - before).max() < tolerance:
            return 0
    return 0 if rounds == 1 else NOT_CONVERGED


@compiled
def _solve_weighted(
    design: np.ndarray,
    weights: np.ndarray,
    y: np.ndarray,
    scratch: np.ndarray,
    factor: np.ndarray,
    beta: np.ndarray,
) -> bool:
    p, n = design.shape
    normal_matrix(design, weights, scratch, factor)
    if not cholesky(factor, p):
        return False
    for k in range(n):
        scratch[k] = weights[k] * y[k]
    for i in range(p):
        total = 0.0
        for k in range(n):
            total += design[i, k] * scratch[k]
        beta[i] = total
    solve_lower(factor, beta, p)
    solve_upper(factor, beta, p)
    return True


@compiled
def residual_variance(
    logs: np.ndarray,
    design: np.ndarray,
    beta: np.ndarray,
    weights: np.ndarray,
    weighted: bool,
    scratch: np.ndarray,
) -> float:
    """Variance of the signal's noise from residuals of the logarithm, weighted by S².

    Args:
        weights: The squared signals of a weighted fit; of an ordinary one they are computed from beta.
    """
    p, n = design.shape
    if n <= p:
        return math.nan
    for k in range(n):
        scratch[k] = 0.0
    for i in range(p):
        for k in range(n):
            scratch[k] += beta[i] * design[i, k]
    total = 0.0
    for k in range(n):
        square = weights[k] if weighted else math.exp(2.0 * min(scratch[k], 20.0)) * weights[k]
        total += (logs[k] - scratch[k]) ** 2 * square
    return total / (n - p)


@compiled
def tensor_metrics(
    beta: np.ndarray,
    cov: np.ndarray,
    scale: float,
    want_std: bool,
    values: np.ndarray,
    std: np.ndarray,
) -> int:
    """The 14 outputs of one voxel from beta = (ln S0, six tensor elements), and their errors.

    Args:
        cov: (7, 7) covariance of beta. Eigenvalues outside [0, 10] µm²/ms are moved to the bound in
            every output, the tensor included, and the voxel is flagged. Errors are to first order: var
            = gᵀ C g with the metric's gradient g.

    Returns:
        flags.
    """
    lam = np.empty(3)
    vec = np.empty((3, 3))
    eigen_symmetric(beta[1:7], lam, vec)
    flags = 0
    for i in range(3):
        if not 0.0 <= lam[i] <= HIGHEST:
            flags = NON_PHYSICAL
            lam[i] = min(max(lam[i], 0.0), HIGHEST)
    mean = (lam[0] + lam[1] + lam[2]) / 3.0
    square = lam[0] ** 2 + lam[1] ** 2 + lam[2] ** 2
    deviation = (lam[0] - mean) ** 2 + (lam[1] - mean) ** 2 + (lam[2] - mean) ** 2
    fa = min(1.0, math.sqrt(1.5 * deviation / square)) if square > 0.0 else 0.0
    d = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            d[i, j] = (
                lam[0] * vec[i, 0] * vec[j, 0]
                + lam[1] * vec[i, 1] * vec[j, 1]
                + lam[2] * vec[i, 2] * vec[j, 2]
            )
    values[0], values[1], values[2], values[3] = fa, mean, lam[0], (lam[1] + lam[2]) / 2
    values[4], values[5], values[6] = d[0, 0], d[1, 1], d[2, 2]
    values[7], values[8], values[9] = d[0, 1], d[0, 2], d[1, 2]
    values[10], values[11], values[12] = vec[0, 0], vec[1, 0], vec[2, 0]
    values[13] = math.exp(min(beta[0], 7.0)) * scale
    if not want_std:
        return flags

    g = np.zeros(7)
    matrix = np.empty((3, 3))
    # FA = sqrt(3/2) |A| / |D| with A the deviator: its gradient is FA (A/|A|² - D/|D|²).
    for i in range(3):
        for j in range(3):
            a = d[i, j] - (mean if i == j else 0.0)
            if deviation > 1e-24 and square > 0.0:
                matrix[i, j] = fa * (a / deviation - d[i, j] / square)
            else:
                matrix[i, j] = 0.0
    _as_gradient(matrix, g)
    std[0] = min(math.sqrt(quadratic(cov, g, 7)), 1.0)
    g[:] = 0.0
    g[1] = g[2] = g[3] = 1.0 / 3.0
    std[1] = min(math.sqrt(quadratic(cov, g, 7)), HIGHEST)
    for i in range(3):
        for j in range(3):
            matrix[i, j] = vec[i, 0] * vec[j, 0]
    _as_gradient(matrix, g)
    std[2] = min(math.sqrt(quadratic(cov, g, 7)), HIGHEST)
    for i in range(3):
        for j in range(3):
            matrix[i, j] = (vec[i, 1] * vec[j, 1] + vec[i, 2] * vec[j, 2]) / 2
    _as_gradient(matrix, g)
    std[3] = min(math.sqrt(quadratic(cov, g, 7)), HIGHEST)
    for k in range(6):
        std[4 + k] = min(math.sqrt(max(cov[1 + k, 1 + k], 0.0)), HIGHEST)
    # v1 tilts towards v2 and v3 by (vkᵀ dD v1) / (λ1 - λk).
    spread = np.zeros(2)
    for k in range(2):
        for i in range(3):
            for j in range(3):
                matrix[i, j] = (vec[i, k + 1] * vec[j, 0] + vec[j, k + 1] * vec[i, 0]) / 2
        _as_gradient(matrix, g)
        gap = lam[0] - lam[k + 1]
        spread[k] = math.sqrt(quadratic(cov, g, 7)) / gap if gap > 1e-12 else math.inf
    for i in range(3):
        first = vec[i, 1] * spread[0] if vec[i, 1] != 0.0 else 0.0
        second = vec[i, 2] * spread[1] if vec[i, 2] != 0.0 else 0.0
        std[10 + i] = min(math.sqrt(first * first + second * second), RANDOM_AXIS)
    std[13] = values[13] * min(math.sqrt(max(cov[0, 0], 0.0)), HIGHEST)
    return flags


@compiled
def _as_gradient(matrix: np.ndarray, g: np.ndarray) -> None:
    """The gradient by beta of a quantity whose gradient by the symmetric D is `matrix`."""
    g[0] = 0.0
    g[1], g[2], g[3] = matrix[0, 0], matrix[1, 1], matrix[2, 2]
    g[4], g[5], g[6] = 2 * matrix[0, 1], 2 * matrix[0, 2], 2 * matrix[1, 2]


@compiled_parallel
def linear_tensor(
    signals: np.ndarray,
    sigma: np.ndarray,
    design: np.ndarray,
    pinv: np.ndarray,
    rounds: int,
    tolerance: float,
    want_std: bool,
    values: np.ndarray,
    std: np.ndarray,
    flags: np.ndarray,
) -> None:
    """OLS, WLS or IWLS of every voxel; fills values, std (voxels, 14) and flags (voxels,).

    Args:
        sigma: (voxels,) noise standard deviation, NaN where unknown: then from the residuals.
    """
    count, n = signals.shape
    p = 7
    for chunk in prange((count + CHUNK - 1) // CHUNK):
        s, confidence, weights = np.empty(n), np.empty(n), np.empty(n)
        logs, scratch = np.empty(n), np.empty(n)
        beta, factor, cov = np.empty(p), np.zeros((p, p)), np.zeros((p, p))
        half = np.empty((p, n))
        row, row_std = np.zeros(COLUMNS), np.zeros(COLUMNS)
        for v in range(chunk * CHUNK, min((chunk + 1) * CHUNK, count)):
            beta[:] = 0.0
            scale, flag = prepare_signals(signals[v], s, confidence, p)
            if flag & (BAD_DATA | EMPTY) == 0:
                flag |= fit_log_linear(
                    s, confidence, design, pinv, rounds, tolerance,
                    beta, weights, logs, scratch, factor,
                )  # fmt: skip
            if not np.isfinite(beta).all():
                flag |= SINGULAR
            if flag & (BAD_DATA | EMPTY | SINGULAR):
                flags[v] = flag
                values[v, :] = 0.0
                std[v, :] = 0.0
                continue
            if want_std:
                variance = (sigma[v] / scale) ** 2
                if math.isnan(variance):
                    variance = residual_variance(logs, design, beta, weights, rounds > 0, scratch)
                inverse_from_cholesky(factor, cov, p)
                if rounds == 0:
                    _sandwich(design, beta, half, cov)
                for i in range(p):
                    for j in range(p):
                        cov[i, j] *= variance
            flags[v] = flag | tensor_metrics(beta, cov, scale, want_std, row, row_std)
            values[v, :] = row
            std[v, :] = row_std


@compiled
def _sandwich(design: np.ndarray, beta: np.ndarray, half: np.ndarray, cov: np.ndarray) -> None:
    """Covariance of OLS: (XXᵀ)⁻¹ X diag(1/S²) Xᵀ (XXᵀ)⁻¹, since ln S has variance σ²/S²."""
    p, n = design.shape
    for k in range(n):
        log = 0.0
        for i in range(p):
            log += beta[i] * design[i, k]
        inverse = math.exp(-max(log, -10.0))
        for i in range(p):
            total = 0.0
            for j in range(p):
                total += cov[i, j] * design[j, k]
            half[i, k] = total * inverse
    for i in range(p):
        for j in range(p):
            total = 0.0
            for k in range(n):
                total += half[i, k] * half[j, k]
            cov[i, j] = total
