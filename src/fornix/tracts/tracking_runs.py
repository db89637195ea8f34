"""Tracts as the compiled loop reads them, and what is kept of each tract while it is tracked."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import voxel_rotation
from fornix.core.grid import flat_voxels
from fornix.core.tractogram import Tractogram
from fornix.register.grids import Lattice
from fornix.tractography.seeds import starting_numbers
from fornix.tracts._tracking_kernels import ACCEPTED, CUT, OUTCOMES, TractArrays
from fornix.tracts.segment import FoundTract

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

#: Probability at which a streamline leaves a tract, as a share of the tract's threshold.
LEAVE = 0.7
#: Probability of an end from which streamlines may end there, as a share of the highest there.
ENDED = 0.35
#: The same at least: of an end that was not scanned there may be a faint rim.
LEAST_END = 0.1
#: Streamlines found for every one that is kept: the tract is covered more evenly where there is a choice.
POOL = 3
#: Seeds of a tract and round, and most over all rounds, for every streamline that is to be found.
_SEEDS, _TRIES = 1.5, 20
#: What a voxel outside of the map counts against one inside that no streamline holds yet.
_OUTSIDE = 0.5


def packed(found: Sequence[FoundTract], lattice: Lattice, brain: NDArray[np.bool_]) -> TractArrays:
    """Tracts as the compiled loop reads them.

    Args:
        found: Tracts that are not absent.
        lattice: Their grid.
        brain: (X, Y, Z) what was scanned of the brain.
    """
    turn = voxel_rotation(lattice.affine)
    corners, shapes, begins, lookups = [], [], [], []
    rows, cells = 0, 0
    for one in found:
        where = np.stack(np.unravel_index(one.tract.voxels, lattice.shape), 1)
        low, high = where.min(0), where.max(0) + 1
        box = np.full(tuple(high - low), -1, np.int32)
        box[tuple((where - low).T)] = rows + np.arange(len(where))
        corners.append(low)
        shapes.append(high - low)
        begins.append(cells)
        lookups.append(box.ravel())
        rows, cells = rows + len(where), cells + box.size
    ends = [ends_of(one) for one in found]
    return TractArrays(
        corner=np.array(corners, np.int64),
        shape=np.array(shapes, np.int64),
        begin=np.array(begins, np.int64),
        lookup=np.concatenate(lookups),
        probability=np.concatenate([one.probability for one in found]).astype(np.float32),
        ends=np.concatenate(ends).astype(np.float32),
        axis=np.concatenate([one.tract.direction @ turn for one in found]).astype(np.float32),
        leave=np.array([LEAVE * one.threshold for one in found]),
        end_level=np.array([_end_level(e) for e in ends]),
        brain=np.ascontiguousarray(brain),
    )


def _end_level(ends: Floats) -> NDArray[np.float64]:
    """(2,) probability of beginning and end from which a streamline may end there."""
    return np.asarray(np.maximum(ENDED * np.quantile(ends, 0.999, axis=0), LEAST_END))


def ends_of(found: FoundTract) -> Floats:
    """(n, 2) probability of a tract's beginning and end: the atlas's, less where the tract is less likely."""
    lowered = (found.probability / np.maximum(found.tract.share, 1e-3)).clip(0, 1)
    return np.asarray(found.tract.ends * lowered[:, None], np.float32)


class TractRun:
    """One tract while it is tracked: where seeds go next, and what was found.

    Args:
        found: The tract.
        index: Its number among those that are tracked.
        lattice: Its grid.
        count: Streamlines asked for.
        seed: Of all random numbers.
    """

    def __init__(
        self, found: FoundTract, index: int, lattice: Lattice, count: int, seed: int
    ) -> None:
        self.found, self.index, self.count = found, index, count
        self.pool = POOL * count
        self.outcomes = np.zeros(OUTCOMES, np.int64)
        self._points: list[Floats] = [np.zeros((0, 3), np.float32)]
        self._lengths: list[Indices] = [np.zeros(0, np.int64)]
        self._cut: list[NDArray[np.bool_]] = [np.zeros(0, bool)]
        self._lattice = lattice
        self._mask = found.mask
        self._voxels = np.stack(np.unravel_index(self._mask, lattice.shape), 1)
        self._density = np.zeros(len(self._mask))
        # By name: seeds and random numbers are a tract's own, whatever else is tracked.
        self._key = [seed, 71, zlib.crc32(found.tract.name.encode())]

    @property
    def tried(self) -> int:
        """Seeds so far."""
        return int(self.outcomes.sum())

    @property
    def held(self) -> int:
        """Streamlines found so far."""
        return sum(len(n) for n in self._lengths)

    @property
    def missing(self) -> int:
        """Streamlines to be found yet; 0 where enough seeds were tried."""
        if not len(self._mask) or self.tried >= _TRIES * self.pool + 1000:
            return 0
        return max(0, self.pool - self.held)

    def seeds(self) -> NDArray[np.float64]:
        """Seeds (n, 3) of the next round, voxel coordinates, most where streamlines are still few."""
        rate = (self.held + 1) / (self.tried + 3)
        number = int(np.clip(self.missing / max(rate, 1 / 20), 20, most_seeds(self.pool)))
        rng = np.random.default_rng([*self._key, self.tried])
        chance = np.ones(len(self._mask))
        if self._density.any():
            chance = np.clip(1.5 - self._density / self._density.mean(), 0.02, 1.5)
        drawn = self._voxels[rng.choice(len(chance), size=number, p=chance / chance.sum())]
        return drawn + rng.uniform(-0.5, 0.5, drawn.shape)

    def numbers(self, count: int) -> NDArray[np.uint64]:
        """What the random numbers of the next `count` streamlines start from."""
        first = self.tried + (self._key[2] << 24)
        return starting_numbers(np.arange(first, first + count), seed=self._key[0])

    def accepted(self, outcomes: Indices) -> Indices:
        """Which of this round's streamlines are kept; all outcomes are counted."""
        self.outcomes += np.bincount(outcomes, minlength=OUTCOMES)
        good = outcomes == ACCEPTED
        if self.found.state == "cut":
            good |= outcomes == CUT
        return np.flatnonzero(good)[: self.pool - self.held]

    def take(self, points: Floats, lengths: Indices, cut: NDArray[np.bool_]) -> None:
        """Keep streamlines: points (P, 3) in world mm one after another, how many each has, which are cut."""
        self._points.append(points)
        self._lengths.append(lengths)
        self._cut.append(cut)
        flat, inside = flat_voxels(points, self._lattice.affine, self._lattice.shape)
        place = np.searchsorted(self._mask, flat[inside]).clip(0, max(len(self._mask) - 1, 0))
        own = self._mask[place] == flat[inside] if len(self._mask) else np.zeros(0, bool)
        self._density += np.bincount(place[own], minlength=len(self._density))

    def result(self) -> tuple[Tractogram, float]:
        """The streamlines that are kept, with `cut` (0 or 1) of each, and the share of the map they cover."""
        lengths = np.concatenate(self._lengths)
        made = Tractogram(
            np.concatenate(self._points), np.concatenate([[0], np.cumsum(lengths)]),
            self._lattice.affine, self._lattice.shape,
            {"cut": np.concatenate(self._cut).astype(np.float32)},
        )  # fmt: skip
        kept = evenly(made, self._mask, self.count)
        flat, inside = flat_voxels(
            made.subset(kept).points, self._lattice.affine, self._lattice.shape
        )
        covered = np.isin(self._mask, flat[inside]).mean() if len(self._mask) else 0.0
        return made.subset(kept), float(covered)


def evenly(lines: Tractogram, mask: Indices, count: int) -> Indices:
    """Which streamlines (count,) cover a map most evenly, ascending.

    One after another, the one that adds most: a voxel of the map counts 1 / (1 + n)² where n streamlines hold
    it, one outside counts against. What a streamline adds never grows, so that only those on top of the
    queue are looked at anew.

    Args:
        lines: More than are kept.
        mask: Flat voxels of the map.
        count: Streamlines to keep.
    """
    if len(lines) <= count:
        return np.arange(len(lines))
    size = int(np.prod(lines.grid))
    flat, inside = flat_voxels(lines.points, lines.affine, lines.grid)
    number = np.repeat(np.arange(len(lines)), np.diff(lines.offsets))
    visits = np.unique(number[inside] * size + flat[inside])
    own = np.split(visits % size, np.searchsorted(visits // size, np.arange(1, len(lines))))
    there = np.zeros(size, bool)
    there[mask] = True
    cost = [_OUTSIDE * float((~there[v]).sum()) for v in own]
    within = [v[there[v]] for v in own]
    share = np.ones(size)  # what a voxel still adds
    queue = [(cost[i] - len(v), i) for i, v in enumerate(within)]
    heapq.heapify(queue)
    held = np.zeros(size)
    kept: list[int] = []
    while len(kept) < count:
        _, best = queue[0]
        now = cost[best] - float(share[within[best]].sum())
        heapq.heapreplace(queue, (now, best))
        if queue[0][1] != best:
            continue
        heapq.heappop(queue)
        kept.append(best)
        held[within[best]] += 1
        share[within[best]] = 1 / (1 + held[within[best]]) ** 2
    return np.sort(np.array(kept))


def most_seeds(pool: int) -> int:
    """Most seeds of a tract in one round."""
    return int(_SEEDS * pool) + 20


def blocks(runs: Sequence[TractRun], seeds: int) -> Iterator[list[TractRun]]:
    """Tracts that run at once, about so many seeds together."""
    part: list[TractRun] = []
    size = 0
    for run in runs:
        part.append(run)
        size += most_seeds(run.pool)
        if size >= seeds:
            yield part
            part, size = [], 0
    if part:
        yield part
