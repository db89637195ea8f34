"""Multi-tissue constrained deconvolution: least squares with amplitudes that cannot be negative."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fornix.core.compute import blocks
from fornix.core.signals import Signals
from fornix.numerics.algebra import compiled, compiled_parallel
from fornix.numerics.batched import LANES, TASK, curvature, factor, product, solve
from fornix.numerics.constraint_sphere import sphere
from fornix.numerics.zonal import finite

#: Mean product of amplitude and multiplier at the end, for signals scaled to one voxel of fibre.
_GAP = 1e-9
_STEPS = 40
#: Weight of the norm, as in MRtrix3: decides only what the scan leaves open.
_NORM = 1e-10
#: First coefficient of a function of integral one.
_WHOLE = 1 / np.sqrt(4 * np.pi)
#: Multipliers at the start, chosen on a phantom and a scan: a tenth or ten times cost two steps.
_MULTIPLIER = 1e-3


def deconvolve_nonnegative(
    signals: NDArray[np.float32] | Signals, design: NDArray[np.float64], lmax: int
) -> NDArray[np.float32]:
    """Coefficients that minimise |design x - s|² with f(u_i) >= 0 on 300 axes, isotropic parts >= 0.

    The problem of Jeurissen et al. (NeuroImage 2014) and MRtrix3's `dwi2fod msmt_csd`. In typical
    voxels 40 of its 47 degrees of freedom end on a constraint, which makes methods that add
    constraints one by one slow. Here a primal-dual interior point method (Mehrotra, SIAM J. Optim.
    1992) goes to the same answer in some 12 steps whatever the voxel, each a few products and one
    factorisation. float64: near the constraints their weights span ten orders of magnitude.

    Args:
        signals: (voxels, N).
        design: (N, harmonics of lmax + isotropic tissues), the fibres first.
        lmax: Highest harmonic order, even.

    Returns:
        (voxels, harmonics + isotropic). A voxel without finite positive signal gives zeros.
    """
    ball = sphere(lmax)
    n, total = ball.basis.shape[1], design.shape[1]
    scale = float(np.sqrt(np.trace(design[:, :n].T @ design[:, :n]) / n))
    scaled = design / scale
    unit = _WHOLE * float(np.linalg.norm(scaled[:, 0]))
    normal = scaled.T @ scaled
    normal += _NORM * normal.diagonal().max() * np.eye(total)
    packed = normal[np.tril_indices(total)]
    basis, back = ball.basis, np.ascontiguousarray(ball.basis.T)
    out = np.zeros((len(signals), total), dtype=np.float32)
    for part in blocks(len(signals), 64 * TASK):
        data = np.clip(finite(signals[part].astype(np.float64)), 0, None)
        size = np.linalg.norm(data, axis=1) / unit
        data /= np.where(size > 0, size, 1)[:, None]
        _interior_point(data @ scaled, size / scale, normal, packed, basis, back, ball.moments,
                        ball.start, ball.index, ball.value, _GAP, _STEPS, out[part])  # fmt: skip
    return out


@compiled_parallel
def _interior_point(
    rhs: np.ndarray,
    size: np.ndarray,
    normal: np.ndarray,
    packed: np.ndarray,
    basis: np.ndarray,
    back: np.ndarray,
    moments: np.ndarray,
    start: np.ndarray,
    index: np.ndarray,
    value: np.ndarray,
    gap: float,
    limit: int,
    out: np.ndarray,
) -> None:
    """Mehrotra's predictor and corrector from the isotropic function; fills out (voxels, total).

    The amplitudes s = A x stay positive all the way, so that x is always feasible; z are the
    multipliers. Each step solves (Q + A' diag(z/s) A) dx = b - Q x - A' t twice with one
    factorisation: with t = 0, and with t from how far that first step got.
    """
    voxels, total = rhs.shape
    axes, n = basis.shape
    rows = axes + total - n
    for task in prange((voxels + TASK - 1) // TASK):
        x, b, r = np.zeros((total, LANES)), np.zeros((total, LANES)), np.zeros((total, LANES))
        dx, s, z = np.zeros((total, LANES)), np.ones((rows, LANES)), np.ones((rows, LANES))
        w, ds, t = np.zeros((rows, LANES)), np.zeros((rows, LANES)), np.zeros((rows, LANES))
        moment = np.empty((len(moments), LANES))
        matrix = np.empty((len(packed), LANES))
        voxel, steps = np.full(LANES, -1), np.zeros(LANES, np.int64)
        length, mean = np.zeros(LANES), np.zeros(LANES)
        following, end = task * TASK, min(voxels, (task + 1) * TASK)
        while True:
            busy = False
            for v in range(LANES):
                while voxel[v] < 0 and following < end:
                    if size[following] > 0:
                        voxel[v], steps[v] = following, 0
                        _begin(rhs[following], basis[0, 0], n, v, x, b, s, z)
                    following += 1
                busy = busy or voxel[v] >= 0
            if not busy:
                break
            for i in range(rows):
                for v in range(LANES):
                    w[i, v] = z[i, v] / s[i, v]
            product(moments, w[:axes], moment)
            curvature(packed, moment, start, index, value, matrix)
            for a in range(n, total):
                for v in range(LANES):
                    matrix[a * (a + 1) // 2 + a, v] += w[axes + a - n, v]
            factor(matrix, total)
            product(normal, x, r)
            for a in range(total):
                for v in range(LANES):
                    r[a, v] = b[a, v] - r[a, v]
                    dx[a, v] = r[a, v]
            solve(matrix, total, dx)
            _amplitudes(basis, dx, axes, n, ds)
            _predict(s, z, w, ds, t, length, mean)
            product(back, t[:axes], dx[:n])
            for a in range(n, total):
                for v in range(LANES):
                    dx[a, v] = t[axes + a - n, v]
            for a in range(total):
                for v in range(LANES):
                    dx[a, v] = r[a, v] - dx[a, v]
            solve(matrix, total, dx)
            _amplitudes(basis, dx, axes, n, ds)
            _advance(s, z, w, ds, t, x, dx, length, mean)
            for v in range(LANES):
                if voxel[v] < 0:
                    continue
                steps[v] += 1
                if mean[v] < gap or steps[v] >= limit:
                    for a in range(total):
                        out[voxel[v], a] = x[a, v] * size[voxel[v]]
                    voxel[v] = -1


@compiled
def _begin(
    rhs: np.ndarray,
    constant: float,
    n: int,
    v: int,
    x: np.ndarray,
    b: np.ndarray,
    s: np.ndarray,
    z: np.ndarray,
) -> None:
    """Lane v starts from a third of each tissue and the same function in all directions."""
    axes = len(s) - (len(x) - n)
    for a in range(len(x)):
        b[a, v] = rhs[a]
        x[a, v] = 0.0
    x[0, v] = _WHOLE
    for i in range(axes):
        s[i, v] = _WHOLE * constant
        z[i, v] = _MULTIPLIER
    for a in range(n, len(x)):
        x[a, v] = 0.1
        s[axes + a - n, v] = 0.1
        z[axes + a - n, v] = _MULTIPLIER


@compiled
def _amplitudes(basis: np.ndarray, dx: np.ndarray, axes: int, n: int, ds: np.ndarray) -> None:
    product(basis, dx[:n], ds[:axes])
    for a in range(n, len(dx)):
        for v in range(dx.shape[1]):
            ds[axes + a - n, v] = dx[a, v]


@compiled
def _lengths(
    s: np.ndarray, z: np.ndarray, w: np.ndarray, ds: np.ndarray, t: np.ndarray, length: np.ndarray
) -> None:
    """The inverse of the longest step that keeps s and z positive: largest -ds/s and -dz/z."""
    length[:] = 0.0
    for i in range(len(s)):
        for v in range(s.shape[1]):
            dz = -z[i, v] - t[i, v] - w[i, v] * ds[i, v]
            one, two = -ds[i, v] / s[i, v], -dz / z[i, v]
            larger = one if one > two else two
            length[v] = larger if larger > length[v] else length[v]


@compiled
def _predict(
    s: np.ndarray,
    z: np.ndarray,
    w: np.ndarray,
    ds: np.ndarray,
    t: np.ndarray,
    length: np.ndarray,
    mean: np.ndarray,
) -> None:
    """T = (ds dz - sigma mu)/s: what the first step misses, and how much to stay in the middle."""
    t[:] = 0.0
    _lengths(s, z, w, ds, t, length)
    lanes = s.shape[1]
    after = np.zeros(lanes)
    mean[:] = 0.0
    for v in range(lanes):
        length[v] = 1.0 / max(1.0, length[v])
    for i in range(len(s)):
        for v in range(lanes):
            dz = -z[i, v] - w[i, v] * ds[i, v]
            mean[v] += s[i, v] * z[i, v]
            after[v] += (s[i, v] + length[v] * ds[i, v]) * (z[i, v] + length[v] * dz)
    for v in range(lanes):
        ratio = after[v] / mean[v]
        after[v] = ratio * ratio * ratio * mean[v] / len(s)
    for i in range(len(s)):
        for v in range(lanes):
            dz = -z[i, v] - w[i, v] * ds[i, v]
            t[i, v] = (ds[i, v] * dz - after[v]) / s[i, v]


@compiled
def _advance(
    s: np.ndarray,
    z: np.ndarray,
    w: np.ndarray,
    ds: np.ndarray,
    t: np.ndarray,
    x: np.ndarray,
    dx: np.ndarray,
    length: np.ndarray,
    mean: np.ndarray,
) -> None:
    """One step, 99% of the way to where an amplitude or a multiplier becomes zero, at most all."""
    _lengths(s, z, w, ds, t, length)
    lanes = s.shape[1]
    for v in range(lanes):
        length[v] = 1.0 / max(1.0, length[v] / 0.99)
        mean[v] = 0.0
    for i in range(len(s)):
        for v in range(lanes):
            dz = -z[i, v] - t[i, v] - w[i, v] * ds[i, v]
            s[i, v] += length[v] * ds[i, v]
            z[i, v] += length[v] * dz
            mean[v] += s[i, v] * z[i, v]
    for v in range(lanes):
        mean[v] /= len(s)
    for a in range(len(x)):
        for v in range(lanes):
            x[a, v] += length[v] * dx[a, v]
