"""The compiled tracker: many streamlines in parallel, each with its own random numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fornix.core import harmonics
from fornix.core.compute import use_threads
from fornix.core.directions import fibonacci
from fornix.core.errors import FornixError
from fornix.core.gradients import voxel_rotation
from fornix.core.tractogram import Tractogram
from fornix.tracking._kernels import (
    ACCEPTED,
    IN_FLUID,
    IN_WHITE,
    NO_START,
    OUTSIDE,
    TOO_LONG,
    TOO_SHORT,
    run_seeds,
)
from fornix.tracking.tissue import Tissue

_AXES = 400
_BATCH = 20_000

REASONS = {
    TOO_SHORT: "too short",
    TOO_LONG: "too long",
    IN_FLUID: "entered fluid",
    IN_WHITE: "ended inside white matter",
    OUTSIDE: "left the brain",
    NO_START: "no direction at the seed",
}


def track_engine(
    algorithm: str,
    fod: NDArray[np.float32],
    affine: NDArray[np.float64],
    tissue: Tissue,
    seeds: NDArray[np.bool_],
    *,
    count: int,
    step: float,
    angle: float,
    threshold: float,
    min_length: float,
    max_length: float,
    seed: int,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> Tractogram:
    """`count` streamlines that end in grey matter, or fewer where the seeds run out of luck.

    algorithm: `probabilistic` samples the interpolated FOD within a cone about the last direction;
    `deterministic` takes its largest amplitude there. fod: (X, Y, Z, coefficients), world axes.

    Each streamline's random numbers depend on the seed and its index alone, so the number of threads
    does not matter.
    """
    axes, cones = _axes(round(float(angle), 3))
    # Tracking runs in voxel axes scaled to mm; the axes are turned there, the amplitudes are not.
    rotation = voxel_rotation(affine)
    size = np.linalg.norm(affine[:3, :3], axis=0)
    lookup, amplitudes = _amplitudes(fod, axes @ rotation.T, tissue)
    where = np.argwhere(seeds & (lookup >= 0))
    if not len(where):
        raise FornixError("no voxel to seed from: the seeds lie outside where fibres were found")
    typical = float(np.percentile(amplitudes.max(1), 75))
    capacity = int(np.ceil(max_length / step)) + 2
    kept: list[NDArray] = []
    sizes: list[NDArray] = []
    total, tried = 0, 0
    outcome = np.zeros(7, dtype=np.int64)
    rng = np.random.default_rng(seed)
    while total < count and tried < 60 * count + 5 * _BATCH:
        voxels = where[rng.integers(len(where), size=_BATCH)] + rng.uniform(-0.5, 0.5, (_BATCH, 3))
        with use_threads(threads):
            points, spans, status = run_seeds(
                voxels,
                np.uint64(seed) * np.uint64(1_000_003) + np.uint64(tried),
                lookup,
                amplitudes,
                axes,
                cones,
                tissue.white,
                tissue.grey,
                tissue.fluid,
                size,
                step,
                np.cos(np.radians(angle)),
                threshold * typical,
                int(min_length / step),
                capacity,
                algorithm == "probabilistic",
            )
        tried += _BATCH
        outcome += np.bincount(status, minlength=7)
        good = np.flatnonzero(status == ACCEPTED)[: count - total]
        for i in good:
            kept.append(points[i, spans[i, 0] : spans[i, 1]])
        sizes.append(spans[good, 1] - spans[good, 0])
        total += len(good)
        if progress is not None:
            progress(total, count)
        if tried >= 5 * _BATCH and total < 1e-4 * tried:
            break
    if not total:
        raise FornixError(f"no streamline was accepted of {tried} seeds: {_why(outcome)}")
    voxel_points = np.concatenate(kept) / size
    world = voxel_points @ affine[:3, :3].T + affine[:3, 3]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    x, y, z = fod.shape[:3]
    return Tractogram(world.astype(np.float32), offsets, affine, (x, y, z))


def _why(outcome: NDArray[np.int64]) -> str:
    order = np.argsort(-outcome)
    return ", ".join(f"{outcome[i]} {REASONS[i]}" for i in order if i in REASONS and outcome[i])


@lru_cache(maxsize=4)
def _axes(angle: float) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Axes on the half sphere, and for each the axes within the cone and the grid's own spacing."""
    axes = fibonacci(_AXES)
    margin = np.degrees(np.sqrt(2 * np.pi / _AXES)) / 2
    near = np.abs(axes @ axes.T) >= np.cos(np.radians(min(angle + margin, 90.0)))
    width = int(near.sum(1).max())
    cones = np.full((_AXES, width), -1, dtype=np.int32)
    for i, row in enumerate(near):
        index = np.flatnonzero(row)
        cones[i, : len(index)] = index
    return axes, cones


def _amplitudes(
    fod: NDArray[np.float32], axes: NDArray[np.float64], tissue: Tissue
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """FOD amplitudes on the axes for the voxels where a streamline can run, and their row numbers."""
    from scipy.ndimage import binary_dilation

    usable = binary_dilation(tissue.white > 0.1) & np.isfinite(fod).all(-1) & (fod[..., 0] > 0)
    lookup = np.full(fod.shape[:3], -1, dtype=np.int32)
    lookup[usable] = np.arange(int(usable.sum()))
    basis = harmonics.evaluate(harmonics.lmax_of(fod.shape[3]), axes).astype(np.float32)
    return lookup, np.clip(fod[usable] @ basis.T, 0, None)
