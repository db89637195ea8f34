"""A diffusion scan: the volumes, their gradients and where they are in the world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients, voxel_rotation
from fornix.core.methods import Deferred

if TYPE_CHECKING:
    from fornix.core.series import Series

#: Bytes of a part of a scan that is worked on at once.
_SLAB = 1 << 26

#: Compiled, so imported when it is first needed: importing a scan's class is to be quick.
mean_of = Deferred("fornix.core._blocks:mean_of")


@dataclass(frozen=True, eq=False)
class DWI:
    """A diffusion scan in whatever orientation it was stored. Immutable; methods return new scans.

    Attributes:
        data: (X, Y, Z, N) float32, an array, or a `Series` where it is large and stays on disk. What is
            read of it with `signals`, `gather`, `slabs` and `volume` is read block by block.
        gradients: N b-values and world directions.
        affine: (4, 4) voxel to world (RAS+, mm).
        mask: (X, Y, Z) bool, the brain, or None where it was not looked for yet.
        sigma: Noise standard deviation of the underlying complex channels, one number or a map (X, Y,
            Z), in units of the data; None where it was not estimated yet.
        stem: The file name without `_dwi` and extension; output names are built on it.
        meta: The JSON sidecar.
        notes: What was changed or looked wrong on the way in.
    """

    data: NDArray[np.float32] | Series
    gradients: Gradients
    affine: NDArray[np.float64]
    mask: NDArray[np.bool_] | None = None
    sigma: float | NDArray[np.float32] | None = None
    stem: str = "sub-unnamed"
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.data.ndim != 4:
            raise FornixError(
                f"a diffusion scan has 4 dimensions (x, y, z, volume), this one has {self.data.ndim}"
            )
        if self.data.shape[3] != len(self.gradients):
            raise FornixError(
                f"{self.data.shape[3]} volumes but {len(self.gradients)} b-values; "
                "the image and its gradient table do not belong together"
            )
        if 0 in self.data.shape:
            raise FornixError(f"the image is empty: its shape is {self.data.shape}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4):
            raise FornixError(f"the affine must be 4x4, got {affine.shape}")
        voxel_rotation(affine)
        object.__setattr__(self, "affine", affine)
        if self.data.dtype != np.float32:
            object.__setattr__(self, "data", np.asarray(self.data, dtype=np.float32))
        if self.mask is not None:
            object.__setattr__(self, "mask", check_mask(self.mask, self.grid))
        if isinstance(self.sigma, np.ndarray) and self.sigma.shape != self.grid:
            raise FornixError(f"the noise map has shape {self.sigma.shape}, the scan {self.grid}")

    @property
    def grid(self) -> tuple[int, int, int]:
        """(X, Y, Z)."""
        x, y, z = self.data.shape[:3]
        return x, y, z

    @property
    def voxel_size(self) -> NDArray[np.float64]:
        """Edge lengths in mm, (3,)."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def __repr__(self) -> str:
        size, voxel = " x ".join(map(str, self.grid)), " x ".join(f"{v:g}" for v in self.voxel_size)
        mask = "no mask" if self.mask is None else f"{int(self.mask.sum()):,} voxels in the mask"
        return f"DWI({size} voxels of {voxel} mm, {self.gradients}, {mask})"

    def brain(self) -> NDArray[np.bool_]:
        """The mask, or every voxel where there is none."""
        return np.ones(self.grid, dtype=bool) if self.mask is None else self.mask

    def signals(self) -> NDArray[np.float32]:
        """The signals of the voxels in the mask, (voxels, N)."""
        if self.mask is None:
            return np.ascontiguousarray(np.asarray(self.data).reshape(-1, len(self.gradients)))
        return np.asarray(self.data[self.mask])

    def slabs(
        self, volumes: NDArray[np.int64] | None = None, most: int = _SLAB
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """All voxels, part after part: which planes x, and their signals (x, Y, Z, volumes) in memory.

        Args:
            volumes: Which, all if absent.
            most: Bytes of a part, roughly.
        """
        x, *rest = self.data.shape
        size = max(1, most // (4 * int(np.prod(rest))))
        for first in range(0, x, size):
            here = slice(first, min(first + size, x))
            if isinstance(self.data, np.ndarray):
                yield here, self.data[here] if volumes is None else self.data[here][..., volumes]
            else:
                yield here, self.data.planes(here.start, here.stop, volumes)

    def inside(
        self,
        mask: NDArray[np.bool_],
        volumes: NDArray[np.int64] | None = None,
        most: int = _SLAB,
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The voxels of a mask, part after part: flat indices (n,), and their signals (n, volumes).

        Args:
            mask: Which voxels, (X, Y, Z).
            volumes: Which volumes, all if absent.
            most: Bytes of a part, roughly.
        """
        voxels = np.flatnonzero(mask)
        size = max(1, most // (4 * self.data.shape[3]))
        for start in range(0, len(voxels), size):
            part = voxels[start : start + size]
            if isinstance(self.data, np.ndarray):
                signals = self.data[np.unravel_index(part, self.grid)]
                yield part, signals if volumes is None else signals[:, volumes]
            else:
                yield part, self.data.gather(part, volumes)

    def volume(self, volume: int) -> NDArray[np.float32]:
        """One volume, (X, Y, Z)."""
        return np.asarray(self.data[..., volume])

    def unmask(self, values: ArrayLike, fill: float = 0.0) -> NDArray[np.float32]:
        """Put values (voxels, …) of the masked voxels back on the grid: (X, Y, Z, …) float32."""
        values = np.asarray(values, dtype=np.float32)
        if self.mask is None:
            return values.reshape(*self.grid, *values.shape[1:])
        out = np.zeros((*self.grid, *values.shape[1:]), dtype=np.float32)
        if fill:
            out[:] = fill
        out[self.mask] = values
        return out

    def mean_b0(self) -> NDArray[np.float32]:
        """The mean of the b0 volumes, (X, Y, Z); the mean of the lowest shell without any b0."""
        index = np.flatnonzero(self.gradients.b0_mask)
        if not len(index):
            index = np.array(self.gradients.shells[0].volumes)
        return self.mean_of(index)

    def mean_dwi(self) -> NDArray[np.float32]:
        """The mean of the diffusion-weighted volumes, (X, Y, Z); zeros where there are none."""
        index = np.flatnonzero(~self.gradients.b0_mask)
        if not len(index):
            return np.zeros(self.grid, dtype=np.float32)
        return self.mean_of(index)

    def mean_of(
        self, volumes: ArrayLike, mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """The mean of some volumes, (X, Y, Z); 0 outside the mask, where one is given."""
        index = np.asarray(volumes, dtype=np.int64)
        out = np.zeros(self.grid, dtype=np.float32)
        if isinstance(self.data, np.ndarray) and mask is None:
            for here, signals in self.slabs():
                rows = np.ascontiguousarray(signals).reshape(-1, signals.shape[3])
                mean_of(rows, index, out[here].reshape(-1))
            return out
        flat, every = out.reshape(-1), np.arange(len(index))
        mask = np.ones(self.grid, dtype=bool) if mask is None else mask
        for voxels, signals in self.inside(mask, index):
            means = np.empty(len(voxels), dtype=np.float32)
            mean_of(np.ascontiguousarray(signals), every, means)
            flat[voxels] = means
        return out

    def subset(self, volumes: ArrayLike) -> DWI:
        """The scan with some of its volumes (indices or a boolean mask), in the order given."""
        index = np.asarray(volumes)
        if isinstance(self.data, np.ndarray):
            data: NDArray[np.float32] | Series = self.data[..., index]
        else:
            data = self.data.subset(index)
        return replace(self, data=data, gradients=self.gradients.subset(index))

    def with_(self, **changes: Any) -> DWI:
        """A copy with some fields replaced, validated again."""
        return replace(self, **changes)


def check_mask(mask: ArrayLike, grid: tuple[int, ...]) -> NDArray[np.bool_]:
    """The mask as bool on this grid; an error where the shape differs or nothing is inside."""
    found = np.asarray(mask)
    if found.ndim == len(grid) + 1 and found.shape[-1] == 1:
        found = found[..., 0]
    if found.shape != tuple(grid):
        raise FornixError(
            f"the mask is on another grid: {found.shape} against the scan's {tuple(grid)}; "
            "resample it to the scan first"
        )
    found = np.nan_to_num(found) > 0.5 if found.dtype != bool else found
    if not found.any():
        raise FornixError("the mask is empty: no voxel is inside")
    return found
