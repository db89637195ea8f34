"""Which tract each streamline of a tractogram belongs to, whoever tracked it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.grid import flat_voxels
from fornix.core.tractogram import Tractogram
from fornix.tracts.segment import FoundTract, TractMaps

Array = NDArray[np.float32]

#: Points at which each streamline is looked at, ends included.
_POINTS = 20
#: Score from which a streamline belongs to a tract.
THRESHOLD = 0.4
#: Share of points in the brain under which a tractogram is of another head.
_INSIDE = 0.7
#: Probability of its ends from which a streamline ends where its tract does.
_ENDED = 0.5
#: Weights of a tract's size (small ones are what they are for) and of the ends, among tracts.
_SIZE, _ENDS = 0.5, 0.5


@dataclass(frozen=True, eq=False)
class Labels:
    """Tracts of streamlines.

    Attributes:
        names: Tracts by number.
        tract: (S,) number of the best tract, -1 where none fits.
        score: (S,) of the best tract, 0 to 1: how far the streamline stays inside, runs along and ends right.
    """

    names: tuple[str, ...]
    tract: NDArray[np.int32]
    score: Array

    def of(self, name: str) -> NDArray[np.int64]:
        """Numbers of a tract's streamlines."""
        return np.flatnonzero(self.tract == self.names.index(name))


def label_streamlines(
    tractogram: Tractogram, tracts: TractMaps, *, threshold: float = THRESHOLD
) -> Labels:
    """Give every streamline the tract that it stays in, runs along and ends with.

    Tracts share voxels: among those that hold a streamline the densest wins, the mean logarithm of its
    probability over its volume, with that of its ends. It is then accepted by its score: the mean of
    probability times the agreement of direction, less where its ends lie outside of the tract's.

    Args:
        tractogram: World mm, of the same head.
        tracts: From `segment_tracts`; `CC` is left out, as its parts are there.
        threshold: Score from which a streamline belongs to a tract.

    Raises:
        FornixError: There is no streamline, or most of them lie outside of the head.
    """
    if not len(tractogram):
        raise FornixError("the tractogram holds no streamlines")
    points, tangents = resampled(tractogram, _POINTS)
    lattice = tracts.lattice
    voxel, inside = flat_voxels(points.reshape(-1, 3), lattice.affine, lattice.shape)
    voxel = np.where(inside, voxel, -1).reshape(points.shape[:2])
    names = tuple(
        n
        for n, f in tracts.found.items()
        if f.state != "absent" and not (n == "CC" and len(tracts.found) > 1)
    )
    _check(voxel, tracts)
    count = len(tractogram)
    best, density = np.full(count, -1, np.int32), np.full(count, -np.inf, np.float32)
    score = np.zeros(count, np.float32)
    place = np.full(
        int(np.prod(lattice.shape)) + 1, -1, np.int32
    )  # the last is for points off the grid
    for i, name in enumerate(names):
        own, dense = _score(tracts.found[name], voxel, tangents, place)
        better = dense > density
        best[better], density[better], score[better] = i, dense[better], own[better]
    return Labels(names, np.where(score >= threshold, best, -1).astype(np.int32), score)


def with_labels(tractogram: Tractogram, labels: Labels) -> Tractogram:
    """The tractogram with `tract` and `tract_score` of each streamline."""
    values = {"tract": labels.tract.astype(np.float32), "tract_score": labels.score}
    return replace(tractogram, per_streamline={**tractogram.per_streamline, **values})


def _score(
    found: FoundTract, voxel: NDArray[np.int64], tangents: Array, place: NDArray[np.int32]
) -> tuple[Array, Array]:
    """(S,) score and (S,) density of every streamline for one tract.

    `place` is scratch, -1 everywhere, and given back as it was.
    """
    tract = found.tract
    place[tract.voxels] = np.arange(len(tract.voxels))
    at = place[voxel]
    place[tract.voxels] = -1
    there = at >= 0
    some = there.mean(1) > 0.3
    score, density = np.zeros(len(voxel), np.float32), np.full(len(voxel), -np.inf, np.float32)
    if not some.any():
        return score, density
    at, there = np.where(there[some], at[some], 0), there[some]
    agreement = np.abs((tangents[some] * tract.direction[at]).sum(-1))
    # Within 30 degrees of the tract's mean direction a fan's fibres run along it.
    agreement = np.clip(agreement / 0.87, 0, 1)
    p = np.where(there, found.probability[at], 0)
    ends = np.where(there[..., None], tract.ends[at], 0)
    first, last = ends[:, :2].max(1), ends[:, -2:].max(1)
    ended = np.sqrt(np.maximum(first[:, 0] * last[:, 1], first[:, 1] * last[:, 0]))
    score[some] = (p * agreement).mean(1) * np.minimum(1, ended / _ENDED) ** 2
    inside = np.log(np.maximum(p * np.maximum(agreement, 0.1), 0.01)).mean(1)
    size = np.log(max(float(found.probability.sum()), 1.0))
    density[some] = inside - _SIZE * size + _ENDS * np.log(ended + 0.03)
    return score, density


def _check(voxel: NDArray[np.int64], tracts: TractMaps) -> None:
    """An error where the tractogram lies elsewhere than the tracts."""
    anywhere = np.zeros(int(np.prod(tracts.lattice.shape)) + 1, bool)
    for found in tracts.found.values():
        anywhere[found.tract.voxels] = True
    share = float(anywhere[voxel].mean())
    if share < _INSIDE:
        raise FornixError(
            f"only {100 * share:.0f}% of the streamlines' points lie where this head has tracts: the "
            "tractogram is of another head, another space or another axis order (fornix warp brings it over)"
        )


def resampled(tractogram: Tractogram, count: int) -> tuple[Array, Array]:
    """Points (S, count, 3) at equal distances along each streamline, and unit tangents there.

    Streamlines of one point stay there.
    """
    points = tractogram.points.astype(np.float64)
    begins, ends = tractogram.offsets[:-1], tractogram.offsets[1:]
    if (ends == begins).any():
        raise FornixError("the tractogram holds streamlines without points; leave them out")
    steps = np.zeros(len(points))
    steps[1:] = np.linalg.norm(np.diff(points, axis=0), axis=1)
    steps[begins] = 0
    way = np.cumsum(steps)
    start, length = way[begins], way[ends - 1] - way[begins]
    wanted = start[:, None] + length[:, None] * np.linspace(0, 1, count)
    # The way stands still from one streamline's end to the next one's beginning: index by streamline there.
    index = np.searchsorted(way, wanted, side="right") - 1
    index = np.clip(index, begins[:, None], np.maximum(ends - 2, begins)[:, None])
    after = np.minimum(index + 1, (ends - 1)[:, None])
    gap = way[after] - way[index]
    share = np.clip((wanted - way[index]) / np.where(gap > 0, gap, 1), 0, 1)
    made = points[index] + share[..., None] * (points[after] - points[index])
    tangents = np.gradient(made, axis=1)
    tangents /= np.maximum(np.linalg.norm(tangents, axis=-1, keepdims=True), 1e-9)
    return made.astype(np.float32), tangents.astype(np.float32)
