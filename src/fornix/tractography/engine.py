"""The compiled tracker: many streamlines in parallel, each with its own random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.errors import FornixError, tell
from fornix.core.grid import flat_voxels
from fornix.core.methods import Deferred
from fornix.core.tractogram import Tractogram
from fornix.tractography import _propagate as march
from fornix.tractography.criteria import TrackingCriteria
from fornix.tractography.fields import Field, cones, nearest_axis
from fornix.tractography.learned.limits import PROBE, Policy, blank, lowered
from fornix.tractography.seeds import (
    BLOCK,
    SEEDINGS,
    DynamicSeeds,
    Seeder,
    interface_seeds,
    starting_numbers,
    voxel_seeds,
)
from fornix.tractography.tissue_fractions import TissueFractions

# The network that ships, and with it torch, is loaded by the trackers that follow it.
shipped = Deferred("fornix.tractography.learned.policy:shipped")

Regions = tuple[NDArray[np.uint64], np.uint64]

ALGORITHMS = {
    "deterministic": march.DETERMINISTIC,
    "probabilistic": march.PROBABILISTIC,
    "ptt": march.TRANSPORT,
    "learned": march.POLICY,
    "learned-best": march.POLICY,
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
    march.UNLIKELY: "unlikely to be a whole fibre",
}

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
    tissue: TissueFractions,
    seeds: NDArray[np.bool_],
    rules: TrackingCriteria,
    *,
    count: int,
    seed: int,
    threads: int,
    fod_std: NDArray[np.float32] | None = None,
    seeding: str = "voxel",
    per_voxel: int | None = None,
    sink: Sink | None = None,
    policy: Policy | None = None,
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
    adjusted = policy is None and algorithm.startswith("learned")
    if policy is None:
        policy = shipped(best=algorithm == "learned-best") if adjusted else blank()
    axes, near = cones(round(float(rules.angle), 3))
    field = Field.of(fod, affine, tissue)
    lookup, basis = field.lookup, field.basis
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
    capacity = int(np.ceil(rules.max_length / rules.step)) + 2

    def marched(
        starts: NDArray[np.floating], numbers: NDArray[np.int64], policy: Policy, regions: Regions
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        return march.propagate_seeds(
            starts, starting_numbers(numbers, seed), lookup, field.amplitudes, spread, waves, axes, near,
            nearest_axis(), field.fractions, *regions, field.size, rules.step,
            np.cos(np.radians(rules.angle)), rules.sharpest, _PROBE * rules.step,
            rules.threshold * field.typical, int(np.ceil(rules.min_length / rules.step - 1e-6)),
            capacity, ALGORITHMS[algorithm], not rules.act_ends, policy.layers,
            policy.habits(1 / field.typical),
        )  # fmt: skip

    regions = rules.regions(_grid(fod))
    if adjusted:
        # What suits the scan does not depend on where the user seeds and what he includes.
        all_over = (tissue.wm > 0.5) & (lookup >= 0)
        blocks_of = voxel_seeds(all_over if all_over.any() else where, seed)
        probe = np.concatenate([blocks_of(i) for i in range(-(-PROBE // BLOCK))])[:PROBE]
        free = replace(rules, include=(), exclude=(), stop=()).regions(_grid(fod))

        def given_up(asked: Policy) -> float:
            with use_threads(threads):
                status = marched(probe, np.arange(len(probe)), asked, free)[2]
            return float((status == march.UNLIKELY).mean())

        policy, lower = lowered(policy, given_up)
        if lower > 1:
            tell(
                f"the fibres look less likely to the tracking network than those it learned from: its "
                f"limits are lowered by {lower:.1f}"
            )
    seeder = _seeder(seeding, where, fod, tissue, seed, per_voxel)
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
            points, spans, status = marched(starts, numbers, policy, regions)
            block, tried = block + blocks, tried + len(starts)
            outcome += np.bincount(status, minlength=march.OUTCOMES)
            good = np.flatnonzero(status == march.ACCEPTED)[: count - total]
            if len(good):
                world, lengths = march.gather(
                    points, spans, good, affine[:3, :3] / field.size, affine[:3, 3]
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
    tissue: TissueFractions,
    seed: int,
    per_voxel: int | None,
) -> Seeder:
    if per_voxel is not None and seeding != "voxel":
        raise FornixError(f"a number of seeds per voxel has no meaning with {seeding} seeding")
    if seeding == "interface":
        return interface_seeds(where, tissue, seed)
    if seeding == "dynamic":
        return DynamicSeeds(where, fod[..., 0].astype(np.float64) * tissue.wm, seed)
    return voxel_seeds(where, seed, per_voxel)


def _why(outcome: NDArray[np.int64]) -> str:
    order = np.argsort(-outcome)
    return ", ".join(f"{outcome[i]} {REASONS[i]}" for i in order if i in REASONS and outcome[i])


def _grid(fod: NDArray[np.float32]) -> tuple[int, int, int]:
    x, y, z = fod.shape[:3]
    return x, y, z
