"""Compiled linear algebra of many small problems at once, one voxel per lane of the processor.

Arrays are (feature, lane), so that the innermost loop runs over voxels and vectorises whatever the
size of a voxel's system. Symmetric matrices are packed by rows: element a (a + 1)/2 + b for b <= a.
"""

from __future__ import annotations

import numpy as np

from fornix.numerics.algebra import compiled

#: Voxels side by side: their matrices of order 8 stay in the second-level cache. With 32 a step takes a
#: third longer.
LANES = 64
#: Voxels per task of the thread pool. A lane that is done takes the next voxel of its task.
TASK = 512


@compiled
def product(matrix: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Out (rows, lanes) = matrix (rows, terms) @ x (terms, lanes)."""
    rows, terms = matrix.shape
    lanes = x.shape[1]
    one, two = np.empty(lanes, dtype=x.dtype), np.empty(lanes, dtype=x.dtype)
    even = rows - rows % 2
    for r in range(0, even, 2):
        one[:] = 0
        two[:] = 0
        k = 0
        while k + 4 <= terms:
            a0, a1, a2, a3 = matrix[r, k], matrix[r, k + 1], matrix[r, k + 2], matrix[r, k + 3]
            b0, b1 = matrix[r + 1, k], matrix[r + 1, k + 1]
            b2, b3 = matrix[r + 1, k + 2], matrix[r + 1, k + 3]
            for v in range(lanes):
                x0, x1, x2, x3 = x[k, v], x[k + 1, v], x[k + 2, v], x[k + 3, v]
                one[v] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                two[v] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
            k += 4
        while k < terms:
            a0, b0 = matrix[r, k], matrix[r + 1, k]
            for v in range(lanes):
                one[v] += a0 * x[k, v]
                two[v] += b0 * x[k, v]
            k += 1
        for v in range(lanes):
            out[r, v] = one[v]
            out[r + 1, v] = two[v]
    for r in range(even, rows):
        one[:] = 0
        for k in range(terms):
            for v in range(lanes):
                one[v] += matrix[r, k] * x[k, v]
        for v in range(lanes):
            out[r, v] = one[v]


@compiled
def curvature(
    normal: np.ndarray,
    moments: np.ndarray,
    start: np.ndarray,
    index: np.ndarray,
    value: np.ndarray,
    out: np.ndarray,
) -> None:
    """Out (packed, lanes) = normal (packed) + the products of harmonics, weighted by their moments.

    Args:
        normal: (packed,) lower triangle.
        moments: (m, lanes).
        start: Of a `Sphere`. Elements past its harmonics are those of `normal` alone.
        index: See `start`.
        value: See `start`.
        out: (packed, lanes), filled.
    """
    lanes = moments.shape[1]
    total = np.empty(lanes, dtype=out.dtype)
    for e in range(len(start) - 1):
        total[:] = normal[e]
        for k in range(start[e], start[e + 1], 4):
            g0, g1, g2, g3 = value[k], value[k + 1], value[k + 2], value[k + 3]
            i0, i1, i2, i3 = index[k], index[k + 1], index[k + 2], index[k + 3]
            for v in range(lanes):
                total[v] += (
                    g0 * moments[i0, v]
                    + g1 * moments[i1, v]
                    + g2 * moments[i2, v]
                    + g3 * moments[i3, v]
                )
        for v in range(lanes):
            out[e, v] = total[v]
    for e in range(len(start) - 1, len(normal)):
        for v in range(lanes):
            out[e, v] = normal[e]


@compiled
def factor(matrix: np.ndarray, n: int) -> None:
    """Cholesky factors (lower) in place, with the inverse of the diagonal on the diagonal."""
    lanes = matrix.shape[1]
    total = np.empty(lanes, dtype=matrix.dtype)
    for j in range(n):
        q = j * (j + 1) // 2
        for i in range(j, n):
            p = i * (i + 1) // 2
            for v in range(lanes):
                total[v] = matrix[p + j, v]
            k = 0
            while k + 4 <= j:
                for v in range(lanes):
                    total[v] -= (
                        matrix[p + k, v] * matrix[q + k, v]
                        + matrix[p + k + 1, v] * matrix[q + k + 1, v]
                        + matrix[p + k + 2, v] * matrix[q + k + 2, v]
                        + matrix[p + k + 3, v] * matrix[q + k + 3, v]
                    )
                k += 4
            while k < j:
                for v in range(lanes):
                    total[v] -= matrix[p + k, v] * matrix[q + k, v]
                k += 1
            if i == j:
                for v in range(lanes):
                    matrix[p + j, v] = 1 / np.sqrt(total[v])
            else:
                for v in range(lanes):
                    matrix[p + j, v] = total[v] * matrix[q + j, v]


@compiled
def solve(factors: np.ndarray, n: int, x: np.ndarray) -> None:
    """X (n, lanes) becomes the solution, with the factors of `factor`."""
    lanes = x.shape[1]
    total = np.empty(lanes, dtype=x.dtype)
    for i in range(n):
        p = i * (i + 1) // 2
        for v in range(lanes):
            total[v] = x[i, v]
        for k in range(i):
            for v in range(lanes):
                total[v] -= factors[p + k, v] * x[k, v]
        for v in range(lanes):
            x[i, v] = total[v] * factors[p + i, v]
    for i in range(n - 1, -1, -1):
        p = i * (i + 1) // 2
        for v in range(lanes):
            x[i, v] *= factors[p + i, v]
        for k in range(i):
            for v in range(lanes):
                x[k, v] -= factors[p + k, v] * x[i, v]
