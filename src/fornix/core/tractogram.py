"""Streamlines in world space, with the grid they were tracked on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError


@dataclass(frozen=True, eq=False)
class Tractogram:
    """Streamlines as one array of points and where each begins.

    points: (P, 3) float32, world (RAS+) mm.
    offsets: (S + 1,) int64; streamline i is points[offsets[i]:offsets[i + 1]].
    affine, grid: of the reference image.
    per_streamline: named values, one (S,) array each.
    """

    points: NDArray[np.float32]
    offsets: NDArray[np.int64]
    affine: NDArray[np.float64]
    grid: tuple[int, int, int]
    per_streamline: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float32).reshape(-1, 3)
        offsets = np.asarray(self.offsets, dtype=np.int64)
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(points):
            raise FornixError("streamline offsets must start at 0 and end at the number of points")
        if (np.diff(offsets) < 0).any():
            raise FornixError("streamline offsets must not decrease")
        if not np.isfinite(points).all():
            raise FornixError(
                f"{int((~np.isfinite(points)).any(axis=1).sum())} streamline points are not finite"
            )
        for name, values in self.per_streamline.items():
            if len(values) != len(offsets) - 1:
                raise FornixError(
                    f"{name} has {len(values)} values for {len(offsets) - 1} streamlines"
                )
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))

    @classmethod
    def from_list(
        cls, streamlines: list[NDArray], affine: ArrayLike, grid: tuple[int, int, int]
    ) -> Tractogram:
        """From a list of (n, 3) world-space arrays."""
        lengths = [len(s) for s in streamlines]
        points = np.concatenate([np.zeros((0, 3)), *streamlines]).astype(np.float32)
        return cls(points, np.concatenate([[0], np.cumsum(lengths)]), np.asarray(affine), grid)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        return self.points[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[i] for i in range(len(self)))

    def lengths(self) -> NDArray[np.float64]:
        """Length of each streamline in mm, (S,)."""
        steps = (
            np.linalg.norm(np.diff(self.points, axis=0), axis=1)
            if len(self.points)
            else np.zeros(0)
        )
        total = np.concatenate([[0.0], np.cumsum(steps, dtype=np.float64)])
        first, last = self.offsets[:-1], np.maximum(self.offsets[1:] - 1, self.offsets[:-1])
        return total[last] - total[first] if len(self) else np.zeros(0)

    def subset(self, index: ArrayLike) -> Tractogram:
        """Some of the streamlines, by indices or boolean mask."""
        chosen = np.arange(len(self))[np.asarray(index)]
        parts = [self[i] for i in chosen]
        made = Tractogram.from_list(parts, self.affine, self.grid)
        values = {name: np.asarray(v)[chosen] for name, v in self.per_streamline.items()}
        return Tractogram(made.points, made.offsets, self.affine, self.grid, values)

    def outside(self) -> NDArray[np.bool_]:
        """(S,) True where a streamline leaves the reference volume."""
        voxel = (np.c_[self.points, np.ones(len(self.points))] @ np.linalg.inv(self.affine).T)[
            :, :3
        ]
        beyond = ((voxel < -0.5) | (voxel > np.array(self.grid) - 0.5)).any(axis=1)
        return np.array([beyond[a:b].any() for a, b in zip(self.offsets[:-1], self.offsets[1:])])
