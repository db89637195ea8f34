"""Small linear algebra for one voxel, compiled: what every fit is built from.

All functions work in float64 on arrays that the caller owns, so that a voxel's result does not
depend on the block it came in or on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

#: Reordering of sums is allowed (it lets the compiler vectorise); NaN and inf keep their meaning.
FAST = {"reassoc", "contract", "arcp", "nsz"}
compiled = njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
compiled_parallel = njit(cache=True, nogil=True, parallel=True, fastmath=FAST, error_model="numpy")

#: The same with every operation as it is written, for what must not depend on how the compiler orders
#: it: paths of many decisions (a streamline goes another way from one different rounding on), and
#: rounding tricks. fastmath=False must stand here: what is left out, numba takes from the caller that
#: is compiled first.
compiled_exact = njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
compiled_parallel_exact = njit(
    cache=True, nogil=True, parallel=True, fastmath=False, error_model="numpy"
)


_MANTISSA, _ONE_BITS, _TWO52_BITS = 0x000FFFFFFFFFFFFF, 0x3FF0000000000000, 0x4330000000000000
_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer held in the low bits
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.693145751953125, 1.4286068203094172e-6


@compiled
def log_array(x: np.ndarray, out: np.ndarray, scratch: np.ndarray) -> None:
    """Out = ln x for positive normal float64, to 1e-12, in loops the compiler can vectorise."""
    n = len(x)
    bits, exponent, mantissa = x.view(np.int64), out.view(np.int64), scratch.view(np.int64)
    for k in range(n):
        exponent[k] = (bits[k] >> 52) | _TWO52_BITS
        mantissa[k] = (bits[k] & _MANTISSA) | _ONE_BITS
    for k in range(n):
        m, e = scratch[k], out[k] - (4503599627370496.0 + 1023.0)
        high = 1.0 if m > 1.4142135623730951 else 0.0
        m *= 1.0 - 0.5 * high
        t = (m - 1.0) / (m + 1.0)
        q = t * t
        series = 1 / 13 + q * (1 / 15 + q * (1 / 17))
        series = 1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * series)))
        out[k] = (e + high) * 0.6931471805599453 + 2.0 * t * (1.0 + q * (1 / 3 + q * series))


# Exact: reordered sums break the rounding below by tens of percent.
@compiled_exact
def exp_array(x: np.ndarray, shifted: np.ndarray) -> None:
    """X becomes exp(x), to 1e-13, for x within ±700; vectorised. shifted: scratch of its length.

    Without reordering of sums: the rounding trick depends on their order.
    """
    n = len(x)
    bits = shifted.view(np.int64)
    for k in range(n):
        v = min(max(x[k], -700.0), 700.0)
        big = v * _LOG2E + _ROUND
        whole = big - _ROUND
        r = (v - whole * _LN2_HIGH) - whole * _LN2_LOW
        high = 1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * (1 / 39916800)))
        low = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120)))))
        r2 = r * r * r
        x[k] = low + r2 * r2 * (1 / 720 + r * (1 / 5040 + r * high))
        shifted[k] = big
    for k in range(n):
        bits[k] = (bits[k] + 1023) << 52
    for k in range(n):
        x[k] *= shifted[k]


@compiled
def cholesky(a: np.ndarray, n: int) -> bool:
    """Lower factor in place of the lower triangle of `a` (n, n); False where it is singular."""
    for j in range(n):
        start = a[j, j]
        pivot = start
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        if not pivot > 1e-13 * start:
            return False
        root = math.sqrt(pivot)
        a[j, j] = root
        for i in range(j + 1, n):
            total = a[i, j]
            for k in range(j):
                total -= a[i, k] * a[j, k]
            a[i, j] = total / root
    return True


@compiled
def solve_lower(factor: np.ndarray, b: np.ndarray, n: int) -> None:
    """B becomes L⁻¹ b."""
    for i in range(n):
        total = b[i]
        for k in range(i):
            total -= factor[i, k] * b[k]
        b[i] = total / factor[i, i]


@compiled
def solve_upper(factor: np.ndarray, b: np.ndarray, n: int) -> None:
    """B becomes L⁻ᵀ b."""
    for i in range(n - 1, -1, -1):
        total = b[i]
        for k in range(i + 1, n):
            total -= factor[k, i] * b[k]
        b[i] = total / factor[i, i]


@compiled
def inverse_from_cholesky(factor: np.ndarray, out: np.ndarray, n: int) -> None:
    """Out (n, n) becomes (L Lᵀ)⁻¹, both triangles."""
    column = np.zeros(n)
    for j in range(n):
        column[:] = 0.0
        column[j] = 1.0
        solve_lower(factor, column, n)
        solve_upper(factor, column, n)
        for i in range(n):
            out[i, j] = column[i]


@compiled
def quadratic(cov: np.ndarray, g: np.ndarray, n: int) -> float:
    """gᵀ C g, never negative."""
    total = 0.0
    for i in range(n):
        row = 0.0
        for j in range(n):
            row += cov[i, j] * g[j]
        total += g[i] * row
    return max(total, 0.0)


@compiled
def normal_matrix(x: np.ndarray, w: np.ndarray, xw: np.ndarray, a: np.ndarray) -> None:
    """Lower triangle of X W Xᵀ into `a`, for a design x (p, n) and weights w (n,); xw: scratch."""
    p, n = x.shape
    for i in range(p):
        for k in range(n):
            xw[k] = x[i, k] * w[k]
        for j in range(i + 1):
            total = 0.0
            for k in range(n):
                total += xw[k] * x[j, k]
            a[i, j] = total


@compiled
def eigen_symmetric(six: np.ndarray, values: np.ndarray, vectors: np.ndarray) -> None:
    """Eigenvalues (descending) and vectors (columns) of xx yy zz xy xz yz, by Jacobi rotations.

    Exact to rounding also where eigenvalues coincide, where closed formulas lose their digits.
    """
    a = np.empty((3, 3))
    a[0, 0], a[1, 1], a[2, 2] = six[0], six[1], six[2]
    a[0, 1] = a[1, 0] = six[3]
    a[0, 2] = a[2, 0] = six[4]
    a[1, 2] = a[2, 1] = six[5]
    for i in range(3):
        for j in range(3):
            vectors[i, j] = 1.0 if i == j else 0.0
    for _ in range(12):
        off = a[0, 1] ** 2 + a[0, 2] ** 2 + a[1, 2] ** 2
        if off <= 1e-30 * (a[0, 0] ** 2 + a[1, 1] ** 2 + a[2, 2] ** 2 + off):
            break
        for p in range(2):
            for q in range(p + 1, 3):
                apq = a[p, q]
                if apq == 0.0:
                    continue
                theta = (a[q, q] - a[p, p]) / (2.0 * apq)
                sign = 1.0 if theta >= 0 else -1.0
                t = sign / (abs(theta) + math.sqrt(theta * theta + 1.0))
                c = 1.0 / math.sqrt(t * t + 1.0)
                s = t * c
                r = 3 - p - q
                a[p, p] -= t * apq
                a[q, q] += t * apq
                a[p, q] = a[q, p] = 0.0
                arp, arq = a[r, p], a[r, q]
                a[r, p] = a[p, r] = c * arp - s * arq
                a[r, q] = a[q, r] = s * arp + c * arq
                for k in range(3):
                    vp, vq = vectors[k, p], vectors[k, q]
                    vectors[k, p] = c * vp - s * vq
                    vectors[k, q] = s * vp + c * vq
    for i in range(3):
        values[i] = a[i, i]
    for i in range(2):
        top = i
        for j in range(i + 1, 3):
            if values[j] > values[top]:
                top = j
        if top != i:
            values[i], values[top] = values[top], values[i]
            for k in range(3):
                vectors[k, i], vectors[k, top] = vectors[k, top], vectors[k, i]


@compiled_parallel
def eigen_rows(six: np.ndarray, values: np.ndarray, vectors: np.ndarray) -> None:
    """Of tensors (n, 6): eigenvalues (n, 3), ascending, and vectors (n, 3, 3) as columns."""
    for v in prange(len(six)):
        lam, vec = np.empty(3), np.empty((3, 3))
        eigen_symmetric(six[v].astype(np.float64), lam, vec)
        for i in range(3):
            values[v, i] = lam[2 - i]
            for k in range(3):
                vectors[v, k, i] = vec[k, 2 - i]
