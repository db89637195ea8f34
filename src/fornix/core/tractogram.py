"""Streamlines in world space, with the grid they were tracked on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError


@dataclass(frozen=True, eq=False)
class Tractogram:
    """Streamlines as one array of points and where each begins.

    Attributes:
        points: (P, 3) float32, world (RAS+) mm.
        offsets: (S + 1,) int64; streamline i is points[offsets[i]:offsets[i + 1]].
        affine: Of the reference image.
        grid: See `affine`.
        per_streamline: Named values, one (S,) array each.
        groups: Named sets of streamlines, their indices ascending, as trx files hold them.
    """

    points: NDArray[np.float32]
    offsets: NDArray[np.int64]
    affine: NDArray[np.float64]
    grid: tuple[int, int, int]
    per_streamline: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    groups: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float32).reshape(-1, 3)
        offsets = np.asarray(self.offsets, dtype=np.int64)
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(points):
            raise FornixError("streamline offsets must start at 0 and end at the number of points")
        if (np.diff(offsets) < 0).any():
            raise FornixError("streamline offsets must not decrease")
        _check_finite(points, offsets)
        for name, values in self.per_streamline.items():
            if len(values) != len(offsets) - 1:
                raise FornixError(
                    f"{name} has {len(values)} values for {len(offsets) - 1} streamlines"
                )
        groups = {name: np.asarray(index, np.int64) for name, index in self.groups.items()}
        for name, index in groups.items():
            if len(index) and not 0 <= index.min() <= index.max() < len(offsets) - 1:
                raise FornixError(
                    f"group {name} names a streamline that is not there: there are {len(offsets) - 1}"
                )
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))

    @classmethod
    def from_list(
        cls, streamlines: list[NDArray[Any]], affine: ArrayLike, grid: tuple[int, int, int]
    ) -> Tractogram:
        """From a list of (n, 3) world-space arrays."""
        lengths = [len(s) for s in streamlines]
        points = np.concatenate([np.zeros((0, 3)), *streamlines]).astype(np.float32)
        return cls(points, np.concatenate([[0], np.cumsum(lengths)]), np.asarray(affine), grid)

    def __repr__(self) -> str:
        return f"Tractogram({len(self):,} streamlines, {len(self.points):,} points)"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        return self.points[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[i] for i in range(len(self)))

    def lengths(self) -> NDArray[np.float64]:
        """Length of each streamline in mm, (S,)."""
        out = np.zeros(len(self))
        for some, points, offsets in self.blocks():
            steps = np.linalg.norm(np.diff(points.astype(np.float64), axis=0), axis=1)
            total = np.concatenate([[0.0], np.cumsum(steps), [0.0]])
            first, last = offsets[:-1], np.maximum(offsets[1:] - 1, offsets[:-1])
            out[some] = np.where(last > first, total[last] - total[first], 0.0)
        return out

    def blocks(
        self, size: int = 100_000
    ) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.int64]]]:
        """Part after part: which streamlines, their points (in memory), offsets from 0."""
        for start in range(0, len(self), size):
            offsets = self.offsets[start : start + size + 1]
            points = np.array(self.points[offsets[0] : offsets[-1]])
            yield slice(start, start + len(offsets) - 1), points, offsets - offsets[0]

    def subset(self, index: ArrayLike) -> Tractogram:
        """Some of the streamlines, by indices or boolean mask, with their values and groups."""
        chosen = np.arange(len(self))[np.asarray(index)]
        sizes = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], sizes)
        values = {name: np.asarray(v)[chosen] for name, v in self.per_streamline.items()}
        groups = {name: np.flatnonzero(np.isin(chosen, v)) for name, v in self.groups.items()}
        return Tractogram(self.points[rows], offsets, self.affine, self.grid, values, groups)

    def outside(self) -> NDArray[np.bool_]:
        """(S,) True where a streamline leaves the reference volume."""
        inverse = np.linalg.inv(self.affine)
        out = np.zeros(len(self), bool)
        for some, points, offsets in self.blocks():
            voxel = points @ inverse[:3, :3].T + inverse[:3, 3]
            # Half a voxel around the middle of the outermost ones, and the rounding of float32.
            beyond = ((voxel < -0.5001) | (voxel > np.array(self.grid) - 0.4999)).any(axis=1)
            before = np.concatenate([[0], np.cumsum(beyond)])
            out[some] = before[offsets[1:]] > before[offsets[:-1]]
        return out


def _check_finite(points: NDArray[np.float32], offsets: NDArray[np.int64]) -> None:
    bad, first = 0, -1
    for start in range(0, len(points), 4_000_000):  # in blocks: the points may be on disk
        wrong = np.flatnonzero(~np.isfinite(points[start : start + 4_000_000]).all(axis=1))
        if len(wrong) and first < 0:
            first = int(np.searchsorted(offsets, start + wrong[0], side="right")) - 1
        bad += len(wrong)
    if bad:
        raise FornixError(
            f"{bad} streamline points are not finite, the first in streamline {first}; remove those "
            "streamlines"
        )
