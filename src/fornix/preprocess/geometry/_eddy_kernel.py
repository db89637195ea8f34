"""Places of the head at rest in the scanner, and what the eddy field does to them, in one pass."""

from __future__ import annotations

import numpy as np

from fornix.numerics.algebra import compiled


@compiled
def move_and_shift(
    places: np.ndarray,
    matrix: np.ndarray,
    to_unit: np.ndarray,
    eddy: np.ndarray,
    axis: int,
    moved: np.ndarray,
    shift: np.ndarray,
    slope: np.ndarray,
) -> None:
    """Fill where places lie, by how much their signal is displaced, and the displacement's slope.

    Args:
        places: (n, 3) voxels of the head at rest.
        matrix: (3, 4) to voxels of the scanner.
        to_unit: (3, 4) from those to the polynomials' coordinates.
        eddy: (10,) coefficients of `transform.EDDY_TERMS`, in voxels along `axis`.
        axis: Phase-encoded voxel axis.
        moved: (n, 3), filled.
        shift: (n,), filled.
        slope: (n,) of the shift along the axis of the scanner, filled.
    """
    for m in range(len(places)):
        for a in range(3):
            moved[m, a] = (
                matrix[a, 0] * places[m, 0]
                + matrix[a, 1] * places[m, 1]
                + matrix[a, 2] * places[m, 2]
                + matrix[a, 3]
            )
        i, j, k = moved[m, 0], moved[m, 1], moved[m, 2]
        x = to_unit[0, 0] * i + to_unit[0, 1] * j + to_unit[0, 2] * k + to_unit[0, 3]
        y = to_unit[1, 0] * i + to_unit[1, 1] * j + to_unit[1, 2] * k + to_unit[1, 3]
        z = to_unit[2, 0] * i + to_unit[2, 1] * j + to_unit[2, 2] * k + to_unit[2, 3]
        shift[m] = (
            eddy[0]
            + eddy[1] * x
            + eddy[2] * y
            + eddy[3] * z
            + eddy[4] * x * x
            + eddy[5] * y * y
            + eddy[6] * z * z
            + eddy[7] * x * y
            + eddy[8] * x * z
            + eddy[9] * y * z
        )
        slope[m] = (
            to_unit[0, axis] * (eddy[1] + 2 * eddy[4] * x + eddy[7] * y + eddy[8] * z)
            + to_unit[1, axis] * (eddy[2] + 2 * eddy[5] * y + eddy[7] * x + eddy[9] * z)
            + to_unit[2, axis] * (eddy[3] + 2 * eddy[6] * z + eddy[8] * x + eddy[9] * y)
        )
