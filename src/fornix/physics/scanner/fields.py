"""Smooth fields of the scanner: off-resonance, eddy currents, receive bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import Gradients

#: Eddy-current polynomials are of world coordinates from the grid's centre over this, mm.
EDDY_UNIT = 100.0
EDDY_TERMS = ("1", "x", "y", "z", "xx", "yy", "zz", "xy", "xz", "yz")


def world_grid(grid: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """World coordinates of every voxel centre, (X, Y, Z, 3) mm."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid], indexing="ij"), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def off_resonance(
    amplitude: float,
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """A susceptibility field in Hz, (X, Y, Z): above the sinuses, near both ears, and a smooth rest.

    The places are those of real heads (Jezzard & Balaban, MRM 1995), relative to the brain's extent.
    """
    if amplitude == 0:
        return np.zeros(mask.shape, np.float32)
    points = world_grid(mask.shape, affine)
    brain = points[mask]
    low, high = brain.min(0), brain.max(0)
    centre, half = (low + high) / 2, np.maximum((high - low) / 2, 1.0)
    unit = (points - centre) / half
    # (place in units of the half extents, width likewise, relative strength)
    sources = [
        ((0.0, 0.75, -0.45), 0.26, 1.0),
        ((-0.75, 0.0, -0.60), 0.22, -0.55),
        ((0.75, 0.0, -0.60), 0.22, -0.55),
    ]
    field = np.zeros(mask.shape)
    for place, width, strength in sources:
        where = np.array(place) + 0.06 * rng.standard_normal(3)
        distance = ((unit - where) ** 2).sum(-1) / (2 * width**2)
        field += strength * rng.uniform(0.8, 1.0) * np.exp(-distance)
    shim = rng.standard_normal(9) * 0.06
    terms = polynomials(unit)[..., 1:]
    field += terms @ shim
    peak = np.abs(field[mask]).max()
    return (amplitude * field / peak).astype(np.float32)


def polynomials(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """1, x, y, z, x², y², z², xy, xz, yz of points (..., 3): (..., 10)."""
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], -1)


def eddy_coefficients(
    linear: float, quadratic: float, gradients: Gradients, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(N, 10) Hz: coefficients of `polynomials` per volume.

    They are linear in the diffusion gradient's vector, hence proportional to sqrt(b) and odd in its
    direction (Andersson & Sotiropoulos, NeuroImage 2016).
    """
    scale = np.r_[0.5, np.ones(3), np.full(6, quadratic)] * linear
    response = rng.uniform(-1, 1, (10, 3)) * scale[:, None]
    return (gradients.directions * np.sqrt(gradients.b)[:, None]) @ response.T


def receive_bias(
    amplitude: float,
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Receive field, (X, Y, Z), mean 1 in the mask: a random smooth polynomial, exponentiated."""
    if amplitude == 0:
        return np.ones(mask.shape, np.float32)
    points = world_grid(mask.shape, affine)
    centre = points[mask].mean(0)
    terms = polynomials((points - centre) / 80.0)[..., 1:]
    weights = rng.standard_normal(9) * np.r_[np.full(3, 1.0), np.full(6, 0.6)]
    weights[3:6] += 0.8  # brighter near the coil, as surface arrays are
    log = terms @ weights
    log -= log[mask].mean()
    log *= amplitude / max(np.abs(np.percentile(log[mask], [1, 99])).max(), 1e-9)
    field = np.exp(np.clip(log, -2, 2))
    return (field / field[mask].mean()).astype(np.float32)
