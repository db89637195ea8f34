"""The FOD and the tissue as the compiled tracker reads them: amplitudes on fixed axes, voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from fornix.core import harmonics
from fornix.core.directions import fibonacci
from fornix.core.gradients import voxel_rotation
from fornix.tracking.tissue import Tissue

Floats = NDArray[np.float32]
AXES = 400
_TABLE = 128


@dataclass(frozen=True, eq=False)
class Field:
    """What streamlines run through.

    lookup: (X, Y, Z) the row of each voxel that may hold fibres, else -1. amplitudes: (rows, AXES) of the
    FOD. basis: (AXES, coefficients) harmonics on the axes, turned into the axes of the voxels.
    fractions: (X, Y, Z, 3) white, grey, fluid. size: (3,) of a voxel, mm.
    """

    lookup: NDArray[np.int32]
    amplitudes: Floats
    basis: Floats
    fractions: Floats
    size: NDArray[np.float64]

    @classmethod
    def of(cls, fod: Floats, affine: NDArray[np.float64], tissue: Tissue) -> Field:
        """fod: (X, Y, Z, coefficients), world axes, where there is white matter or a neighbour of it."""
        # Tracking runs in voxel axes scaled to mm; the axes are turned there, the amplitudes are not.
        turned = fibonacci(AXES) @ voxel_rotation(affine).T
        basis = harmonics.evaluate(harmonics.lmax_of(fod.shape[3]), turned).astype(np.float32)
        usable = binary_dilation(tissue.white > 0.1) & np.isfinite(fod).all(-1) & (fod[..., 0] > 0)
        lookup = np.full(fod.shape[:3], -1, dtype=np.int32)
        lookup[usable] = np.arange(int(usable.sum()))
        amplitudes = fod[usable] @ basis.T
        np.clip(amplitudes, 0, None, out=amplitudes)
        return cls(
            lookup,
            amplitudes,
            basis,
            np.stack([tissue.white, tissue.grey, tissue.fluid], -1).astype(np.float32),
            np.linalg.norm(affine[:3, :3], axis=0),
        )

    @cached_property
    def typical(self) -> float:
        """The FOD's typical largest amplitude."""
        return float(np.percentile(self.amplitudes.max(1), 75))


@lru_cache(maxsize=4)
def cones(angle: float) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Axes on the half sphere, and for each the axes within the cone and the grid's own spacing."""
    axes = fibonacci(AXES)
    margin = np.degrees(np.sqrt(2 * np.pi / AXES)) / 2
    near = np.abs(axes @ axes.T) >= np.cos(np.radians(min(angle + margin, 90.0)))
    width = int(near.sum(1).max())
    made = np.full((AXES, width), -1, dtype=np.int32)
    for i, row in enumerate(near):
        index = np.flatnonzero(row)
        made[i, : len(index)] = index
    return axes, made


@lru_cache(maxsize=1)
def nearest_axis() -> NDArray[np.int32]:
    """(side, side) the axis nearest to each cell of the octahedron's upper half (see axis_of)."""
    u, v = np.meshgrid(*[(np.arange(_TABLE) + 0.5) / _TABLE] * 2, indexing="ij")
    x, y = u + v - 1, u - v
    point = np.stack([x, y, np.maximum(1 - np.abs(x) - np.abs(y), 0)], -1)
    point /= np.linalg.norm(point, axis=-1, keepdims=True)
    return np.abs(point @ fibonacci(AXES).T).argmax(-1).astype(np.int32)
