"""How much fibre each streamline must stand for, so that all together explain the signal.

Minimises over weights w >= 0 (mm² of cross-section)

    |A w - d|² / 2 + ridge |D w|² / 2

where A (fixels, streamlines) holds the mm of each streamline in each fixel, d (fixels,) the mm³ of
fibre that the FOD shows there, and D² is the diagonal of AᵀA. As LiFE (Pestilli et al., Nature Methods
2014), COMMIT (Daducci et al., IEEE TMI 2015) and SIFT2 (Smith et al., NeuroImage 2015), which differ in
what d is. Solved by projected gradients with momentum and restarts (Beck and Teboulle, 2009; O'Donoghue
and Candès, 2015), each streamline's column scaled to length 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fornix.core.compute import use_threads
from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.tractography.filtering import _kernels as kernels
from fornix.tractography.filtering.fixels import Fixels
from fornix.tractography.scoring._kernels import to_voxels

Vector = NDArray[np.float32]

#: A piece of streamline belongs to the nearest fixel of its voxel within this angle.
ANGLE = 45.0
#: Of the columns' own squares: enough that streamlines alike share their weight.
RIDGE = 0.01
_STEPS, _TOLERANCE = 1000, 1e-4


@dataclass(frozen=True, eq=False)
class Fit:
    """Weights of streamlines against the FOD's densities.

    Attributes:
        weight: (S,) mm² of cross-section, 0 for streamlines that the signal does not ask for.
        support: (S,) share of each streamline's length that lies in fixels, 0 to 1.
        track: (F,) mm of streamline in each fixel.
        predicted: (F,) mm³ of fibre by the weights.
        density: (F,) mm³ of fibre by the FOD.
    """

    weight: NDArray[np.float64]
    support: NDArray[np.float64]
    track: NDArray[np.float64]
    predicted: NDArray[np.float64]
    density: NDArray[np.float64]

    @property
    def explained(self) -> float:
        """1 - |A w - d|² / |d|²."""
        return float(1 - ((self.predicted - self.density) ** 2).sum() / (self.density**2).sum())


def lengths_in_fixels(
    tractogram: Tractogram, fixels: Fixels, *, threads: int | None = None
) -> tuple[sparse.csr_matrix, NDArray[np.float64]]:
    """How far each streamline runs in each fixel.

    Streamlines are followed at a quarter of a voxel; what runs along no fixel counts nowhere.

    Args:
        tractogram: In world mm.
        fixels: Of the FOD.
        threads: Threads in use; as they are if not given.

    Returns:
        (S, F) mm, float32, and the length of each streamline (S,) mm.

    Raises:
        FornixError: The tractogram holds no streamline.
    """
    arrays = fixels.arrays(angle=ANGLE)
    inverse = np.linalg.inv(fixels.affine)
    parts, lengths = [], np.zeros(len(tractogram))
    with use_threads(threads):
        for part, points, offsets in tractogram.blocks():
            voxel = to_voxels(points, inverse)
            runs, lengths[part] = kernels.count_runs(voxel, offsets, arrays)
            rows = np.concatenate([[0], np.cumsum(runs)])
            columns, values = np.empty(rows[-1], np.int32), np.empty(rows[-1], np.float32)
            kernels.fill_runs(voxel, offsets, arrays, rows, columns, values)
            parts.append(
                sparse.csr_matrix((values, columns, rows), (len(offsets) - 1, len(fixels)))
            )
    if not parts:
        raise FornixError("the tractogram holds no streamline: there is nothing to fit")
    matrix = sparse.vstack(parts, format="csr")
    matrix.sum_duplicates()
    return matrix, lengths


def fit_weights(
    tractogram: Tractogram,
    fixels: Fixels,
    *,
    ridge: float = RIDGE,
    threads: int | None = None,
) -> Fit:
    """Weights of streamlines that explain the FOD's densities best.

    Args:
        tractogram: In world mm.
        fixels: Of the FOD.
        ridge: Of the columns' squares; streamlines that run alike share their weight by it.
        threads: Threads in use; as they are if not given.

    Raises:
        FornixError: The tractogram holds no streamline.
    """
    matrix, lengths = lengths_in_fixels(tractogram, fixels, threads=threads)
    inside = np.asarray(matrix.sum(1)).ravel()
    support = np.divide(inside, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    weight = nonnegative(matrix, fixels.density, ridge=ridge)
    return Fit(
        weight,
        np.clip(support, 0, 1),
        np.asarray(matrix.sum(0)).ravel().astype(np.float64),
        matrix.T @ weight,
        fixels.density,
    )


def nonnegative(
    matrix: sparse.csr_matrix,
    density: NDArray[np.floating],
    *,
    ridge: float,
    tolerance: float = _TOLERANCE,
) -> NDArray[np.float64]:
    """The w >= 0 that minimises |matrixᵀ w - density|² / 2 + ridge |D w|² / 2.

    Args:
        matrix: (S, F) mm.
        density: (F,) mm³.
        ridge: Of the columns' squares.
        tolerance: Ends where the projected gradient has fallen to this share of the first one.

    Returns:
        (S,) mm².
    """
    norm = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1), dtype=np.float64)).ravel()
    scale = np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)
    # float32 throughout: half the memory to stream, which is what a sparse product costs. One thread:
    # products of a few milliseconds lose more by waiting for each other than a second one gains.
    rows = sparse.csr_matrix(sparse.diags(scale.astype(np.float32)) @ matrix)
    columns = sparse.csr_matrix(rows.T)
    density = density.astype(np.float32)

    def forward(x: Vector) -> Vector:
        product: Vector = columns @ x
        return product

    def backward(r: Vector) -> Vector:
        product: Vector = rows @ r
        return product

    x = np.zeros(matrix.shape[0], np.float32)
    along, t = x, 1.0
    lipschitz = _largest(forward, backward, matrix.shape[0]) + ridge
    first = np.linalg.norm(np.maximum(backward(density), 0))
    for _ in range(_STEPS):
        gradient = backward(forward(along) - density) + ridge * along
        fresh = np.maximum(along - gradient / np.float32(lipschitz), 0)
        moved = fresh - x
        # Momentum that points uphill is dropped.
        if gradient @ moved > 0:
            t = 1.0
        following = (1 + sqrt(1 + 4 * t * t)) / 2
        stop = np.linalg.norm(fresh - along) * lipschitz <= tolerance * first
        x, along, t = fresh, fresh + np.float32((t - 1) / following) * moved, following
        if stop:
            break
    return np.asarray(x * scale, dtype=np.float64)


def _largest(
    forward: Callable[[Vector], Vector], backward: Callable[[Vector], Vector], size: int
) -> float:
    """The largest eigenvalue of AᵀA by power iteration; all entries are positive, so it is quick."""
    x = np.ones(size, np.float32)
    value = 0.0
    for _ in range(30):
        norm = np.float32(np.linalg.norm(x))
        if norm == 0:
            return 1.0
        x = backward(forward(x / norm))
        before, value = value, float(np.linalg.norm(x))
        if abs(value - before) < 1e-3 * value:
            break
    return 1.02 * value if value > 0 else 1.0
