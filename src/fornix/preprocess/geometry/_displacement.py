"""One step towards the displacement along an axis that brings an image to another, smoothly.

Both ways of finding the field (`field`, `field_from_t1`) linearise their residual in the displacement and its
slope, and solve for the next displacement by conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Iterations of the conjugate gradients in each step.
_CG = 25
#: Largest slope of the displacement that is believed: beyond it signal would fold.
_STEEPEST = 0.8
_HUBER = 2.0


def displacement_step(
    shift: NDArray, residual: NDArray, direct: NDArray, through: NDArray, weight: NDArray,
    roughness: float, axis: int, size: NDArray,
) -> NDArray[np.float64]:  # fmt: skip
    """The displacement (X, Y, Z) in voxels after one Gauss-Newton step.

    Args:
        shift: (X, Y, Z) the present one.
        residual: (X, Y, Z) what it leaves.
        direct: (X, Y, Z) by how much the residual grows with the displacement.
        through: (X, Y, Z) the same with the displacement's slope, per voxel.
        weight: (X, Y, Z).
        roughness: Weight of the displacement's slopes.
        axis: Along which it displaces.
        size: (3,) voxel edges, mm.
    """
    stiff = (roughness / size**2 * size.min() ** 2).astype(np.float32)

    def apply(d: NDArray) -> NDArray:
        data = weight * (direct * d + through * central(d, axis))
        return direct * data + _central_transposed(through * data, axis) + _rough(d, stiff)

    right = -(
        direct * (weight * residual) + _central_transposed(through * (weight * residual), axis)
    )
    right -= _rough(shift, stiff)
    diagonal = weight * (direct**2 + 0.5 * through**2) + 2 * stiff.sum() + 1e-6
    step = _conjugate_gradients(apply, right, diagonal)
    made = shift + np.clip(step, -3, 3)
    slope = np.abs(central(made, axis)).max()
    if slope > _STEEPEST:  # towards the last field that did not fold
        made = ndimage.gaussian_filter(made, 0.7)
        excess = np.abs(central(made, axis)) > _STEEPEST
        if excess.any():
            made = np.where(
                ndimage.binary_dilation(excess, iterations=2),
                ndimage.gaussian_filter(made, 2.0),
                made,
            )
    return made


def robust(residual: NDArray, weight: NDArray) -> NDArray[np.float64]:
    """Huber's weights (X, Y, Z) of residuals, by their spread where `weight` is above a half."""
    inside = weight > 0.5
    scale = 1.4826 * float(np.median(np.abs(residual[inside]))) + 1e-6
    return 1 / np.maximum(1, np.abs(residual) / (_HUBER * scale))


def central(values: NDArray, axis: int) -> NDArray[np.float64]:
    """Central difference along an axis; at the borders half of it, one-sided."""
    moved = np.moveaxis(values, axis, 0)
    out = np.zeros_like(moved)
    if len(moved) > 2:
        out[1:-1] = 0.5 * (moved[2:] - moved[:-2])
    return np.moveaxis(out, 0, axis)


def _central_transposed(values: NDArray, axis: int) -> NDArray[np.float64]:
    moved = np.moveaxis(values, axis, 0)
    out = np.zeros_like(moved)
    if len(moved) > 2:
        out[2:] += 0.5 * moved[1:-1]
        out[:-2] -= 0.5 * moved[1:-1]
    return np.moveaxis(out, 0, axis)


def _rough(values: NDArray, stiff: NDArray) -> NDArray[np.float64]:
    """Minus the Laplacian, by axis."""
    out = np.zeros_like(values)
    for axis in range(3):
        change = np.diff(values, axis=axis) * stiff[axis]
        pad = [(0, 0)] * 3
        pad[axis] = (1, 1)
        out -= np.diff(np.pad(change, pad), axis=axis)
    return out


def _conjugate_gradients(
    apply: Callable[[NDArray], NDArray], right: NDArray, diagonal: NDArray
) -> NDArray[np.float64]:
    x, r = np.zeros_like(right), right.copy()
    z = r / diagonal
    p, rz = z.copy(), float(np.vdot(r, z))
    start = rz
    for _ in range(_CG):
        q = apply(p)
        a = np.float32(rz / max(float(np.vdot(p, q)), 1e-30))
        x += a * p
        r -= a * q
        z = r / diagonal
        new = float(np.vdot(r, z))
        if new < 1e-5 * start:
            break
        p = z + np.float32(new / rz) * p
        rz = new
    return x
