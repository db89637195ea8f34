"""Least squares under linear inequalities for one voxel: a dual active-set method, compiled.

Minimises (x - x̂)ᵀ A (x - x̂) subject to G x >= c, from A = L Lᵀ and the unconstrained optimum x̂
(Goldfarb & Idnani, Math. Program. 27 (1983) 1). In z = Lᵀ x it is the projection of a point on a
polyhedron: the most violated constraint enters, constraints whose multiplier falls to zero leave.
Finite and exact; started at x̂, it costs nothing where no constraint is violated.
"""

from __future__ import annotations

import math

import numpy as np

from fornix.numerics.algebra import compiled, solve_lower, solve_upper


@compiled
def project(
    factor: np.ndarray,
    rows: np.ndarray,
    bounds: np.ndarray,
    x: np.ndarray,
    tolerance: float,
    max_steps: int,
) -> bool:
    """Move x (n,) from the unconstrained optimum to the constrained one, in place.

    Args:
        factor: (n, n) lower Cholesky factor of A.
        rows: (n, m), the constraints as columns, of about unit length
        bounds: (m,). A constraint counts as violated by more than `tolerance`.

    Returns:
        False where it did not finish in `max_steps` changes of the active set; x is then the last
        iterate.
    """
    n, m = rows.shape
    multiplier = np.zeros(n + 1)
    normals = np.empty((n, n))  # row j: normal of active constraint j in z
    basis = np.empty((n, n))  # row j: orthonormal basis of their span
    upper = np.zeros((n, n))  # normals = upperᵀ basis
    slack = np.empty(m)
    z, h, step = np.empty(n), np.empty(n), np.empty(n)
    d, r = np.empty(n), np.empty(n)
    for i in range(n):
        total = 0.0
        for k in range(i, n):
            total += factor[k, i] * x[k]
        z[i] = total
    q = 0
    steps = 0
    while True:
        for k in range(m):
            slack[k] = -bounds[k]
        for i in range(n):
            if x[i] != 0.0:
                for k in range(m):
                    slack[k] += x[i] * rows[i, k]
        entering, worst = -1, -tolerance
        for k in range(m):
            if slack[k] < worst:
                worst, entering = slack[k], k
        if entering < 0:
            return True
        for i in range(n):
            h[i] = rows[i, entering]
        solve_lower(factor, h, n)
        gap = slack[entering]
        gain = 0.0  # multiplier of the entering constraint
        while True:
            steps += 1
            if steps > max_steps:
                _back(factor, z, x, n)
                return False
            size = 0.0
            for i in range(n):
                step[i] = h[i]
                size += h[i] * h[i]
            for j in range(q):
                d[j] = 0.0
            for _ in range(2):  # twice: Gram-Schmidt keeps its digits
                for j in range(q):
                    dot = 0.0
                    for i in range(n):
                        dot += basis[j, i] * step[i]
                    d[j] += dot
                    for i in range(n):
                        step[i] -= dot * basis[j, i]
            free = 0.0
            for i in range(n):
                free += step[i] * step[i]
            for j in range(q - 1, -1, -1):
                total = d[j]
                for k in range(j + 1, q):
                    total -= upper[j, k] * r[k]
                r[j] = total / upper[j, j]
            leaving, partial = -1, math.inf
            for j in range(q):
                if r[j] > 0.0 and multiplier[j] < partial * r[j]:
                    partial, leaving = multiplier[j] / r[j], j
            full = -gap / free if free > 1e-12 * size and q < n else math.inf
            length = min(partial, full)
            if not length < math.inf:
                _back(factor, z, x, n)
                return False
            for j in range(q):
                multiplier[j] -= length * r[j]
            gain += length
            if full < math.inf:
                for i in range(n):
                    z[i] += length * step[i]
                gap += length * free
            if full <= partial:
                root = math.sqrt(free)
                for i in range(n):
                    normals[q, i] = h[i]
                    basis[q, i] = step[i] / root
                for j in range(q):
                    upper[j, q] = d[j]
                upper[q, q] = root
                multiplier[q] = gain
                q += 1
                break
            q = _drop(normals, basis, upper, multiplier, leaving, q, n)
        _back(factor, z, x, n)


@compiled
def _back(factor: np.ndarray, z: np.ndarray, x: np.ndarray, n: int) -> None:
    for i in range(n):
        x[i] = z[i]
    solve_upper(factor, x, n)


@compiled
def _drop(
    normals: np.ndarray,
    basis: np.ndarray,
    upper: np.ndarray,
    multiplier: np.ndarray,
    leaving: int,
    q: int,
    n: int,
) -> int:
    """Remove one active constraint and rebuild the basis from its place on."""
    for j in range(leaving, q - 1):
        for i in range(n):
            normals[j, i] = normals[j + 1, i]
        multiplier[j] = multiplier[j + 1]
    q -= 1
    for j in range(leaving, q):
        for i in range(n):
            basis[j, i] = normals[j, i]
        for k in range(j):
            upper[k, j] = 0.0
        for _ in range(2):
            for k in range(j):
                dot = 0.0
                for i in range(n):
                    dot += basis[k, i] * basis[j, i]
                upper[k, j] += dot
                for i in range(n):
                    basis[j, i] -= dot * basis[k, i]
        norm = 0.0
        for i in range(n):
            norm += basis[j, i] ** 2
        norm = math.sqrt(norm)
        upper[j, j] = norm
        for i in range(n):
            basis[j, i] /= norm
    return q
