"""The compiled tracker: many streamlines in parallel, each with its own random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.errors import FornixError, tell
from fornix.core.grid import flat_voxels
from fornix.core.methods import Deferred
from fornix.core.tractogram import Tractogram
from fornix.tractography import _propagate as propagate
from fornix.tractography._kernel_arguments import FieldArrays, Regions
from fornix.tractography.criteria import TrackingCriteria
from fornix.tractography.fields import Field
from fornix.tractography.learned.limits import TRIAL_SEEDS, Policy, lower_limits, no_policy
from fornix.tractography.seeds import (
    BLOCK,
    SEEDINGS,
    DynamicSeeds,
    Seeder,
    first_seeds,
    interface_seeds,
    seed_numbers,
    starting_numbers,
    voxel_seeds,
)
from fornix.tractography.tissue_fractions import TissueFractions

# The network that ships, and with it torch, is loaded by the trackers that follow it.
shipped = Deferred("fornix.tractography.learned.policy:shipped")

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

ALGORITHMS = {
    "deterministic": propagate.DETERMINISTIC,
    "probabilistic": propagate.PROBABILISTIC,
    "ptt": propagate.TRANSPORT,
    "learned": propagate.POLICY,
    "learned-best": propagate.POLICY,
}
REASONS = {
    propagate.TOO_SHORT: "too short",
    propagate.TOO_LONG: "too long",
    propagate.IN_CSF: "entered fluid",
    propagate.IN_WM: "ended inside white matter",
    propagate.OUTSIDE: "left the volume",
    propagate.NO_START: "no direction at the seed",
    propagate.EXCLUDED: "entered an excluded region",
    propagate.NOT_INCLUDED: "missed an included region",
    propagate.UNLIKELY: "unlikely to be a whole fibre",
}

#: Blocks of seeds that run at once.
_BLOCKS_AT_ONCE = 8
#: Give up where fewer than this share of so many seeds was accepted.
_MIN_RATE, _ENOUGH_SEEDS = 1e-4, 100_000


class Sink(Protocol):
    """Takes streamlines as they are found, as `io.trx.TrxWriter` does."""

    def append(self, points: NDArray[np.floating], lengths: NDArray[np.integer]) -> None:
        """Take some more.

        Args:
            points: (n, 3) in world mm, one streamline after another.
            lengths: How many points each has.
        """


class StreamlineBuffer:
    """A sink that holds streamlines in memory."""

    def __init__(self) -> None:
        self._points: list[NDArray[np.floating]] = [np.zeros((0, 3), np.float32)]
        self._lengths: list[NDArray[np.integer]] = [np.zeros(0, np.int64)]

    def append(self, points: NDArray[np.floating], lengths: NDArray[np.integer]) -> None:
        """Take some more; arguments as those of a Sink."""
        self._points.append(points)
        self._lengths.append(lengths)

    def tractogram(self, affine: NDArray[np.float64], grid: tuple[int, int, int]) -> Tractogram:
        """All of them.

        Args:
            affine: (4, 4) of the grid they were tracked on.
            grid: (X, Y, Z).
        """
        points, lengths = np.concatenate(self._points), np.concatenate(self._lengths)
        return Tractogram(points, np.concatenate([[0], np.cumsum(lengths)]), affine, grid)


@dataclass(frozen=True, eq=False)
class _Tracker:
    """One algorithm on one scan, ready for seeds."""

    algorithm: int
    field: Field
    arrays: FieldArrays
    criteria: TrackingCriteria
    regions: Regions
    policy: Policy
    seed: int
    threads: int

    def run(self, seeds: NDArray[np.float64], numbers: Indices) -> tuple[Floats, Indices, Indices]:
        """Points, spans and outcomes of seeds (n, 3), voxel coordinates, as `propagate_seeds` says."""
        with use_threads(self.threads):
            points, spans, outcomes = propagate.propagate_seeds(
                seeds,
                starting_numbers(numbers, seed=self.seed),
                self.arrays,
                self.criteria.step_params(self.algorithm, typical=self.field.typical),
                self.regions,
                self.policy.mlp,
                self.policy.params(typical=self.field.typical),
            )
        return points, spans, outcomes

    def rejected(self, seeds: NDArray[np.float64]) -> float:
        """The share of seeds whose streamline is given up as unlikely."""
        outcomes = self.run(seeds, np.arange(len(seeds)))[2]
        return float((outcomes == propagate.UNLIKELY).mean())


def track_engine(
    fod: Floats,
    affine: NDArray[np.float64],
    tissue: TissueFractions,
    seeds: NDArray[np.bool_],
    criteria: TrackingCriteria,
    *,
    algorithm: str,
    count: int,
    seed: int,
    threads: int,
    fod_std: Floats | None = None,
    seeding: str = "voxel",
    per_voxel: int | None = None,
    sink: Sink | None = None,
    policy: Policy | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tractogram | int:
    """Track until `count` streamlines are accepted, or the seeds run out of luck.

    Each streamline's random numbers depend on the seed and its number alone, so the number of threads
    does not matter, and fewer streamlines are the first of more.

    Args:
        fod: (X, Y, Z, coefficients), world axes.
        affine: (4, 4) voxel to world (RAS+, mm).
        tissue: Fractions on the same grid.
        seeds: (X, Y, Z) where to start.
        criteria: How streamlines run and which are kept.
        algorithm: `probabilistic` samples the interpolated FOD within a cone about the last direction;
            `deterministic` takes its largest amplitude there; `ptt` draws smooth arcs (`_transport`);
            `learned` and `learned-best` follow the policy (`learned.policy`).
        count: Streamlines to keep.
        seed: Of all random numbers.
        threads: Threads in use.
        fod_std: Standard deviation of the coefficients, like fod. Every streamline then runs through
            an FOD of its own, drawn from these: a smooth random function on the sphere times the
            amplitudes' standard deviation, the same all along the streamline.
        seeding: One of SEEDINGS (`seeds`).
        per_voxel: So many seeds in each voxel and no more, instead of as many as `count` needs.
        sink: Takes the streamlines as they are found.
        policy: Of the learned trackers; by default the one that ships, its limits lowered where the
            scan asks for it.
        progress: Called with the streamlines accepted so far, and count.

    Returns:
        A Tractogram; with a sink the number of streamlines.

    Raises:
        FornixError: No voxel can be seeded, or no streamline is accepted (says why).
    """
    if seeding not in SEEDINGS:
        raise FornixError(f"no seeding {seeding!r}; choose one of: {', '.join(SEEDINGS)}")
    adjusted = policy is None and algorithm.startswith("learned")
    if policy is None:
        policy = shipped(best=algorithm == "learned-best") if adjusted else no_policy()
    field, grid = Field.of(fod, affine, tissue), _grid(fod)
    usable = field.lookup >= 0
    where = seeds & usable
    if not where.any():
        raise FornixError("no voxel to seed from: the seeds lie outside where fibres were found")
    std = None
    if fod_std is not None and algorithm != "deterministic":
        std = field.amplitude_std(fod_std)
    tracker = _Tracker(
        ALGORITHMS[algorithm], field, field.arrays(angle=criteria.angle, std=std), criteria,
        criteria.regions(grid), policy, seed, threads,
    )  # fmt: skip
    if adjusted:
        white = (tissue.wm > 0.5) & usable
        tracker = _suited(tracker, white if white.any() else where)
    seeder = _seeder(seeding, where, fod, tissue, seed, per_voxel)
    kept: Sink = StreamlineBuffer() if sink is None else sink
    outcomes = np.zeros(propagate.OUTCOMES, dtype=np.int64)
    total, tried, block = 0, 0, 0
    limit = 60 * count + _ENOUGH_SEEDS
    while total < count and tried < limit:
        blocks = _blocks_at_once(seeding, count, total, tried)
        parts = [seeder(block + i) for i in range(blocks)]
        starts, numbers = np.ascontiguousarray(np.concatenate(parts)), seed_numbers(parts, block)
        if not len(starts):
            if per_voxel is not None:
                break
            block, tried = block + blocks, tried + blocks * BLOCK
            continue
        points, spans, ended = tracker.run(starts, numbers)
        block, tried = block + blocks, tried + len(starts)
        outcomes += np.bincount(ended, minlength=propagate.OUTCOMES)
        accepted = np.flatnonzero(ended == propagate.ACCEPTED)[: count - total]
        if len(accepted):
            with use_threads(threads):
                world, lengths = propagate.to_world(
                    points, spans, accepted, affine[:3, :3] / field.voxel_size, affine[:3, 3]
                )
            kept.append(world, lengths)
            if isinstance(seeder, DynamicSeeds):
                flat, inside = flat_voxels(world, affine, grid)
                seeder.count(flat[inside])
        total += len(accepted)
        if progress is not None:
            progress(total, count)
        if tried >= _ENOUGH_SEEDS and total < _MIN_RATE * tried:
            break
    if not total:
        raise FornixError(f"no streamline was accepted of {tried} seeds: {_reasons(outcomes)}")
    return kept.tractogram(affine, grid) if isinstance(kept, StreamlineBuffer) else total


def _suited(tracker: _Tracker, where: NDArray[np.bool_]) -> _Tracker:
    """The tracker with the policy's limits lowered as far as the scan asks for.

    What suits the scan does not depend on where the user seeds and what is included: `where` is all of
    the white matter, and no region counts.
    """
    free = replace(tracker.criteria, include=(), exclude=(), stop=())
    grid = tracker.field.lookup.shape
    trial = replace(tracker, regions=free.regions((grid[0], grid[1], grid[2])))
    seeds = first_seeds(voxel_seeds(where, seed=tracker.seed), TRIAL_SEEDS)
    policy, shift = lower_limits(
        tracker.policy, lambda policy: replace(trial, policy=policy).rejected(seeds)
    )
    if shift > 1:
        tell(
            f"the fibres look less likely to the tracking network than those it learned from: its "
            f"limits are lowered by {shift:.1f}"
        )
    return replace(tracker, policy=policy)


def _blocks_at_once(seeding: str, count: int, total: int, tried: int) -> int:
    """As many blocks as will be needed at the rate so far; one where each steers the next."""
    if seeding == "dynamic" or not tried:
        return 1
    rate = max(total / tried, 0.01)
    return int(np.clip(np.ceil((count - total) / rate / BLOCK), 1, _BLOCKS_AT_ONCE))


def _seeder(
    seeding: str,
    where: NDArray[np.bool_],
    fod: NDArray[np.float32],
    tissue: TissueFractions,
    seed: int,
    per_voxel: int | None,
) -> Seeder:
    if per_voxel is not None and seeding != "voxel":
        raise FornixError(f"a number of seeds per voxel has no meaning with {seeding} seeding")
    if seeding == "interface":
        return interface_seeds(where, tissue, seed=seed)
    if seeding == "dynamic":
        return DynamicSeeds(where, fod[..., 0].astype(np.float64) * tissue.wm, seed=seed)
    return voxel_seeds(where, seed=seed, per_voxel=per_voxel)


def _reasons(outcomes: Indices) -> str:
    order = np.argsort(-outcomes)
    return ", ".join(f"{outcomes[i]} {REASONS[i]}" for i in order if i in REASONS and outcomes[i])


def _grid(fod: NDArray[np.float32]) -> tuple[int, int, int]:
    x, y, z = fod.shape[:3]
    return x, y, z
