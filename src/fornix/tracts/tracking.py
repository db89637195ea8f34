"""Streamlines of each tract: inside of its map, along its direction, from one end region to the other.

Bundle-specific tracking as TractSeg's on orientation maps (Wasserthal et al., MedIA 2019), but through the
FOD: each step is drawn from it, weighted by the tract's own direction, so that fibres follow the data where
they fan out and the tract where they cross.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import available_threads, use_threads
from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.tractography._propagate import to_world
from fornix.tractography.fields import Field
from fornix.tractography.tissue_fractions import TissueFractions
from fornix.tracts import _tracking_kernels as kernels
from fornix.tracts.segment import TractMaps
from fornix.tracts.tracking_runs import TractRun, blocks, packed

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

#: Streamlines of a tract where a number is asked for without more thought.
RECOMMENDED = 500
#: Largest turn per mm of step, degrees, and concentration of directions about the tract's own (20° apart).
_ANGLE, _KAPPA = 25.0, 6.0
#: Added to the FOD, in shares of its typical largest amplitude, and the power to which the sum is raised.
_FLOOR, _POWER = 0.1, 2.0
#: mm, of a streamline, and at most of one way from its seed.
_MIN_LENGTH, _MAX_LENGTH = 10.0, 250.0
#: Rounds of seeds, and seeds that run at once: the points of each take 6 kB.
_ROUNDS, _BLOCK = 20, 6000


REASONS = {
    kernels.END_MISSED: "left the tract short of an end",
    kernels.CUT: "left the scan short of an end",
    kernels.TOO_SHORT: "too short",
    kernels.TOO_LONG: "too long",
    kernels.NO_START: "had no direction at the seed",
}


@dataclass(frozen=True, eq=False)
class TractStreamlines:
    """Streamlines of one tract.

    Attributes:
        name: Of the tract.
        count: Streamlines.
        cut: How many of them end where the scan does, short of an end region.
        seeds: How many were tried.
        mean_length: mm.
        covered: Share of the map's volume, voxels above the threshold, that they pass through.
        reason: Why there are fewer than were asked for; empty where there are not.
    """

    name: str
    count: int
    cut: int
    seeds: int
    mean_length: float
    covered: float
    reason: str = ""


@dataclass(frozen=True, eq=False)
class TractTractogram:
    """Streamlines of all tracts.

    Attributes:
        tractogram: With `tract`, its number in the tracts' table, and `cut` (0 or 1) of each streamline, and
            a group of each tract.
        tracts: What became of each tract, in the order of the table.
    """

    tractogram: Tractogram
    tracts: tuple[TractStreamlines, ...]


def track_tracts(
    fod: Floats,
    tracts: TractMaps,
    brain: NDArray[np.bool_],
    *,
    count: int = RECOMMENDED,
    step: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TractTractogram:
    """Track every tract by itself.

    Seeds lie in the tract's map, most where streamlines are still few. A streamline stays where the tract is
    likely, and is cut back to the last place inside of each end region; one that misses an end is given up,
    unless the tract is cut off by the edge of the scan and the streamline ends there. Three times as many are
    found as are asked for, and those kept that cover the map most evenly. The same seed gives the same
    streamlines for any number of threads.

    Args:
        fod: (X, Y, Z, coefficients) on the tracts' grid, world axes.
        tracts: From `segment_tracts`.
        brain: (X, Y, Z) what was scanned of the brain.
        count: Streamlines of each tract.
        step: mm; half the smallest voxel edge, at most 1 mm, if absent.
        seed: Of all random numbers.
        threads: Threads in use; all cores if not given.
        progress: Told streamlines found and asked for.

    Raises:
        FornixError: The FOD is on another grid, or the number is below 1.
    """
    if count < 1:
        raise FornixError(f"the number of streamlines of a tract must be 1 or more, not {count}")
    lattice = tracts.lattice
    if fod.shape[:3] != lattice.shape:
        raise FornixError(
            f"the FOD is on another grid {fod.shape[:3]} than the tracts {lattice.shape}"
        )
    there = {n: f for n, f in tracts.found.items() if f.state != "absent"}
    runs = [TractRun(f, i, lattice, count, seed) for i, f in enumerate(there.values())]
    if runs:
        _track(fod, runs, tracts, brain, step, threads or available_threads(), progress)
    return _gathered(tracts, {run.found.tract.name: run for run in runs})


def _track(
    fod: Floats,
    runs: list[TractRun],
    tracts: TractMaps,
    brain: NDArray[np.bool_],
    step: float | None,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Rounds of seeds until every tract has its streamlines or was tried enough."""
    lattice = tracts.lattice
    where = np.zeros(lattice.shape, np.float32)
    for run in runs:
        where.ravel()[run.found.tract.voxels] = 1
    nothing = np.zeros_like(where)
    field = Field.of(fod, lattice.affine, TissueFractions(where, nothing, nothing))
    arrays = field.arrays(angle=_ANGLE)
    size = min(1.0, float(lattice.spacing.min()) / 2) if step is None else step
    params = kernels.TractStepParams(
        step=size,
        cosine=float(np.cos(np.radians(_ANGLE))),
        kappa=_KAPPA,
        floor=_FLOOR * field.typical,
        power=_POWER,
        min_steps=int(np.ceil(_MIN_LENGTH / size)),
        max_steps=int(np.ceil(_MAX_LENGTH / size)),
    )
    own = packed([run.found for run in runs], lattice, brain)
    axes, shift = lattice.affine[:3, :3] / field.voxel_size, lattice.affine[:3, 3]
    for _ in range(_ROUNDS):
        going = [run for run in runs if run.missing]
        for part in blocks(going, _BLOCK):
            seeds = [run.seeds() for run in part]
            sizes = [len(s) for s in seeds]
            numbers = np.concatenate([run.numbers(n) for run, n in zip(part, sizes)])
            owner = np.repeat([run.index for run in part], sizes)
            with use_threads(threads):
                points, spans, outcomes = kernels.track_seeds(
                    np.concatenate(seeds), owner, numbers, arrays, own, params
                )
                begins = np.cumsum([0, *sizes])
                for run, begin, end in zip(part, begins, begins[1:]):
                    kept = begin + run.accepted(outcomes[begin:end])
                    world, lengths = to_world(points, spans, kept, axes, shift)
                    run.take(world, lengths, outcomes[kept] == kernels.CUT)
            if progress is not None:
                progress(sum(r.held for r in runs), sum(r.pool for r in runs))


def _gathered(tracts: TractMaps, runs: dict[str, TractRun]) -> TractTractogram:
    """One tractogram with a group of each tract, and what became of each."""
    lattice = tracts.lattice
    about: list[TractStreamlines] = []
    made: list[Tractogram] = []
    groups: dict[str, Indices] = {}
    number: list[Indices] = []
    for i, (name, found) in enumerate(tracts.found.items()):
        if name not in runs:
            about.append(TractStreamlines(name, 0, 0, 0, 0.0, 0.0, found.reason))
            continue
        lines, covered = runs[name].result()
        begin = sum(map(len, made))
        groups[name] = np.arange(begin, begin + len(lines))
        number.append(np.full(len(lines), i))
        made.append(lines)
        about.append(_about(runs[name], lines, covered))
    lengths = np.concatenate([np.zeros(0, np.int64), *[np.diff(m.offsets) for m in made]])
    values = {
        "tract": np.concatenate([np.zeros(0), *number]).astype(np.float32),
        "cut": np.concatenate([np.zeros(0, np.float32), *[m.per_streamline["cut"] for m in made]]),
    }
    whole = Tractogram(
        np.concatenate([np.zeros((0, 3), np.float32), *[m.points for m in made]]),
        np.concatenate([[0], np.cumsum(lengths)]), lattice.affine, lattice.shape, values, groups,
    )  # fmt: skip
    return TractTractogram(whole, tuple(about))


def _about(run: TractRun, lines: Tractogram, covered: float) -> TractStreamlines:
    reasons = [run.found.reason] if run.found.reason else []
    if len(lines) < run.count:
        lost = ", ".join(
            f"{run.outcomes[i]} {word}" for i, word in REASONS.items() if run.outcomes[i]
        )
        reasons.append(
            f"{len(lines)} of {run.count} after {run.tried} seeds: {lost or 'no voxel to seed'}"
        )
    return TractStreamlines(
        run.found.tract.name,
        len(lines),
        int(lines.per_streamline["cut"].sum()),
        run.tried,
        float(lines.lengths().mean()) if len(lines) else 0.0,
        covered,
        "; ".join(reasons),
    )
