"""The compiled tracker: many streamlines in parallel, each with its own random numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fornix.core import harmonics
from fornix.core.compute import use_threads
from fornix.core.directions import fibonacci
from fornix.core.errors import FornixError
from fornix.core.gradients import voxel_rotation
from fornix.core.tractogram import Tractogram
from fornix.physics.bundle_maps import flat_voxels
from fornix.tracking import _march as march
from fornix.tracking.rules import Rules
from fornix.tracking.seeds import (
    BLOCK,
    SEEDINGS,
    DynamicSeeds,
    Seeder,
    interface_seeds,
    voxel_seeds,
)
from fornix.tracking.tissue import Tissue

ALGORITHMS = {
    "deterministic": march.DETERMINISTIC,
    "probabilistic": march.PROBABILISTIC,
    "ptt": march.TRANSPORT,
}
REASONS = {
    march.TOO_SHORT: "too short",
    march.TOO_LONG: "too long",
    march.IN_FLUID: "entered fluid",
    march.IN_WHITE: "ended inside white matter",
    march.OUTSIDE: "left the volume",
    march.NO_START: "no direction at the seed",
    march.EXCLUDED: "entered an excluded region",
    march.NOT_INCLUDED: "missed an included region",
}

_AXES = 400
_TABLE = 128
#: Blocks of seeds that run at once.
_AT_ONCE = 8
#: Give up where fewer than this share of so many seeds was accepted.
_HOPELESS, _ENOUGH = 1e-4, 100_000
#: Length of the probe that looks ahead for smooth curves, in steps.
_PROBE = 3.0


class Sink(Protocol):
    """Takes streamlines as they come, as `io.trx.TrxWriter` does."""

    def append(self, points: NDArray[np.floating], lengths: NDArray[np.integer]) -> None:
        """Points (n, 3) in world mm one streamline after another, and how many each has."""


class Memory:
    """A sink that keeps streamlines in memory."""

    def __init__(self) -> None:
        self._points: list[NDArray[np.floating]] = [np.zeros((0, 3), np.float32)]
        self._lengths: list[NDArray[np.integer]] = [np.zeros(0, np.int64)]

    def append(self, points: NDArray[np.floating], lengths: NDArray[np.integer]) -> None:
        """Keep them."""
        self._points.append(points)
        self._lengths.append(lengths)

    def tractogram(self, affine: NDArray[np.float64], grid: tuple[int, int, int]) -> Tractogram:
        """All of them."""
        points, lengths = np.concatenate(self._points), np.concatenate(self._lengths)
        return Tractogram(points, np.concatenate([[0], np.cumsum(lengths)]), affine, grid)


def track_engine(
    algorithm: str,
    fod: NDArray[np.float32],
    affine: NDArray[np.float64],
    tissue: Tissue,
    seeds: NDArray[np.bool_],
    rules: Rules,
    *,
    count: int,
    seed: int,
    threads: int,
    fod_std: NDArray[np.float32] | None = None,
    seeding: str = "voxel",
    per_voxel: int | None = None,
    sink: Sink | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tractogram | int:
    """`count` accepted streamlines, or fewer where the seeds run out of luck.

    algorithm: `probabilistic` samples the interpolated FOD within a cone about the last direction;
    `deterministic` takes its largest amplitude there; `ptt` draws smooth arcs (_transport.py).
    fod: (X, Y, Z, coefficients), world axes. fod_std: the coefficients' standard deviation, like fod;
    every streamline then runs through an FOD of its own, drawn from these (a smooth random function on
    the sphere times the amplitudes' standard deviation, the same along the streamline).
    seeds: (X, Y, Z) where to start; seeding, per_voxel: how (seeds.py).
    sink: takes the streamlines as they are found; the number of them is returned then, without it a
    Tractogram.

    Each streamline's random numbers depend on the seed and its number alone, so the number of threads
    does not matter, and fewer streamlines are the first of more.

    Raises FornixError where no voxel can be seeded, or no streamline is accepted (says why).
    """
    if seeding not in SEEDINGS:
        raise FornixError(f"no seeding {seeding!r}; choose one of: {', '.join(SEEDINGS)}")
    axes, cones = _axes(round(float(rules.angle), 3))
    # Tracking runs in voxel axes scaled to mm; the axes are turned there, the amplitudes are not.
    turned = axes @ voxel_rotation(affine).T
    size = np.linalg.norm(affine[:3, :3], axis=0)
    basis = harmonics.evaluate(harmonics.lmax_of(fod.shape[3]), turned).astype(np.float32)
    lookup, amplitudes = _amplitudes(fod, basis, tissue)
    where = seeds & (lookup >= 0)
    if not where.any():
        raise FornixError("no voxel to seed from: the seeds lie outside where fibres were found")
    spread = np.zeros((0, 0), np.float32)
    if fod_std is not None and algorithm != "deterministic":
        if fod_std.shape != fod.shape:
            raise FornixError(f"the FOD's deviation has shape {fod_std.shape}, the FOD {fod.shape}")
        variance = np.nan_to_num(fod_std[lookup >= 0]) ** 2 @ (basis**2).T
        spread = np.sqrt(variance).astype(np.float32)
    # The sum of squares over all harmonics is the same on every axis (addition theorem).
    waves = basis / np.sqrt(basis.shape[1] / (4 * np.pi))
    typical = float(np.percentile(amplitudes.max(1), 75))
    regions, wanted = rules.regions(_grid(fod))
    fractions = np.stack([tissue.white, tissue.grey, tissue.fluid], -1).astype(np.float32)
    seeder = _seeder(seeding, where, fod, tissue, seed, per_voxel)
    capacity = int(np.ceil(rules.max_length / rules.step)) + 2
    kept: Sink = Memory() if sink is None else sink
    outcome = np.zeros(march.OUTCOMES, dtype=np.int64)
    total, tried, block = 0, 0, 0
    limit = 60 * count + _ENOUGH
    while total < count and tried < limit:
        blocks = _blocks_at_once(seeding, count, total, tried)
        parts = [seeder(block + i) for i in range(blocks)]
        starts = np.ascontiguousarray(np.concatenate(parts))
        numbers = np.concatenate(
            [(block + i) * BLOCK + np.arange(len(p)) for i, p in enumerate(parts)]
        )
        if not len(starts):
            if per_voxel is not None:
                break
            block, tried = block + blocks, tried + blocks * BLOCK
            continue
        with use_threads(threads):
            points, spans, status = march.run_seeds(
                starts,
                numbers.astype(np.uint64) + np.uint64(seed) * np.uint64(0x2545F4914F6CDD1D),
                lookup,
                amplitudes,
                spread,
                waves,
                axes,
                cones,
                _nearest(),
                fractions,
                regions,
                wanted,
                size,
                rules.step,
                np.cos(np.radians(rules.angle)),
                rules.sharpest,
                _PROBE * rules.step,
                rules.threshold * typical,
                int(np.ceil(rules.min_length / rules.step - 1e-6)),
                capacity,
                ALGORITHMS[algorithm],
                rules.any_end,
            )
            block, tried = block + blocks, tried + len(starts)
            outcome += np.bincount(status, minlength=march.OUTCOMES)
            good = np.flatnonzero(status == march.ACCEPTED)[: count - total]
            if len(good):
                world, lengths = march.gather(
                    points, spans, good, affine[:3, :3] / size, affine[:3, 3]
                )
                kept.append(world, lengths)
                if isinstance(seeder, DynamicSeeds):
                    flat, inside = flat_voxels(world, affine, _grid(fod))
                    seeder.learn(flat[inside])
        total += len(good)
        if progress is not None:
            progress(total, count)
        if tried >= _ENOUGH and total < _HOPELESS * tried:
            break
    if not total:
        raise FornixError(f"no streamline was accepted of {tried} seeds: {_why(outcome)}")
    return kept.tractogram(affine, _grid(fod)) if isinstance(kept, Memory) else total


def _blocks_at_once(seeding: str, count: int, total: int, tried: int) -> int:
    """As many blocks as will be needed, judged by the luck so far; one where each steers the next."""
    if seeding == "dynamic" or not tried:
        return 1
    rate = max(total / tried, 0.01)
    return int(np.clip(np.ceil((count - total) / rate / BLOCK), 1, _AT_ONCE))


def _seeder(
    seeding: str,
    where: NDArray[np.bool_],
    fod: NDArray[np.float32],
    tissue: Tissue,
    seed: int,
    per_voxel: int | None,
) -> Seeder:
    if per_voxel is not None and seeding != "voxel":
        raise FornixError(f"a number of seeds per voxel has no meaning with {seeding} seeding")
    if seeding == "interface":
        return interface_seeds(where, tissue, seed)
    if seeding == "dynamic":
        return DynamicSeeds(where, fod[..., 0].astype(np.float64) * tissue.white, seed)
    return voxel_seeds(where, seed, per_voxel)


def _why(outcome: NDArray[np.int64]) -> str:
    order = np.argsort(-outcome)
    return ", ".join(f"{outcome[i]} {REASONS[i]}" for i in order if i in REASONS and outcome[i])


def _grid(fod: NDArray[np.float32]) -> tuple[int, int, int]:
    x, y, z = fod.shape[:3]
    return x, y, z


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


@lru_cache(maxsize=1)
def _nearest() -> NDArray[np.int32]:
    """(side, side) the axis nearest to each cell of the octahedron's upper half (see axis_of)."""
    u, v = np.meshgrid(*[(np.arange(_TABLE) + 0.5) / _TABLE] * 2, indexing="ij")
    x, y = u + v - 1, u - v
    point = np.stack([x, y, np.maximum(1 - np.abs(x) - np.abs(y), 0)], -1)
    point /= np.linalg.norm(point, axis=-1, keepdims=True)
    return np.abs(point @ fibonacci(_AXES).T).argmax(-1).astype(np.int32)


def _amplitudes(
    fod: NDArray[np.float32], basis: NDArray[np.float32], tissue: Tissue
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """FOD amplitudes on the axes for the voxels where a streamline can run, and their row numbers."""
    from scipy.ndimage import binary_dilation

    usable = binary_dilation(tissue.white > 0.1) & np.isfinite(fod).all(-1) & (fod[..., 0] > 0)
    lookup = np.full(fod.shape[:3], -1, dtype=np.int32)
    lookup[usable] = np.arange(int(usable.sum()))
    return lookup, np.clip(fod[usable] @ basis.T, 0, None)
