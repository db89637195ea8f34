"""A volume read where the places of the head at rest were measured in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.core.series import Series
from fornix.preprocess.geometry._sampling import value_and_slope
from fornix.preprocess.geometry.transform import Geometry


class SplinesOnDisk:
    """Splines of volumes in a scratch file, each read when it is asked for.

    Args:
        shape: (X, Y, Z, N).
    """

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self._series = Series(shape)

    def __len__(self) -> int:
        return self._series.shape[3]

    def __getitem__(self, volume: int) -> NDArray[np.float32]:
        return self._series.volume(volume)

    def put(self, volume: int, values: NDArray[np.float32]) -> None:
        """Keep a volume's spline (X, Y, Z)."""
        self._series.put_volume(volume, values)


#: Splines of N volumes, by number.
Splines = list[NDArray[np.float32]] | SplinesOnDisk


@dataclass(frozen=True, eq=False)
class Samples:
    """One volume at n places of the head at rest.

    Attributes:
        signal: (n,) with the factor of the distortion; nan outside of the volume.
        slope: (n, 3) of the signal along the scanner's voxel axes.
        moved: (n, 3) voxels where the places lie in the scanner.
    """

    signal: NDArray[np.float32]
    slope: NDArray[np.float32]
    moved: NDArray[np.float32]


def samples(
    volume: NDArray[np.float32], geometry: Geometry, number: int, places: NDArray[np.float32]
) -> Samples:
    """A volume's spline read at places (n, 3) of the head at rest, in voxels."""
    moved, shift, factor = geometry.measured(number, places)
    if not geometry.distorts(number):
        found = value_and_slope(volume, moved)
    else:
        assert geometry.encoding is not None
        at = moved.copy()
        at[:, geometry.encoding.axis] += shift
        found = value_and_slope(volume, at) * factor[:, None]
    return Samples(found[:, 0], found[:, 1:], moved)
