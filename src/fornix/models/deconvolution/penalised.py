"""Single-tissue constrained deconvolution: least squares with a penalty on negative amplitudes."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fornix.core.compute import blocks
from fornix.core.signals import Signals
from fornix.numerics.algebra import compiled_parallel
from fornix.numerics.batched import LANES, TASK, curvature, factor, product, solve
from fornix.numerics.constraint_sphere import sphere
from fornix.numerics.zonal import finite

#: Tournier et al.'s weights as in MRtrix3: of the penalty (by the response's mean) and of the norm.
_PENALTY, _NORM = 50.0, 2e-4
#: Weight of the norm where the steps start.
_FIRST_NORM = 5e-4
#: A step that changes the coefficients by less than this share of their norm is the last: what is
#: left is a tenth of it or less.
_TOLERANCE = 2e-2
_STEPS = 50


def deconvolve_penalised(
    signals: NDArray[np.float32] | Signals, design: NDArray[np.float64], lmax: int, mean: float
) -> NDArray[np.float32]:
    """Coefficients x that minimise |design x - s|² + norm |x|² + penalty sum_i min(0, f(u_i))².

    The fixed point of Tournier et al.'s iteration (NeuroImage 2007) as in MRtrix3's `dwi2fod csd`.
    That iteration is Newton's on a convex function, which has one minimum: so it may start
    anywhere and end as soon as the step is small (the error is then of the order of the step
    squared). float32: the normal matrix is well conditioned thanks to the norm's weight.

    Args:
        signals: (voxels, N) of one shell.
        design: (N, harmonics of lmax).
        lmax: Highest harmonic order, even.
        mean: The response's first harmonic coefficient, by which the penalty is scaled.

    Returns:
        (voxels, harmonics).
    """
    ball = sphere(lmax)
    axes, n = ball.basis.shape
    normal = design.T @ design
    normal += _NORM * normal[0, 0] * np.eye(n)
    scale = float(np.trace(normal)) / n
    penalty = (_PENALTY * mean / axes) ** 2 / scale
    # Without the penalty and with a larger norm: from there it takes two steps less than from order 4.
    first = np.linalg.solve(design.T @ design + _FIRST_NORM * normal[0, 0] * np.eye(n), design.T)
    to_rhs = np.concatenate([design.T / scale, first]).astype(np.float32).T
    packed = (normal / scale)[np.tril_indices(n)].astype(np.float32)
    arrays = (
        ball.basis.astype(np.float32),
        ball.moments.astype(np.float32),
        ball.start,
        ball.index,
        (penalty * ball.value).astype(np.float32),
    )
    out = np.zeros((len(signals), n), dtype=np.float32)
    for part in blocks(len(signals), 64 * TASK):
        both = finite(signals[part]) @ to_rhs
        _newton(np.ascontiguousarray(both[:, :n]), both[:, n:], packed, *arrays,
                np.float32(_TOLERANCE), _STEPS, out[part])  # fmt: skip
    return out


@compiled_parallel
def _newton(
    rhs: np.ndarray,
    guess: np.ndarray,
    normal: np.ndarray,
    basis: np.ndarray,
    moments: np.ndarray,
    start: np.ndarray,
    index: np.ndarray,
    value: np.ndarray,
    tolerance: float,
    limit: int,
    out: np.ndarray,
) -> None:
    """Newton steps from `guess` (voxels, n) until they change little; fills out (voxels, n)."""
    voxels, n = rhs.shape
    kind = rhs.dtype
    for task in prange((voxels + TASK - 1) // TASK):
        x, b, y = np.zeros((n, LANES), kind), np.zeros((n, LANES), kind), np.zeros((n, LANES), kind)
        negative = np.empty((len(basis), LANES), kind)
        moment = np.empty((len(moments), LANES), kind)
        matrix = np.empty((len(normal), LANES), kind)
        change, voxel, steps = np.zeros(LANES, kind), np.full(LANES, -1), np.zeros(LANES, np.int64)
        following, end = task * TASK, min(voxels, (task + 1) * TASK)
        while True:
            busy = False
            for v in range(LANES):
                if voxel[v] < 0 and following < end:
                    voxel[v], steps[v] = following, 0
                    for i in range(n):
                        b[i, v] = rhs[following, i]
                        x[i, v] = guess[following, i]
                    following += 1
                busy = busy or voxel[v] >= 0
            if not busy:
                break
            product(basis, x, negative)
            for i in range(len(basis)):
                for v in range(LANES):
                    negative[i, v] = 1 if negative[i, v] < 0 else 0
            product(moments, negative, moment)
            curvature(normal, moment, start, index, value, matrix)
            factor(matrix, n)
            for i in range(n):
                for v in range(LANES):
                    y[i, v] = b[i, v]
            solve(matrix, n, y)
            change[:] = 0
            for i in range(n):
                for v in range(LANES):
                    step = y[i, v] - x[i, v]
                    change[v] += step * step - tolerance**2 * y[i, v] * y[i, v]
                    x[i, v] = y[i, v]
            for v in range(LANES):
                steps[v] += 1
                if voxel[v] >= 0 and (change[v] <= 0 or steps[v] >= limit):
                    for i in range(n):
                        out[voxel[v], i] = x[i, v]
                    voxel[v] = -1
