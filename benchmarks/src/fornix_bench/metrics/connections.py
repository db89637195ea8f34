"""Connectomes against the truth of a phantom: which regions its fibres join, and how strongly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.spatial import KDTree

from fornix.analysis.connectome import connectome
from fornix.analysis.parcellation import Parcellation
from fornix.core.grid import flat_voxels
from fornix.core.tractogram import Tractogram

Array = NDArray[np.float64]

#: mm from a true end within which voxels belong to a region.
_REACH = 5.0
#: True edges that count: those that hold this share of all true weight.
_HELD = 0.99


def regions_of_ends(
    truth: Tractogram, where: NDArray[np.bool_], count: int, seed: int = 0
) -> Parcellation:
    """Regions around the ends of true streamlines, by k-means, about equally large.

    Args:
        truth: The phantom's streamlines.
        where: (X, Y, Z) voxels that may belong to a region, on the grid of `truth`.
        count: Regions.
        seed: Of the k-means.
    """
    offsets = truth.offsets
    tips = np.concatenate([truth.points[offsets[:-1]], truth.points[offsets[1:] - 1]]).astype(float)
    voxels = np.argwhere(where)
    centres = voxels @ truth.affine[:3, :3].T + truth.affine[:3, 3]
    near = KDTree(tips).query(centres, distance_upper_bound=_REACH)[0] < np.inf
    voxels, centres = voxels[near], centres[near]
    means, _ = kmeans2(centres, count, minit="++", seed=seed)
    nearest = KDTree(means).query(centres)[1]
    numbers = np.unique(nearest, return_inverse=True)[1] + 1  # without gaps, as MRtrix3's matrices
    labels = np.zeros(where.shape, np.int64)
    labels[tuple(voxels.T)] = numbers
    return Parcellation(labels, truth.affine)


def cross_sections(truth: Tractogram, volume: NDArray[np.floating]) -> Array:
    """(S,) mean cross-section of true streamlines, mm²: each voxel's fibres are shared out by length.

    Args:
        truth: The phantom's streamlines.
        volume: (X, Y, Z) share of each voxel that fibres fill.
    """
    points, offsets = truth.points.astype(np.float64), truth.offsets
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    steps[offsets[1:-1] - 1] = 0  # from one streamline's end to the next one's beginning
    length = np.zeros(len(points))
    length[:-1] += steps / 2
    length[1:] += steps / 2
    flat, inside = flat_voxels(truth.points, truth.affine, truth.grid)
    total = np.bincount(flat[inside], length[inside], int(np.prod(truth.grid)))
    fibre = volume.ravel() * abs(np.linalg.det(truth.affine[:3, :3]))
    area = np.where(inside, (fibre / np.maximum(total, 1e-6))[flat], 0)
    owner = np.repeat(np.arange(len(truth)), np.diff(offsets))
    summed = np.bincount(owner, area * length, len(truth))
    return np.asarray(summed / np.maximum(np.bincount(owner, length, len(truth)), 1e-6))


def true_edges(
    truth: Tractogram, areas: Array, regions: Parcellation, radius: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Upper triangle of the true weights (E,), and which edges count as true.

    These are the strongest that hold 99% of all weight; an edge that holds some, but is not among them, is
    neither true nor false.
    """
    made = connectome(truth, regions, weights=areas, radius=radius)
    weights = upper(made.matrices["sum"].value)
    order = np.argsort(-weights)
    before = np.cumsum(weights[order]) - weights[order]
    counts = np.zeros(len(weights), bool)
    counts[order] = (before < _HELD * weights.sum()) & (weights[order] > 0)
    return weights, counts


def upper(matrix: NDArray[np.floating]) -> Array:
    """(E,) what lies above a square matrix's diagonal."""
    return np.asarray(matrix[np.triu_indices(len(matrix), 1)], np.float64)


@dataclass(frozen=True)
class ConnectomeScore:
    """A connectome against the truth.

    Attributes:
        r: Correlation of log weights over true edges that were found.
        r_all: The same over all true edges, those not found at half of the least weight found.
        found: Share of true edges that were found.
        false_edges: Edges found where no true fibre runs.
        false_share: Their share of all weight.
    """

    r: float
    r_all: float
    found: float
    false_edges: int
    false_share: float


def connectome_score(weights: Array, true: Array, counts: NDArray[np.bool_]) -> ConnectomeScore:
    """Score edges (E,) against those of `true_edges`."""
    there = counts & (weights > 0)
    least = weights[weights > 0].min() / 2 if (weights > 0).any() else 1.0
    false = (weights > 0) & (true == 0)
    return ConnectomeScore(
        _correlation(np.log(weights[there]), np.log(true[there])),
        _correlation(np.log(np.maximum(weights[counts], least)), np.log(true[counts])),
        float(there.sum() / max(counts.sum(), 1)),
        int(false.sum()),
        float(weights[false].sum() / max(weights.sum(), 1e-12)),
    )


def _correlation(one: Array, other: Array) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if len(one) > 2 else float("nan")
