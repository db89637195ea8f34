"""A diffusion scan: the volumes, their gradients and where they are in the world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients, voxel_rotation


@dataclass(frozen=True, eq=False)
class DWI:
    """A diffusion scan in whatever orientation it was stored. Immutable; methods return new scans.

    data: (X, Y, Z, N) float32, an array or a memory map.
    gradients: N b-values and world directions.
    affine: (4, 4) voxel to world (RAS+, mm).
    mask: (X, Y, Z) bool, the brain, or None where it was not looked for yet.
    sigma: noise standard deviation of the underlying complex channels, one number or a map
        (X, Y, Z), in units of the data; None where it was not estimated yet.
    stem: the file name without `_dwi` and extension; output names are built on it.
    meta: the JSON sidecar.
    notes: what was changed or looked wrong on the way in.
    """

    data: NDArray[np.float32]
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
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def brain(self) -> NDArray[np.bool_]:
        """The mask, or every voxel where there is none."""
        return np.ones(self.grid, dtype=bool) if self.mask is None else self.mask

    def signals(self) -> NDArray[np.float32]:
        """The signals of the voxels in the mask, (voxels, N)."""
        if self.mask is None:
            return np.ascontiguousarray(self.data.reshape(-1, len(self.gradients)))
        return np.asarray(self.data[self.mask])

    def unmask(self, values: ArrayLike, fill: float = 0.0) -> NDArray[np.float32]:
        """Put values (voxels, …) of the masked voxels back on the grid: (X, Y, Z, …) float32."""
        values = np.asarray(values, dtype=np.float32)
        if self.mask is None:
            return values.reshape(*self.grid, *values.shape[1:])
        out = np.full((*self.grid, *values.shape[1:]), fill, dtype=np.float32)
        out[self.mask] = values
        return out

    def mean_b0(self) -> NDArray[np.float32]:
        """The mean of the b0 volumes, (X, Y, Z); the mean of the lowest shell without any b0."""
        index = np.flatnonzero(self.gradients.b0_mask)
        if not len(index):
            index = np.array(self.gradients.shells[0].volumes)
        return np.asarray(self.data[..., index].mean(axis=3))

    def mean_dwi(self) -> NDArray[np.float32]:
        """The mean of the diffusion-weighted volumes, (X, Y, Z); zeros where there are none."""
        index = np.flatnonzero(~self.gradients.b0_mask)
        if not len(index):
            return np.zeros(self.grid, dtype=np.float32)
        return np.asarray(self.data[..., index].mean(axis=3))

    def subset(self, volumes: ArrayLike) -> DWI:
        """The scan with some of its volumes (indices or a boolean mask), in the order given."""
        index = np.asarray(volumes)
        return replace(self, data=self.data[..., index], gradients=self.gradients.subset(index))

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
