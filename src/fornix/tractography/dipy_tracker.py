"""Streamlines through DIPY's trackers: the reference methods."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import voxel_rotation
from fornix.core.tractogram import Tractogram
from fornix.numerics import harmonics
from fornix.tractography.criteria import TrackingCriteria
from fornix.tractography.tissue_fractions import TissueFractions

_PER_BATCH = 40_000


def track_dipy(
    algorithm: str,
    fod: NDArray[np.float32],
    affine: NDArray[np.float64],
    tissue: TissueFractions,
    seeds: NDArray[np.bool_],
    rules: TrackingCriteria,
    *,
    count: int,
    seed: int,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> Tractogram:
    """`count` streamlines that end in grey matter, or fewer where the seeds run out of luck.

    algorithm: `probabilistic`, `deterministic` or `ptt`. fod: (X, Y, Z, coefficients), world axes.
    """
    run = dipy_batch(algorithm, fod, affine, tissue, rules, seed=seed, threads=threads)
    where = np.argwhere(seeds)
    if not len(where):
        raise FornixError("no voxel to seed from: the seed mask is empty inside the white matter")
    rng = np.random.default_rng(seed)
    kept: list[NDArray] = []
    total, tried = 0, 0
    lengths: list[NDArray] = []
    while total < count and tried < 40 * count:
        batch = min(_PER_BATCH, max(4000, 3 * (count - total)))
        voxels = where[rng.integers(len(where), size=batch)] + rng.uniform(-0.5, 0.5, (batch, 3))
        data, sizes = run(voxels @ affine[:3, :3].T + affine[:3, 3])
        tried += batch
        if len(sizes):
            kept.append(data)
            lengths.append(sizes)
            total += len(sizes)
        if progress is not None:
            progress(min(total, count), count)
        if tried >= 5 * _PER_BATCH and total < 0.002 * tried:
            break
    if not total:
        raise FornixError(
            f"none of {tried} seeds gave a streamline that ends in grey matter with a length of "
            f"{rules.min_length:g} to {rules.max_length:g} mm; check the mask and the gradient "
            "table (fornix info)"
        )
    sizes = np.concatenate(lengths)[:count]
    points = np.concatenate(kept)[: int(sizes.sum())]
    x, y, z = fod.shape[:3]
    return Tractogram(points, np.concatenate([[0], np.cumsum(sizes)]), affine, (x, y, z))


def dipy_batch(
    algorithm: str,
    fod: NDArray[np.float32],
    affine: NDArray[np.float64],
    tissue: TissueFractions,
    rules: TrackingCriteria,
    *,
    seed: int,
    threads: int,
) -> Callable[[NDArray[np.float64]], tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """A function from seeds (n, 3) in world mm to the streamlines accepted: points and lengths.

    The FOD is scaled to 1 at its typical largest amplitude, since DIPY's PTT takes the threshold as an
    amplitude; and its largest turn is divided by the voxel's edge, since its curvature is per voxel.
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
    angle = rules.angle
    if algorithm == "ptt":
        edge = float(np.linalg.norm(affine[:3, :3], axis=0).mean())
        angle = float(2 * np.degrees(np.arcsin(min(rules.sharpest * rules.step / 2 / edge, 1.0))))
    criterion = ActStoppingCriterion(tissue.gm.astype(np.float64), _exclude(tissue))

    def batch(positions: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = run(
                positions,
                criterion,
                affine,
                sh=coefficients,
                sphere=sphere,
                step_size=rules.step,
                max_angle=angle,
                pmf_threshold=rules.threshold,
                min_len=rules.min_length,
                max_len=rules.max_length,
                nbr_threads=threads,
                random_seed=seed + 1,
                return_all=False,
            )
        return _plain(made.streamlines if hasattr(made, "streamlines") else list(made))

    return batch


def _exclude(tissue: TissueFractions) -> NDArray[np.float64]:
    """Fluid, and everything outside the brain, ends a streamline as wrong."""
    nothing = 1 - (tissue.wm + tissue.gm + tissue.csf).clip(0, 1)
    return np.maximum(tissue.csf, np.where(nothing > 0.99, 1.0, 0.0)).astype(np.float64)


def _plain(lines: object) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    arrays = [np.asarray(line, dtype=np.float32) for line in lines]  # type: ignore[attr-defined]
    arrays = [a for a in arrays if len(a) > 1]
    if not arrays:
        return np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    return np.concatenate(arrays), np.array([len(a) for a in arrays], dtype=np.int64)
