"""The receive bias field: what is smooth in the b0 and not told by the tissue.

Diffusivity is a ratio of volumes, which no receive field changes. So the b0's logarithm is taken apart into a
function of diffusivity (fluid is bright, white matter dark) and polynomials of the place.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.series import put_planes, room_like

Array = NDArray[np.float64]

#: Highest order of the polynomials over the brain's box.
_ORDER = 4
#: Knots of the function of diffusivity, voxels that are asked, and rounds of robust weights.
_KNOTS, _VOXELS, _ROUNDS = 10, 60_000, 10
#: How far a coefficient is held back: the share of a voxel's weight.
_HELD = 1e-3
#: Residuals count fully up to so many deviations.
_FULLY = 1.5


def correct_bias(dwi: DWI) -> DWI:
    """The scan divided by its receive field; the noise map likewise.

    Ratios of volumes, and so all diffusion maps, do not change; S0 and thresholds do.

    Args:
        dwi: The scan with its mask.
    """
    field = bias_field(dwi)
    sigma = None if dwi.sigma is None else (np.asarray(dwi.sigma) / field).astype(np.float32)
    out = room_like(dwi.data)
    for here, signals in dwi.slabs():
        put_planes(out, here.start, signals / field[here][..., None])
    return dwi.with_(data=out, sigma=sigma)


def bias_field(dwi: DWI, seed: int = 0) -> NDArray[np.float32]:
    """The receive field, (X, Y, Z), with a geometric mean of 1 over the brain.

    Beyond the brain's box it goes on as at the border.

    Args:
        dwi: The scan with its mask.
        seed: Of the voxels that are asked.
    """
    table, brain = dwi.gradients, dwi.brain()
    b0 = dwi.mean_b0() if table.b0_mask.any() else dwi.mean_dwi()
    known = brain & np.isfinite(b0) & (b0 > 0)
    told = None
    if table.b0_mask.any() and not table.b0_mask.all():
        weighted = dwi.mean_dwi()
        known &= np.isfinite(weighted) & (weighted > 0)
        told = np.log(b0, where=known, out=np.zeros_like(b0)) - np.log(
            weighted, where=known, out=np.zeros_like(b0)
        )
    voxels = np.argwhere(known)
    if len(voxels) < 1000:
        return np.ones(dwi.grid, np.float32)
    rng = np.random.default_rng([seed, 44])
    chosen = voxels[np.sort(rng.choice(len(voxels), min(_VOXELS, len(voxels)), replace=False))]
    low, high = voxels.min(0), voxels.max(0)
    axes = [_legendre(n, a, b) for n, a, b in zip(dwi.grid, low, high)]
    place = np.stack([_products(axes, powers, chosen) for powers in _powers()], 1)
    at = tuple(chosen.T)
    kinds = np.ones((len(chosen), 1)) if told is None else _hats(told[at].astype(np.float64))
    found = _robust(
        np.concatenate([place, kinds], 1), np.log(b0[at].astype(np.float64)), place.shape[1]
    )
    log = np.zeros(dwi.grid)
    for value, powers in zip(found, _powers()):
        x, y, z = (axis[:, p] for axis, p in zip(axes, powers))
        log += value * x[:, None, None] * y[:, None] * z
    return np.exp(np.clip(log - log[known].mean(), -1.6, 1.6)).astype(np.float32)


def _powers() -> list[tuple[int, ...]]:
    every = itertools.product(range(_ORDER + 1), repeat=3)
    return [p for p in every if 0 < sum(p) <= _ORDER]


def _legendre(n: int, low: int, high: int) -> Array:
    """(n, order + 1) Legendre polynomials along an axis, from -1 to 1 over the brain."""
    at = 2 * (np.arange(n) - low) / max(high - low, 1) - 1
    return np.asarray(legendre.legvander(np.clip(at, -1, 1), _ORDER))


def _products(axes: list[Array], powers: tuple[int, ...], voxels: NDArray[np.int64]) -> Array:
    x, y, z = (axis[voxels[:, i], p] for i, (axis, p) in enumerate(zip(axes, powers)))
    return np.asarray(x * y * z)


def _hats(values: Array) -> Array:
    """(n, knots) weights of a piecewise linear function."""
    knots = np.unique(np.quantile(values, np.linspace(0.01, 0.99, _KNOTS)))
    if len(knots) < 2:
        return np.ones((len(values), 1))
    values = np.clip(values, knots[0], knots[-1])
    below = np.clip(np.searchsorted(knots, values, side="right") - 1, 0, len(knots) - 2)
    share = (values - knots[below]) / (knots[below + 1] - knots[below])
    out = np.zeros((len(values), len(knots)))
    rows = np.arange(len(values))
    out[rows, below], out[rows, below + 1] = 1 - share, share
    return out


def _robust(design: Array, values: Array, smooth: int) -> Array:
    """Coefficients with Huber's weights; the first `smooth` are held back."""
    held = np.full(design.shape[1], 1e-9 * len(values))
    held[:smooth] = _HELD * len(values)
    weights: Array = np.ones(len(values))
    found: Array = np.zeros(design.shape[1])
    for _ in range(_ROUNDS):
        normal = design.T @ (design * weights[:, None]) + np.diag(held)
        found = np.asarray(np.linalg.solve(normal, design.T @ (weights * values)))
        left = np.abs(values - design @ found)
        spread = max(1.4826 * float(np.median(left)), 1e-9)
        weights = 1 / np.maximum(1, left / (_FULLY * spread))
    return found[:smooth] if smooth else found
