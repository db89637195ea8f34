"""A volume read where the places of the head at rest were measured in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.preprocess.geometry._sampling import value_and_slope
from fornix.preprocess.geometry.transform import Geometry


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
