"""What a fit of many voxels returns, and checks that all fits share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError

if TYPE_CHECKING:
    from fornix.core.series import Series

#: Called with (voxels done, voxels in all).
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Fit:
    """Estimates of a list of voxels.

    Attributes:
        columns: Name of each parameter and the columns of `values` it fills.
        values: (voxels, K) float32; diffusivities in µm²/ms; zeros where nothing could be fitted.
        std: Standard deviations, the same shape, or None where not asked for.
        flags: (voxels,) uint8, bits of `fornix.models.flags`; 0 is a good voxel.
    """

    columns: dict[str, slice]
    values: NDArray[np.float32]
    std: NDArray[np.float32] | None
    flags: NDArray[np.uint8]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """(voxels,) or (voxels, C) values of one parameter."""
        return _take(self.values, self.columns[name])

    def std_of(self, name: str) -> NDArray[np.float32]:
        """Standard deviations of one parameter, shaped as its values."""
        if self.std is None:
            raise FornixError(f"the standard deviation of {name} was not asked for in this fit")
        return _take(self.std, self.columns[name])


def _take(array: NDArray[np.float32], columns: slice) -> NDArray[np.float32]:
    part = array[:, columns]
    return part[:, 0] if part.shape[1] == 1 else part


def checked_signals(signals: ArrayLike, volumes: int) -> NDArray[np.float32]:
    """(voxels, volumes) contiguous float32, or an error."""
    found = np.ascontiguousarray(signals, dtype=np.float32)
    if found.ndim != 2 or found.shape[1] != volumes:
        raise FornixError(
            f"signals must have shape (voxels, {volumes}) for {volumes} b-values, got {found.shape}"
        )
    return found


def checked_sigma(sigma: ArrayLike | None, voxels: int) -> NDArray[np.float64]:
    """(voxels,) noise standard deviation, NaN where it is unknown (None, or not positive)."""
    if sigma is None:
        return np.full(voxels, np.nan)
    found = np.array(np.broadcast_to(np.asarray(sigma, dtype=np.float64), (voxels,)))
    found[~(np.isfinite(found) & (found > 0))] = np.nan
    return found


def gather(
    data: NDArray[np.float32] | Series, rows: NDArray[np.int64], voxels: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(voxels, volumes) of a block, read along the order in which the scan is stored."""
    if not isinstance(data, np.ndarray):
        return data.gather(voxels, rows)
    if data.flags.f_contiguous and not data.flags.c_contiguous:  # volume by volume, as in NIfTI
        by_volume = data.T.reshape(data.shape[3], -1)
        place = np.ravel_multi_index(
            np.unravel_index(voxels, data.shape[:3]), data.shape[:3], order="F"
        )
        out = np.empty((len(rows), len(voxels)), dtype=np.float32)
        for k, row in enumerate(rows):
            out[k] = by_volume[row][place]
        return np.ascontiguousarray(out.T)
    if data.flags.c_contiguous:
        by_voxel = data.reshape(-1, data.shape[3])
        first, last = int(voxels[0]), int(voxels[-1])
        whole = last - first + 1 == len(voxels)  # a slice needs no copy
        part = by_voxel[first : last + 1] if whole else by_voxel[voxels]
    else:
        part = data[np.unravel_index(voxels, data.shape[:3])]
    return np.ascontiguousarray(part if len(rows) == data.shape[3] else part[:, rows])
