"""Signals of chosen voxels, read as they are asked for, so that no copy of a scan is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI


class Signals:
    """What looks like an array (n, N) of the signals of n voxels, and is read row by row.

    Args:
        voxels: (n,) flat indices of the grid, ascending.
        volumes: Which of them, all where left out.
    """

    def __init__(
        self, dwi: DWI, voxels: NDArray[np.int64], volumes: NDArray[np.int64] | None = None
    ) -> None:
        self._data = dwi.data
        self._voxels, self._volumes = voxels, volumes
        self.shape = (len(voxels), dwi.data.shape[3] if volumes is None else len(volumes))

    def __len__(self) -> int:
        return len(self._voxels)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """Signals (k, N) of a slice of the rows, of an index or of a boolean mask; ascending is quick."""
        voxels = self._voxels[rows]
        if not isinstance(self._data, np.ndarray):
            found = self._data.gather(voxels, self._volumes)
        else:
            found = self._data[np.unravel_index(voxels, self._data.shape[:3])]
            found = found if self._volumes is None else found[:, self._volumes]
        # Sums over volumes are rounded by the order in memory: it is one, wherever the scan lies.
        return np.ascontiguousarray(found) if self._volumes is None else np.asfortranarray(found)

    def of(self, rows: Any) -> Signals:
        """Some of the voxels."""
        made = object.__new__(Signals)
        made.__dict__.update(self.__dict__)
        made._voxels = self._voxels[rows]
        made.shape = (len(made._voxels), self.shape[1])
        return made
