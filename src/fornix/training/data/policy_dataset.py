"""What a policy learns from: observations on true streamlines and on its own, and what is right there.

True streamlines are followed with noise in place, path and heading, so that the policy meets the
mistakes it will make; then it tracks by itself, and an expert answers at every place where the true
streamlines near it go (as in DAgger, Ross et al., AISTATS 2011) and whether the whole turned out true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fornix.tractography.learned._policy_kernels import BACK, END_MM

Floats = NDArray[np.float32]
#: mm between the points of a reference streamline, and how far ahead the point lies that is steered for.
SPACING, AHEAD_MM = 1.0, 4.0
#: So far past the end of a fibre is learned from, mm.
_PAST_END = 4.0
#: Standard deviations: place across, its drift along the path (mm), heading (degrees, mostly and at
#: worst).
_OFFSET_MM, _DRIFT_MM, _HEADING, _HEADING_WORST = 0.6, 0.8, 6.0, 18.0
#: Share of states on true streamlines that lie near an end.
_NEAR_END = 0.25


@dataclass(frozen=True, eq=False)
class ReferenceStreamlines:
    """True streamlines of one subject at equal distances SPACING.

    Attributes:
        points: (P, 3) mm along the voxel axes.
        first: (L + 1,) the row where each begins.
        bundle: (L,) number of its bundle.
    """

    points: Floats
    first: NDArray[np.int64]
    bundle: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class States:
    """Where the policy decides, and what is right there.

    Attributes:
        places: (n, 3) mm along the voxel axes.
        frames: (n, 3, 3) heading and two normals, as `observe_states` takes them.
        paths: (n, len(BACK), 3) points of the path behind.
        lengths: (n,) of the path so far, mm.
        turn: (n, 3) the right direction in the frame.
        end: (n,) 0 or 1, whether the fibre ends here.
        true: (n,) 0 or 1, whether the whole streamline is true.
        known: (n, 3) which of turn, end and true are known, 0 or 1.
    """

    places: Floats
    frames: Floats
    paths: Floats
    lengths: Floats
    turn: Floats
    end: Floats
    true: Floats
    known: Floats

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, eq=False)
class TrackedStreamlines:
    """What `propagate_seeds` gives with steps of 1 mm, and what is true of it.

    Attributes:
        points: (S, 2 max_steps + 1, 3) mm along the voxel axes, the seeds in the middle row.
        spans: (S, 2) the rows in use.
        true: (S,) whether each is valid.
    """

    points: Floats
    spans: NDArray[np.int64]
    true: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PolicyDataset:
    """Observations and what is right.

    Attributes:
        features: (n, FEATURES) float16.
        turn: (n, 3) as in States, like the others.
        end: (n,).
        true: (n,).
        known: (n, 3).
    """

    features: NDArray[np.float16]
    turn: Floats
    end: Floats
    true: Floats
    known: Floats

    def __len__(self) -> int:
        return len(self.turn)


def reference_streamlines(
    bundles: Mapping[str, Sequence[NDArray]],
    affine: NDArray[np.float64],
    *,
    max_count: int,
    rng: np.random.Generator,
) -> ReferenceStreamlines:
    """Streamlines of bundles at equal distances; those shorter than 12 mm are left out.

    Args:
        bundles: Name -> streamlines (n, 3), world mm.
        affine: (4, 4) of the grid on which the policy learns.
        max_count: At most so many of each bundle.
        rng: Draws them.
    """
    size = np.linalg.norm(affine[:3, :3], axis=0)
    inverse = np.linalg.inv(affine)
    parts, number = [], []
    for i, lines in enumerate(bundles.values()):
        for k in rng.permutation(len(lines))[:max_count]:
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


def reference_states(
    reference: ReferenceStreamlines, count: int, *, rng: np.random.Generator
) -> States:
    """States on and beside true streamlines, either way along them; bundles count alike.

    Args:
        reference: The true streamlines.
        count: States.
        rng: Draws them.
    """
    sizes = np.diff(reference.first)
    weight = 1 / np.sqrt(np.bincount(reference.bundle))[reference.bundle] * np.sqrt(sizes)
    line = rng.choice(len(sizes), count, p=weight / weight.sum())
    last = sizes[line] - 1.0
    at = rng.uniform(2, last)
    near = rng.random(count) < _NEAR_END
    at[near] = last[near] - rng.uniform(-_PAST_END, 6, int(near.sum()))
    # The path starts at the fibre's other end, or at a seed in it.
    begin = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0, np.minimum(at, last) - 1))
    way = np.where(rng.random(count) < 0.5, 1, -1)

    def point(arc: NDArray[np.float64]) -> NDArray[np.float64]:
        arc = np.clip(arc, 0, last)
        row = np.where(way > 0, arc, last - arc)
        low = np.minimum(row.astype(int), (last - 1).astype(int))
        here = reference.first[line] + low
        part = (row - low)[:, None]
        return reference.points[here] * (1 - part) + reference.points[here + 1] * part

    tangent = _unit(point(at + 1) - point(np.minimum(at, last) - 2))
    beyond = np.maximum(at - last, 0)
    offset = rng.normal(0, _OFFSET_MM, (count, 3)) * rng.choice([0.3, 1, 2], (count, 1))
    drift = rng.normal(0, _DRIFT_MM, (count, 3)) * rng.choice([0.3, 1], (count, 1))
    places = point(at) + beyond[:, None] * tangent + offset
    paths = []
    for back in BACK:
        arc = np.maximum(at - back, begin)
        part = np.minimum((at - arc) / 20, 1)[:, None]
        paths.append(point(arc) + offset * (1 - part) + drift * part)
    degrees = np.where(rng.random(count) < 0.15, _HEADING_WORST, _HEADING)[:, None]
    heading = _unit(tangent + np.radians(degrees) * rng.standard_normal((count, 3)))
    frames = frames_about(heading, rng=rng)
    # Half of the offset is kept: a fibre beside the one that is followed is as good.
    wanted = _unit(point(at + AHEAD_MM) - point(at) - 0.5 * offset + 1e-3 * tangent)
    end = last - at < END_MM
    turn = np.einsum("nkd,nd->nk", frames, wanted)
    known = np.stack([(last - at > 2.5), np.ones(count), np.zeros(count)], 1)
    return _states(
        places, frames, np.stack(paths, 1), at - begin, turn, end, np.zeros(count), known
    )


def policy_states(
    tracked: TrackedStreamlines,
    margins: NDArray[np.bool_],
    voxel_size: NDArray[np.float64],
    expert: Expert,
    *,
    each: int,
    rng: np.random.Generator,
) -> States:
    """States on streamlines that the policy tracked itself.

    Args:
        tracked: The streamlines.
        margins: (X, Y, Z, bundles) where a bundle may run.
        voxel_size: (3,) mm.
        expert: Says what is right.
        each: States on each streamline.
        rng: Draws them.
    """
    points, spans, true = tracked.points, tracked.spans, tracked.true
    middle = points.shape[1] // 2
    grid = np.array(margins.shape[:3])
    at, place, begin, alive = [], [], [], []
    for s in range(len(points)):
        low, high = spans[s]
        if high - low < 6:
            continue
        voxel = np.clip(np.rint(points[s, low:high] / voxel_size), 0, grid - 1).astype(int)
        inside = margins[voxel[:, 0], voxel[:, 1], voxel[:, 2]]
        forth = np.logical_and.accumulate(inside[middle - low :], 0)
        back = np.logical_and.accumulate(inside[: middle - low + 1][::-1], 0) & forth[-1]
        for row in rng.integers(low, high - 1, each):
            row += row >= middle  # not the seed itself: there is no path yet
            at.append(s)
            place.append(row)
            begin.append(middle if row > middle else high - 1)
            alive.append(forth[row - middle] if row > middle else back[middle - row])
    line, row, start = np.array(at), np.array(place), np.array(begin)
    way = np.where(row > start, 1, -1)
    run = (row - start) * way
    places = points[line, row]
    heading = _unit(places - points[line, row - way])
    paths = [points[line, row - way * np.minimum(run, int(b))] for b in BACK]
    frames = frames_about(heading, rng=rng)
    wanted, going, ends = expert.answer(places, heading, np.array(alive))
    turn = np.einsum("nkd,nd->nk", frames, wanted)
    known = np.stack([going, going | ends, np.ones(len(line))], 1)
    return _states(places, frames, np.stack(paths, 1), run, turn, ends, true[line], known)


class Expert:
    """Says where the true streamlines go from a place that a tracker has come to.

    Args:
        reference: The true streamlines.
        every: Every so many of their points are looked among.
    """

    def __init__(self, reference: ReferenceStreamlines, *, every: int = 3) -> None:
        self._reference = reference
        rows = np.arange(0, len(reference.points), every)
        line = np.searchsorted(reference.first, rows, side="right") - 1
        self._rows, self._line = rows, line
        self._tree = cKDTree(reference.points[rows])

    def answer(
        self, places: Floats, heading: Floats, alive: NDArray[np.bool_], *, neighbours: int = 24
    ) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
        """Where to go from places.

        Of the streamlines within 4 mm and 45 degrees of bundles that the path has not left, the one
        that runs most alike and nearest is followed.

        Args:
            places: (n, 3) mm along the voxel axes.
            heading: (n, 3) unit vectors.
            alive: (n, bundles) the bundles that the path so far has not left.
            neighbours: Points that are looked at.

        Returns:
            Direction (n, 3), whether it is known (n,), and whether the fibre ends here (n,).
        """
        points, first = self._reference.points, self._reference.first
        distance, near = self._tree.query(places, k=neighbours, distance_upper_bound=4.0)
        missing = near == len(self._rows)
        near = np.where(missing, 0, near)
        rows, line = self._rows[near], self._line[near]
        low, high = first[line], first[line + 1] - 1
        tangent = _unit(points[np.minimum(rows + 1, high)] - points[np.maximum(rows - 1, low)])
        cosine = np.einsum("nkd,nd->nk", tangent, heading)
        way = np.where(cosine >= 0, 1, -1)
        bundle = self._reference.bundle[line]
        fits = ~missing & np.take_along_axis(alive, bundle, 1) & (np.abs(cosine) > 0.7)
        cost = distance / 4 + 2 * (1 - np.abs(cosine)) + np.where(fits, 0, 1e3)
        best = (np.arange(len(places)), cost.argmin(1))
        row, left = rows[best], np.where(way > 0, high - rows, rows - low)[best]
        ahead = np.clip(row + way[best] * int(AHEAD_MM / SPACING), low[best], high[best])
        wanted = points[ahead] - 0.5 * (points[row] + places)
        return (
            _unit(wanted).astype(np.float32),
            fits[best] & (left >= 3),
            fits[best] & (left * SPACING <= END_MM),
        )


def frames_about(heading: NDArray, *, rng: np.random.Generator) -> NDArray:
    """(n, 3, 3) frames whose first axis is the heading (n, 3), turned at random about it."""
    other = rng.standard_normal(heading.shape)
    second = _unit(other - (other * heading).sum(1, keepdims=True) * heading)
    return np.stack([heading, second, np.cross(heading, second)], 1)


def concatenated(parts: Sequence[PolicyDataset]) -> PolicyDataset:
    """All of them, one after another."""
    fields = PolicyDataset.__dataclass_fields__
    return PolicyDataset(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))


def _states(*values: NDArray) -> States:
    return States(*(np.ascontiguousarray(v, dtype=np.float32) for v in values))


def _unit(vectors: NDArray) -> NDArray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9))
