"""DIPY's trackers (Garyfallidis et al., Frontiers in Neuroinformatics 2014): the reference methods."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import voxel_rotation
from fornix.core.tractogram import Tractogram
from fornix.numerics import harmonics
from fornix.tractography.criteria import TrackingCriteria
from fornix.tractography.tissue_fractions import TissueFractions

_PER_BATCH = 40_000


def track_dipy(
    fod: NDArray[np.float32],
    affine: NDArray[np.float64],
    tissue: TissueFractions,
    seeds: NDArray[np.bool_],
    criteria: TrackingCriteria,
    *,
    algorithm: str,
    count: int,
    seed: int,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> Tractogram:
    """Streamlines that end in grey matter: `count`, or fewer where too few seeds give one.

    Args:
        fod: (X, Y, Z, coefficients), world axes.
        affine: (4, 4) voxel to world (RAS+, mm).
        tissue: Fractions on the same grid.
        seeds: (X, Y, Z) where to start.
        criteria: Of which step, angle, threshold and lengths count.
        algorithm: `probabilistic`, `deterministic` or `ptt`.
        count: Streamlines to keep.
        seed: Of all random numbers.
        threads: Threads in use.
        progress: Called with the streamlines accepted so far, and count.

    Raises:
        FornixError: The seed mask is empty, or no seed gives such a streamline.
    """
    run = dipy_batch(fod, affine, tissue, criteria, algorithm=algorithm, seed=seed, threads=threads)
    where = np.argwhere(seeds)
    if not len(where):
        raise FornixError("no voxel to seed from: the seed mask is empty inside the white matter")
    rng = np.random.default_rng(seed)
    points: list[NDArray[np.float32]] = []
    lengths: list[NDArray[np.int64]] = []
    total, tried = 0, 0
    while total < count and tried < 40 * count:
        batch = min(_PER_BATCH, max(4000, 3 * (count - total)))
        voxels = where[rng.integers(len(where), size=batch)] + rng.uniform(-0.5, 0.5, (batch, 3))
        data, sizes = run(voxels @ affine[:3, :3].T + affine[:3, 3])
        tried += batch
        if len(sizes):
            points.append(data)
            lengths.append(sizes)
            total += len(sizes)
        if progress is not None:
            progress(min(total, count), count)
        if tried >= 5 * _PER_BATCH and total < 0.002 * tried:
            break
    if not total:
        raise FornixError(
            f"none of {tried} seeds gave a streamline that ends in grey matter with a length of "
            f"{criteria.min_length:g} to {criteria.max_length:g} mm; check the mask and the gradient "
            "table (fornix info)"
        )
    sizes = np.concatenate(lengths)[:count]
    x, y, z = fod.shape[:3]
    return Tractogram(
        np.concatenate(points)[: int(sizes.sum())],
        np.concatenate([[0], np.cumsum(sizes)]),
        affine,
        (x, y, z),
    )


def dipy_batch(
    fod: NDArray[np.float32],
    affine: NDArray[np.float64],
    tissue: TissueFractions,
    criteria: TrackingCriteria,
    *,
    algorithm: str,
    seed: int,
    threads: int,
) -> Callable[[NDArray[np.float64]], tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """A function from seeds (n, 3) in world mm to the streamlines accepted.

    The FOD is scaled to 1 at its typical largest amplitude, since DIPY's PTT takes the threshold as an
    amplitude; and its largest turn is divided by the voxel's edge, since its curvature is per voxel.

    Args:
        fod: (X, Y, Z, coefficients), world axes.
        affine: (4, 4) voxel to world (RAS+, mm).
        tissue: Fractions on the same grid.
        criteria: Of which step, angle, threshold and lengths count.
        algorithm: `probabilistic`, `deterministic` or `ptt`.
        seed: Of all random numbers.
        threads: Threads in use.

    Returns:
        The function; it gives points (P, 3) in world mm, and how many each streamline has (S,).
    """
    from dipy.data import get_sphere
    from dipy.tracking import tracker
    from dipy.tracking.stopping_criterion import ActStoppingCriterion

    run = {
        "probabilistic": tracker.probabilistic_tracking,
        "deterministic": tracker.deterministic_tracking,
        "ptt": tracker.ptt_tracking,
    }[algorithm]
    lmax = harmonics.lmax_of(fod.shape[3])
    # DIPY steps along the voxel axes: the FOD is turned from world into them.
    turn = harmonics.rotation_matrix(lmax, voxel_rotation(affine).T)
    to_dipy = harmonics.to_dipy_matrix(lmax, legacy=True) @ turn
    sphere = get_sphere(name="repulsion724")
    inside = fod[(tissue.wm > 0.1) & np.isfinite(fod).all(-1) & (fod[..., 0] > 0)]
    basis = harmonics.evaluate(lmax, sphere.vertices).astype(np.float32)
    typical = float(np.percentile((inside @ basis.T).max(1), 75)) if len(inside) else 1.0
    coefficients = np.ascontiguousarray(fod.astype(np.float64) @ to_dipy.T / typical)
    angle = criteria.angle
    if algorithm == "ptt":
        edge = float(np.linalg.norm(affine[:3, :3], axis=0).mean())
        sine = min(criteria.max_curvature * criteria.step / 2 / edge, 1.0)
        angle = float(2 * np.degrees(np.arcsin(sine)))
    act = ActStoppingCriterion(tissue.gm.astype(np.float64), _exclude(tissue))

    def batch(positions: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = run(
                positions,
                act,
                affine,
                sh=coefficients,
                sphere=sphere,
                step_size=criteria.step,
                max_angle=angle,
                pmf_threshold=criteria.threshold,
                min_len=criteria.min_length,
                max_len=criteria.max_length,
                nbr_threads=threads,
                random_seed=seed + 1,
                return_all=False,
            )
        return _arrays(getattr(result, "streamlines", result))

    return batch


def _exclude(tissue: TissueFractions) -> NDArray[np.float64]:
    """Fluid, and everything outside the brain, ends a streamline as wrong."""
    outside = 1 - (tissue.wm + tissue.gm + tissue.csf).clip(0, 1)
    return np.maximum(tissue.csf, np.where(outside > 0.99, 1.0, 0.0)).astype(np.float64)


def _arrays(lines: Iterable[ArrayLike]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points of streamlines of two points or more, and how many each has."""
    arrays = [np.asarray(line, dtype=np.float32) for line in lines]
    arrays = [a for a in arrays if len(a) > 1]
    if not arrays:
        return np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    return np.concatenate(arrays), np.array([len(a) for a in arrays], dtype=np.int64)
