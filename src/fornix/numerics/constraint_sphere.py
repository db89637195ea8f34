"""Where a function on the sphere must not be negative, and the cheap way to sum over those places.

A sum over axes of w_i Y_a(u_i) Y_b(u_i), the curvature that every non-negativity constraint brings,
costs a matrix product per voxel. But a product of two harmonics is a short sum of harmonics of up to
twice the order (Gaunt, 1929): with the moments of w, sum_i w_i Y_L(u_i), which one matrix product
gives for many voxels at once, each element is a sum of about five terms, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fornix.numerics import harmonics
from fornix.numerics.directions import fibonacci

#: Axes on which amplitudes are kept from being negative, as many as in Tournier et al. (2007).
AXES = 300


@dataclass(frozen=True, eq=False)
class Sphere:
    """The axes of the constraint and the products of harmonics of one order.

    Attributes:
        basis: (axes, n) harmonics at the axes, n = n_coefficients(lmax).
        moments: (m, axes) harmonics of up to twice the order at the axes: moments @ weights.
        start: The products. Element e = a (a + 1)/2 + b (b <= a) of a symmetric matrix is the sum of
            value[k] * moment[index[k]] for start[e] <= k < start[e + 1], padded by zeros to a multiple
            of four terms, which the kernel takes at once.
        index: See `start`.
        value: See `start`.
    """

    basis: NDArray[np.float64]
    moments: NDArray[np.float64]
    start: NDArray[np.int64]
    index: NDArray[np.int64]
    value: NDArray[np.float64]


@lru_cache(maxsize=4)
def sphere(lmax: int, axes: int = AXES) -> Sphere:
    """The constraint of harmonics up to lmax on `axes` even axes."""
    places = fibonacci(axes)
    n = harmonics.n_coefficients(lmax)
    # Any points that determine the harmonics of twice the order give the products exactly.
    points = fibonacci(3 * harmonics.n_coefficients(2 * lmax))
    here = harmonics.evaluate(lmax, points)
    rows, columns = np.tril_indices(n)
    expand = np.linalg.pinv(harmonics.evaluate(2 * lmax, points))
    products = (expand @ (here[:, rows] * here[:, columns])).T
    start, index, value = [0], [], []
    for product in products:
        terms = np.flatnonzero(np.abs(product) > 1e-10)
        terms = np.append(terms, np.repeat(terms[-1:], -len(terms) % 4))
        weight = product[terms]
        weight[len(np.unique(terms)) :] = 0.0
        index.append(terms)
        value.append(weight)
        start.append(start[-1] + len(terms))
    return Sphere(
        harmonics.evaluate(lmax, places),
        np.ascontiguousarray(harmonics.evaluate(2 * lmax, places).T),
        np.array(start, dtype=np.int64),
        np.concatenate(index).astype(np.int64),
        np.concatenate(value),
    )
