"""What a policy learns from: what is seen on true streamlines and on its own, and what is right there.

True streamlines are followed with noise in place, path and heading, so that the policy meets the
mistakes it will make; then it tracks by itself, and is told at every place where the true streamlines
near it go (as in DAgger, Ross et al., AISTATS 2011) and whether the whole turned out true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fornix.tractography.learned._policy_kernels import BACK, LAST

Floats = NDArray[np.float32]
#: mm between the points of a course, and how far ahead the point lies that is steered for.
SPACING, AHEAD_MM = 1.0, 4.0
#: So far past the end of a fibre is learned from, mm.
_PAST_END = 4.0
#: Standard deviations: place across, its drift along the path (mm), heading (degrees, mostly and at worst).
_OFF, _DRIFT, _HEADING, _WILD = 0.6, 0.8, 6.0, 18.0
#: Share of states on true streamlines that lie near an end.
_NEAR_END = 0.25


@dataclass(frozen=True, eq=False)
class ReferenceStreamlines:
    """True streamlines of one head at equal distances SPACING, in mm along the voxel axes.

    points: (P, 3). first: (L + 1,) where each begins. bundle: (L,) its bundle's number.
    """

    points: Floats
    first: NDArray[np.int64]
    bundle: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class States:
    """Where the policy is asked, and what is right there.

    places (n, 3), frames (n, 3, 3), pasts (n, len(BACK), 3), lengths (n,): as `look` takes them.
    turn: (n, 3) the right direction in the frame. end, true: (n,) 0 or 1.
    known: (n, 3) which of turn, end and true are known, 0 or 1.
    """

    places: Floats
    frames: Floats
    pasts: Floats
    lengths: Floats
    turn: Floats
    end: Floats
    true: Floats
    known: Floats

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, eq=False)
class Tracked:
    """What propagate_seeds gives with steps of 1 mm: points (S, 2 capacity + 1, 3) with the seeds in the
    middle row, spans (S, 2), and whether each is true (S,).
    """

    points: Floats
    spans: NDArray[np.int64]
    true: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PolicyDataset:
    """seen: (n, FEATURES) float16; turn, end, true, known as in States."""

    seen: NDArray[np.float16]
    turn: Floats
    end: Floats
    true: Floats
    known: Floats

    def __len__(self) -> int:
        return len(self.turn)


def courses(
    bundles: Mapping[str, Sequence[NDArray]],
    affine: NDArray[np.float64],
    most: int,
    rng: np.random.Generator,
) -> ReferenceStreamlines:
    """At most so many streamlines of each bundle; bundles: world mm."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    inverse = np.linalg.inv(affine)
    parts, number = [], []
    for i, lines in enumerate(bundles.values()):
        for k in rng.permutation(len(lines))[:most]:
            line = (np.asarray(lines[k], np.float64) @ inverse[:3, :3].T + inverse[:3, 3]) * size
            along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
            if along[-1] < 12:
                continue
            at = np.arange(0, along[-1], SPACING)
            parts.append(np.stack([np.interp(at, along, line[:, d]) for d in range(3)], 1))
            number.append(i)
    sizes = [len(p) for p in parts]
    return ReferenceStreamlines(
        np.concatenate(parts).astype(np.float32),
        np.concatenate([[0], np.cumsum(sizes)]),
        np.array(number),
    )


def on_true(made: ReferenceStreamlines, count: int, rng: np.random.Generator) -> States:
    """States on and beside true streamlines, either way along them; bundles weigh alike."""
    sizes = np.diff(made.first)
    weight = 1 / np.sqrt(np.bincount(made.bundle))[made.bundle] * np.sqrt(sizes)
    line = rng.choice(len(sizes), count, p=weight / weight.sum())
    last = sizes[line] - 1.0
    at = rng.uniform(2, last)
    near = rng.random(count) < _NEAR_END
    at[near] = last[near] - rng.uniform(-_PAST_END, 6, int(near.sum()))
    # The path is seen from the fibre's other end on, or from a seed in it.
    begun = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0, np.minimum(at, last) - 1))
    way = np.where(rng.random(count) < 0.5, 1, -1)

    def point(arc: NDArray[np.float64]) -> NDArray[np.float64]:
        arc = np.clip(arc, 0, last)
        row = np.where(way > 0, arc, last - arc)
        low = np.minimum(row.astype(int), (last - 1).astype(int))
        here = made.first[line] + low
        part = (row - low)[:, None]
        return made.points[here] * (1 - part) + made.points[here + 1] * part

    tangent = _unit(point(at + 1) - point(np.minimum(at, last) - 2))
    beyond = np.maximum(at - last, 0)
    off = rng.normal(0, _OFF, (count, 3)) * rng.choice([0.3, 1, 2], (count, 1))
    drift = rng.normal(0, _DRIFT, (count, 3)) * rng.choice([0.3, 1], (count, 1))
    places = point(at) + beyond[:, None] * tangent + off
    pasts = []
    for back in BACK:
        arc = np.maximum(at - back, begun)
        gone = np.minimum((at - arc) / 20, 1)[:, None]
        pasts.append(point(arc) + off * (1 - gone) + drift * gone)
    wild = np.where(rng.random(count) < 0.15, _WILD, _HEADING)[:, None]
    heading = _unit(tangent + np.radians(wild) * rng.standard_normal((count, 3)))
    frames = frames_about(heading, rng)
    # Half of the way off is kept: a fibre beside the one that is followed is as good.
    wanted = _unit(point(at + AHEAD_MM) - point(at) - 0.5 * off + 1e-3 * tangent)
    end = last - at < LAST
    turn = np.einsum("nkd,nd->nk", frames, wanted)
    known = np.stack([(last - at > 2.5), np.ones(count), np.zeros(count)], 1)
    return _states(
        places, frames, np.stack(pasts, 1), at - begun, turn, end, np.zeros(count), known
    )


def on_own(
    tracked: Tracked,
    inside: NDArray[np.bool_],
    size: NDArray[np.float64],
    guide: Expert,
    each: int,
    rng: np.random.Generator,
) -> States:
    """States on streamlines that the policy tracked itself, `each` of every one.

    inside: (X, Y, Z, bundles) where a bundle may run. size: of the voxels, mm.
    """
    points, spans, true = tracked.points, tracked.spans, tracked.true
    middle = points.shape[1] // 2
    grid = np.array(inside.shape[:3])
    at, place, begun, alive = [], [], [], []
    for s in range(len(points)):
        low, high = spans[s]
        if high - low < 6:
            continue
        voxel = np.clip(np.rint(points[s, low:high] / size), 0, grid - 1).astype(int)
        of = inside[voxel[:, 0], voxel[:, 1], voxel[:, 2]]
        forth = np.logical_and.accumulate(of[middle - low :], 0)
        back = np.logical_and.accumulate(of[: middle - low + 1][::-1], 0) & forth[-1]
        for row in rng.integers(low, high - 1, each):
            row += row >= middle  # not the seed itself: there is no path yet
            at.append(s)
            place.append(row)
            begun.append(middle if row > middle else high - 1)
            alive.append(forth[row - middle] if row > middle else back[middle - row])
    line, row, start = np.array(at), np.array(place), np.array(begun)
    way = np.where(row > start, 1, -1)
    run = (row - start) * way
    places = points[line, row]
    heading = _unit(places - points[line, row - way])
    pasts = [points[line, row - way * np.minimum(run, int(b))] for b in BACK]
    frames = frames_about(heading, rng)
    wanted, going, ends = guide.ask(places, heading, np.array(alive))
    turn = np.einsum("nkd,nd->nk", frames, wanted)
    known = np.stack([going, going | ends, np.ones(len(line))], 1)
    return _states(places, frames, np.stack(pasts, 1), run, turn, ends, true[line], known)


class Expert:
    """Where the true streamlines go from a place that a tracker has come to."""

    def __init__(self, made: ReferenceStreamlines, every: int = 3) -> None:
        self._courses = made
        rows = np.arange(0, len(made.points), every)
        line = np.searchsorted(made.first, rows, side="right") - 1
        self._rows, self._line = rows, line
        self._tree = cKDTree(made.points[rows])

    def ask(
        self, places: Floats, heading: Floats, alive: NDArray[np.bool_], neighbours: int = 24
    ) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
        """Direction (n, 3), whether it is known, and whether the fibre ends here.

        alive: (n, bundles) the bundles that the path so far has not left. Of their streamlines within
        4 mm and 45 degrees the one that runs most alike and nearest is followed.
        """
        made = self._courses
        distance, near = self._tree.query(places, k=neighbours, distance_upper_bound=4.0)
        missing = near == len(self._rows)
        near = np.where(missing, 0, near)
        rows, line = self._rows[near], self._line[near]
        low, high = made.first[line], made.first[line + 1] - 1
        tangent = made.points[np.minimum(rows + 1, high)] - made.points[np.maximum(rows - 1, low)]
        tangent = _unit(tangent)
        cosine = np.einsum("nkd,nd->nk", tangent, heading)
        way = np.where(cosine >= 0, 1, -1)
        fits = ~missing & np.take_along_axis(alive, made.bundle[line], 1) & (np.abs(cosine) > 0.7)
        cost = distance / 4 + 2 * (1 - np.abs(cosine)) + np.where(fits, 0, 1e3)
        best = cost.argmin(1)
        pick = (np.arange(len(places)), best)
        row, left = rows[pick], np.where(way > 0, high - rows, rows - low)[pick]
        ahead = np.clip(row + way[pick] * int(AHEAD_MM / SPACING), low[pick], high[pick])
        to = made.points[ahead] - 0.5 * (made.points[row] + places)
        fine = fits[pick]
        return (
            _unit(to).astype(np.float32),
            fine & (left >= 3),
            fine & (left * SPACING <= LAST),
        )


def frames_about(heading: NDArray, rng: np.random.Generator) -> NDArray:
    """(n, 3, 3) frames whose first axis is the heading (n, 3), turned at random about it."""
    other = rng.standard_normal(heading.shape)
    second = _unit(other - (other * heading).sum(1, keepdims=True) * heading)
    return np.stack([heading, second, np.cross(heading, second)], 1)


def concatenated(parts: Sequence[PolicyDataset]) -> PolicyDataset:
    """All lessons one after another."""
    fields = PolicyDataset.__dataclass_fields__
    return PolicyDataset(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))


def _states(*values: NDArray) -> States:
    return States(*(np.ascontiguousarray(v, dtype=np.float32) for v in values))


def _unit(vectors: NDArray) -> NDArray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9))
