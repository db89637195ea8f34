"""Points on the sphere: evenly spread gradient schemes, dense spheres, and how well spread a set is."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.numerics import harmonics


def fibonacci(count: int, hemisphere: bool = True) -> NDArray[np.float64]:
    """Nearly even points by the golden spiral, (count, 3)."""
    step = np.arange(count) + 0.5
    z = 1 - step / count if hemisphere else 1 - 2 * step / count
    phi = np.pi * (1 + 5**0.5) * step
    radius = np.sqrt(np.clip(1 - z**2, 0, None))
    return np.stack([radius * np.cos(phi), radius * np.sin(phi), z], axis=-1)


@lru_cache(maxsize=64)
def spread(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Axes spread by electrostatic repulsion of antipodal pairs (Jones et al., MRM 1999).

    Returns:
        (count, 3) unit vectors in the upper half sphere, the best of a few random starts.
    """
    if count < 1:
        raise FornixError(f"a direction set needs 1 or more directions, not {count}")
    if count == 1:
        return np.array([[0.0, 0.0, 1.0]])
    from scipy.optimize import minimize  # slow to load, and few commands spread directions

    rng = np.random.default_rng(seed)
    best, best_energy = fibonacci(count), np.inf
    for attempt in range(4 if count <= 40 else 1):
        start = fibonacci(count) + (0.1 + 0.3 * attempt) * rng.standard_normal((count, 3))
        result = minimize(
            _repulsion, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 300}
        )
        if result.fun < best_energy:
            best_energy = result.fun
            best = result.x.reshape(count, 3)
    best = best / np.linalg.norm(best, axis=1, keepdims=True)
    best = np.where(best[:, 2:] < 0, -best, best)
    best.flags.writeable = False
    return best


def _repulsion(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    raw = flat.reshape(-1, 3)
    norm = np.linalg.norm(raw, axis=1, keepdims=True)
    unit = raw / norm
    energy, gradient = 0.0, np.zeros_like(unit)
    for sign in (1.0, -1.0):
        apart = unit[:, None] - sign * unit[None]
        distance = np.sqrt((apart**2).sum(-1) + 1e-12)
        np.fill_diagonal(distance, np.inf)
        energy += (1 / distance).sum() / 2
        gradient -= (apart / distance[..., None] ** 3).sum(1)
    tangent = gradient - (gradient * unit).sum(1, keepdims=True) * unit
    return energy, (tangent / norm).ravel()


def condition(directions: ArrayLike, lmax: int = 2) -> float:
    """Condition number of the harmonic design of order lmax: 1 is perfect, large is poor."""
    design = harmonics.evaluate(lmax, np.asarray(directions))
    if len(design) < design.shape[1]:
        return float("inf")
    return float(np.linalg.cond(design))


def largest_gap(directions: ArrayLike) -> float:
    """The largest angle in degrees from any axis to its nearest measured axis."""
    probe = fibonacci(2000)
    cosine = np.abs(probe @ np.asarray(directions).T).max(axis=1)
    return float(np.degrees(np.arccos(np.clip(cosine, 0, 1)).max()))


def best_subset(directions: ArrayLike, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Indices of the best conditioned subset for a tensor fit, by exchange from random starts."""
    design = harmonics.evaluate(2, np.asarray(directions))
    total = len(design)
    if not 6 <= count <= total:
        raise FornixError(
            f"a subset of {count} directions out of {total} is not possible (6 or more)"
        )
    rng = np.random.default_rng(seed)
    best: NDArray[np.int64] = np.arange(count)
    best_cond = np.inf
    for _ in range(20):
        chosen = rng.permutation(total)[:count]
        current = np.linalg.cond(design[chosen])
        improved = True
        while improved:
            improved = False
            for slot in range(count):
                for candidate in np.setdiff1d(np.arange(total), chosen):
                    trial = chosen.copy()
                    trial[slot] = candidate
                    cond = np.linalg.cond(design[trial])
                    if cond < current - 1e-9:
                        chosen, current, improved = trial, cond, True
        if current < best_cond:
            best, best_cond = np.sort(chosen), current
    return best


def quadrature(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Axes (P, 3) and weights (P,) that integrate even functions up to an odd `degree` exactly.

    Lebedev's rule, one of each pair of opposite points.
    """
    from scipy.integrate import lebedev_rule

    points, weights = lebedev_rule(degree)
    points = np.asarray(points).T
    # The first coordinate that is not zero is positive in one of two opposite points.
    sign = np.sign(np.where(np.abs(points) > 1e-9, points, 0))
    kept = (sign * [4, 2, 1]).sum(1) > 0
    return points[kept], 2 * np.asarray(weights)[kept]
