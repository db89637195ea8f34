"""Real, even, orthonormal spherical harmonics in the MRtrix3 convention.

Index j = l(l+1)/2 + m for even l and -l <= m <= l. With the complex Y_l^m (Condon-Shortley phase
included), the basis function is sqrt(2) Im Y_l^|m| for m < 0, Y_l^0 for m = 0 and sqrt(2) Re Y_l^m
for m > 0 (Tournier et al., NeuroImage 2007, 2019).

A function f on the sphere is stored as its coefficients c with f(u) = sum_j c_j Y_j(u).
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import factorial, pi, sqrt
from typing import TYPE_CHECKING

import numpy as np

from fornix.core.errors import FornixError

if TYPE_CHECKING:
    import torch


def n_coefficients(lmax: int) -> int:
    """Number of even harmonics up to order lmax: (lmax + 1)(lmax + 2)/2."""
    if lmax < 0 or lmax % 2:
        raise FornixError(f"the harmonic order must be even and not negative, not {lmax}")
    return (lmax + 1) * (lmax + 2) // 2


def lmax_of(n: int) -> int:
    """The order of a vector of n coefficients; an error where n belongs to no even order."""
    lmax = round((np.sqrt(8 * n + 1) - 3) / 2)
    if lmax < 0 or lmax % 2 or n_coefficients(lmax) != n:
        raise FornixError(
            f"{n} coefficients belong to no even harmonic order (expected 1, 6, 15, 28, 45, 66, 91…)"
        )
    return lmax


@cache
def orders(lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """(l, m) of each coefficient, two integer arrays of shape (n_coefficients,)."""
    pairs = [(ell, m) for ell in range(0, lmax + 1, 2) for m in range(-ell, ell + 1)]
    ells, ms = np.array(pairs).T
    return ells, ms


def order_slice(ell: int) -> slice:
    """Where the coefficients of one even order stand."""
    return slice(ell * (ell - 1) // 2, (ell + 1) * (ell + 2) // 2)


def order_slices(lmax: int) -> tuple[slice, ...]:
    """Where the coefficients of order 0, 2, …, lmax stand."""
    return tuple(order_slice(ell) for ell in range(0, lmax + 1, 2))


def legendre(lmax: int, x: torch.Tensor) -> torch.Tensor:
    """Legendre polynomials P_0, P_2, … P_lmax of x: shape (*x.shape, lmax/2 + 1)."""
    import torch  # a second of start-up that only networks and physics need

    previous, current = torch.ones_like(x), x
    even = [previous]
    for ell in range(1, lmax):
        previous, current = current, ((2 * ell + 1) * x * current - ell * previous) / (ell + 1)
        if ell % 2:
            even.append(current)
    return torch.stack(even, dim=-1)


def evaluate(lmax: int, directions: np.ndarray) -> np.ndarray:
    """The basis at unit directions (..., 3): float64 array (..., n_coefficients).

    Any length of direction is accepted and normalised; a zero direction gives the pole's values.
    """
    directions = np.asarray(directions, dtype=np.float64)
    norm = np.linalg.norm(directions, axis=-1, keepdims=True)
    unit = np.where(norm > 0, directions / np.where(norm > 0, norm, 1), [0.0, 0.0, 1.0])
    x, y, z = np.moveaxis(unit, -1, 0)
    out = np.empty((*unit.shape[:-1], n_coefficients(lmax)))
    # cos(m phi) sin^m(theta) and sin(m phi) sin^m(theta) by recursion: exact at the poles too.
    cos_m, sin_m = np.ones_like(x), np.zeros_like(x)
    p_mm = np.sqrt(1 / (4 * np.pi))  # normalised P_m^m / sin^m(theta)
    for m in range(lmax + 1):
        scale = 1.0 if m == 0 else np.sqrt(2.0)
        lower, value = np.zeros_like(z), np.full_like(z, p_mm)
        for ell in range(m, lmax + 1):
            if ell > m:
                a = np.sqrt((4 * ell**2 - 1) / (ell**2 - m**2))
                b = (
                    np.sqrt(((ell - 1) ** 2 - m**2) / (4 * (ell - 1) ** 2 - 1))
                    if ell - 1 > m
                    else 0
                )
                lower, value = value, a * (z * value - b * lower)
            if ell % 2 == 0:
                centre = ell * (ell + 1) // 2
                out[..., centre + m] = scale * value * cos_m
                if m:
                    out[..., centre - m] = scale * value * sin_m
        cos_m, sin_m = x * cos_m - y * sin_m, x * sin_m + y * cos_m
        p_mm = -p_mm * np.sqrt((2 * m + 3) / (2 * m + 2))
    return out


def evaluate_torch(lmax: int, directions: torch.Tensor) -> torch.Tensor:
    """The same at unit directions (..., 3) as a tensor: (..., n_coefficients), differentiable."""
    import torch

    x, y, z = directions.unbind(-1)
    columns: dict[tuple[int, int], torch.Tensor] = {}
    cosine, sine, factor = torch.ones_like(x), torch.zeros_like(x), 1.0
    for m in range(lmax + 1):
        if m:
            cosine, sine = cosine * x - sine * y, cosine * y + sine * x
            factor *= -(2 * m - 1)  # (-1)^m (2m - 1)!!, Condon-Shortley
        before, current = torch.zeros_like(x), torch.full_like(x, factor)
        for ell in range(m, lmax + 1):
            if ell > m:
                before, current = (
                    current,
                    ((2 * ell - 1) * z * current - (ell + m - 1) * before) / (ell - m),
                )
            if ell % 2 == 0:
                norm = sqrt((2 * ell + 1) / (4 * pi) * factorial(ell - m) / factorial(ell + m))
                if m == 0:
                    columns[ell, 0] = norm * current
                else:
                    columns[ell, m] = sqrt(2) * norm * current * cosine
                    columns[ell, -m] = sqrt(2) * norm * current * sine
    ells, ms = orders(lmax)
    return torch.stack([columns[int(ell), int(m)] for ell, m in zip(ells, ms)], -1)


@lru_cache(maxsize=8)
def _analysis(lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights that integrate products of two harmonics of order lmax exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(lmax + 2)
    phi = 2 * np.pi * np.arange(2 * lmax + 3) / (2 * lmax + 3)
    sin_theta = np.sqrt(1 - nodes**2)
    points = np.stack(
        [
            np.outer(sin_theta, np.cos(phi)),
            np.outer(sin_theta, np.sin(phi)),
            np.outer(nodes, np.ones_like(phi)),
        ],
        -1,
    ).reshape(-1, 3)
    return points, np.repeat(weights, len(phi)) * 2 * np.pi / len(phi)


def rotation_matrix(lmax: int, rotation: np.ndarray) -> np.ndarray:
    """The matrix that turns coefficients: f'(R u) = f(u) has coefficients M @ c.

    Args:
        lmax: Highest harmonic order, even.
        rotation: (3, 3) orthogonal matrix; block diagonal in l.
    """
    points, weights = _analysis(lmax)
    source = evaluate(lmax, points @ np.asarray(rotation))  # Y(R^T u) for each point u
    return evaluate(lmax, points).T @ (weights[:, None] * source)


def project(lmax: int, function: object) -> np.ndarray:
    """Coefficients of `function(points (n, 3)) -> (n,)`, exact if it is band-limited to lmax."""
    points, weights = _analysis(2 * lmax)
    return evaluate(lmax, points).T @ (weights * function(points))  # type: ignore[operator]


def _dipy_columns(lmax: int, basis: str, legacy: bool) -> np.ndarray:
    from dipy.reconst.shm import real_sh_descoteaux_from_index, real_sh_tournier_from_index

    points, weights = _analysis(lmax)
    theta = np.arccos(np.clip(points[:, 2], -1, 1))
    phi = np.arctan2(points[:, 1], points[:, 0])
    ells, ms = orders(lmax)
    if basis == "descoteaux07":
        made = real_sh_descoteaux_from_index(ms, ells, theta[:, None], phi[:, None], legacy=legacy)
    elif basis == "tournier07":
        made = real_sh_tournier_from_index(ms, ells, theta[:, None], phi[:, None], legacy=legacy)
    else:
        raise FornixError(f"unknown DIPY basis {basis!r}; use descoteaux07 or tournier07")
    gram = evaluate(lmax, points).T @ (weights[:, None] * np.real(made))
    return gram


@lru_cache(maxsize=16)
def from_dipy_matrix(lmax: int, basis: str = "descoteaux07", legacy: bool = True) -> np.ndarray:
    """M with c_fornix = M @ c_dipy. Apply to files as `coefficients @ M.T`."""
    return _dipy_columns(lmax, basis, legacy)


@lru_cache(maxsize=16)
def to_dipy_matrix(lmax: int, basis: str = "descoteaux07", legacy: bool = True) -> np.ndarray:
    """The inverse of `from_dipy_matrix`: exact, since each basis spans the same functions."""
    return np.linalg.inv(_dipy_columns(lmax, basis, legacy))
