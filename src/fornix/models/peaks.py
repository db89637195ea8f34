"""Peaks of functions on the sphere: where a fibre orientation distribution points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from fornix.core.compute import blocks
from fornix.core.errors import FornixError
from fornix.models._peak_kernels import search, settle
from fornix.numerics import harmonics
from fornix.numerics.directions import fibonacci

_GRID = 600
_BLOCK = 32768


@dataclass(frozen=True, eq=False)
class Peaks:
    """The largest peaks of spherical functions, zeros where there are fewer.

    Attributes:
        directions: (voxels, count, 3) unit vectors, world axes if the coefficients are.
        amplitude: (voxels, count), largest first.
        dispersion: (voxels, count), degrees: the standard deviation of a lobe with the peak's
            curvature.
        confidence: (voxels, count), 0 to 1. With a standard deviation of amplitudes the probability
            that the peak stands above the floor; without, the share of it that does.
    """

    directions: NDArray[np.float32]
    amplitude: NDArray[np.float32]
    dispersion: NDArray[np.float32]
    confidence: NDArray[np.float32]


def measure_peaks(
    coefficients: NDArray[np.float32],
    count: int = 3,
    *,
    relative: float = 0.2,
    absolute: float = 0.0,
    separation: float = 25.0,
    std: ArrayLike | None = None,
) -> Peaks:
    """The largest peaks with amplitude, dispersion and confidence.

    Local maxima on 600 axes, each followed by Newton's method on the harmonics themselves to where
    the gradient vanishes: no grid is left in the answer. Voxels with coefficients that are not
    finite have no peaks. Raises FornixError where the number of coefficients fits no even order.

    Args:
        coefficients: (voxels, harmonics).
        count: How many peaks at most.
        relative: Least amplitude as a share of the largest
        absolute: Least amplitude. The larger of the two is the floor.
        separation: Least angle between two peaks, degrees.
        std: Standard deviation of amplitudes, one number or (voxels,) or (voxels, count).
    """
    coefficients = np.asarray(coefficients)
    lmax = harmonics.lmax_of(coefficients.shape[1])
    basis, axes, neighbours, to_monomials = _tables(lmax)
    found = np.zeros((len(coefficients), count, 5), dtype=np.float32)
    search(
        np.ascontiguousarray(coefficients, np.float32), to_monomials.T.copy(), basis, axes, neighbours, lmax,
        float(relative), float(absolute), float(np.cos(np.radians(separation))), found,
    )  # fmt: skip
    amplitude = found[..., 3]
    floor = np.maximum(relative * amplitude[:, :1], absolute)
    confidence = _confidence(amplitude, floor, std)
    return Peaks(found[..., :3], amplitude, found[..., 4], confidence)


def find_peaks(
    coefficients: NDArray[np.float32],
    count: int = 3,
    *,
    relative: float = 0.2,
    absolute: float = 0.0,
    separation: float = 25.0,
) -> NDArray[np.float32]:
    """The peaks of `measure_peaks` as (voxels, count, 3): unit vectors times amplitude."""
    found = measure_peaks(
        coefficients, count, relative=relative, absolute=absolute, separation=separation
    )
    return found.directions * found.amplitude[..., None]


def settled(
    coefficients: NDArray[np.float32], directions: NDArray[np.float32], reach: float
) -> NDArray[np.float32]:
    """Directions (voxels, count, 3) moved to the maximum of the harmonics (voxels, n) uphill from each,
    where it is positive and within `reach` degrees; the others, and zeros, stay as they are.
    """
    lmax = harmonics.lmax_of(coefficients.shape[1])
    _, _, _, to_monomials = _tables(lmax)
    made = np.array(directions, dtype=np.float32)
    for part in blocks(len(coefficients), _BLOCK):
        block = coefficients[part].astype(np.float64) @ to_monomials
        settle(block, lmax, float(np.cos(np.radians(reach))), made[part])
    return made


def _confidence(
    amplitude: NDArray[np.float32], floor: NDArray[np.float32], std: ArrayLike | None
) -> NDArray[np.float32]:
    safe = np.where(amplitude > 0, amplitude, 1)
    if std is None:
        share = 1 - floor / safe
    else:
        spread = np.asarray(std, dtype=np.float64)
        if spread.ndim == 1:
            spread = spread[:, None]
        if spread.ndim and spread.shape[0] != len(amplitude):
            raise FornixError(
                f"standard deviations of {spread.shape[0]} voxels for the peaks of {len(amplitude)}"
            )
        share = ndtr((amplitude - floor) / np.maximum(spread, 1e-12))
    return np.where(amplitude > 0, np.clip(share, 0, 1), 0).astype(np.float32)


@lru_cache(maxsize=4)
def _tables(lmax: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Basis on the grid, the grid, each axis's eight neighbours and the change to monomials.

    Even harmonics up to lmax are the homogeneous polynomials of degree lmax on the sphere, whose
    derivatives are exact and cheap.
    """
    from scipy.spatial import cKDTree  # slow to load

    axes = fibonacci(_GRID)
    near = np.asarray(cKDTree(np.concatenate([axes, -axes])).query(axes, k=9)[1])[:, 1:] % _GRID
    exponents = np.array(
        [(a, b, lmax - a - b) for a in range(lmax + 1) for b in range(lmax + 1 - a)]
    )
    points = fibonacci(8 * len(exponents), hemisphere=False)
    monomials = np.prod(points[:, None] ** exponents, axis=-1)
    change = np.linalg.pinv(monomials) @ harmonics.evaluate(lmax, points)
    basis = harmonics.evaluate(lmax, axes).astype(np.float32)
    return basis, axes, near.astype(np.int64), np.ascontiguousarray(change.T)
