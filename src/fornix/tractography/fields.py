"""The FOD and the tissue as the compiled tracker reads them: amplitudes on fixed axes, voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from fornix.core.errors import FornixError
from fornix.core.gradients import voxel_rotation
from fornix.numerics import harmonics
from fornix.numerics.directions import fibonacci
from fornix.tractography._kernel_arguments import FieldArrays
from fornix.tractography.tissue_fractions import TissueFractions

Floats = NDArray[np.float32]
#: Axes of the half sphere on which the FOD is read.
AXES = 400
#: Cells along one side of the table of nearest axes.
_TABLE = 128


@dataclass(frozen=True, eq=False)
class Field:
    """What streamlines run through.

    Attributes:
        lookup: (X, Y, Z) the row of each voxel that may hold fibres, else -1.
        amplitudes: (rows, AXES) of the FOD.
        basis: (AXES, coefficients) harmonics on the axes, rotated into the axes of the voxels.
        tissue: (X, Y, Z, 3) fractions of white matter, grey matter and fluid (wm, gm, csf).
        voxel_size: (3,) mm.
    """

    lookup: NDArray[np.int32]
    amplitudes: Floats
    basis: Floats
    tissue: Floats
    voxel_size: NDArray[np.float64]

    @classmethod
    def of(cls, fod: Floats, affine: NDArray[np.float64], tissue: TissueFractions) -> Field:
        """The field of an FOD image, where there is white matter or a neighbour of it.

        Args:
            fod: (X, Y, Z, coefficients), world axes.
            affine: (4, 4) voxel to world (RAS+, mm).
            tissue: On the same grid.
        """
        # Tracking runs in voxel axes scaled to mm; the axes are turned there, the amplitudes are not.
        turned = fibonacci(AXES) @ voxel_rotation(affine).T
        basis = harmonics.evaluate(harmonics.lmax_of(fod.shape[3]), turned).astype(np.float32)
        usable = binary_dilation(tissue.wm > 0.1) & np.isfinite(fod.sum(-1)) & (fod[..., 0] > 0)
        lookup = np.full(fod.shape[:3], -1, dtype=np.int32)
        lookup[usable] = np.arange(int(usable.sum()))
        amplitudes = fod[usable] @ basis.T
        np.clip(amplitudes, 0, None, out=amplitudes)
        return cls(
            lookup,
            amplitudes,
            basis,
            np.stack([tissue.wm, tissue.gm, tissue.csf], -1).astype(np.float32),
            np.linalg.norm(affine[:3, :3], axis=0),
        )

    @cached_property
    def typical(self) -> float:
        """The FOD's typical largest amplitude."""
        return float(np.percentile(self.amplitudes.max(1), 75))

    def amplitude_std(self, fod_std: Floats) -> Floats:
        """Standard deviation of the amplitudes (rows, AXES), from that of the coefficients.

        Args:
            fod_std: (X, Y, Z, coefficients); coefficients are taken to be independent.

        Raises:
            FornixError: It is not on the FOD's grid or of another order.
        """
        shape = (*self.lookup.shape, self.basis.shape[1])
        if fod_std.shape != shape:
            raise FornixError(f"the FOD's deviation has shape {fod_std.shape}, the FOD {shape}")
        variance = np.nan_to_num(fod_std[self.lookup >= 0]) ** 2 @ (self.basis**2).T
        return np.sqrt(variance).astype(np.float32)

    def arrays(self, *, angle: float, std: Floats | None = None) -> FieldArrays:
        """As the compiled kernels take it.

        Args:
            angle: Largest turn per step, degrees.
            std: (rows, AXES) standard deviation of the amplitudes where it is sampled.
        """
        axes, cones = axis_cones(round(float(angle), 3))
        return FieldArrays(
            lookup=self.lookup,
            amplitudes=self.amplitudes,
            std=np.zeros((0, 0), np.float32) if std is None else std,
            # The sum of squares over all harmonics is the same on every axis (addition theorem).
            noise_basis=self.basis / np.sqrt(self.basis.shape[1] / (4 * np.pi)),
            axes=axes,
            cones=cones,
            nearest=nearest_axis(),
            tissue=self.tissue,
            voxel_size=self.voxel_size,
        )


@lru_cache(maxsize=4)
def axis_cones(angle: float) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Axes of the half sphere, and for each the axes within a cone.

    Args:
        angle: Of the cone about its axis, degrees; half the axes' own spacing is added.

    Returns:
        (AXES, 3) unit vectors, and (AXES, width) indices of axes, filled up with -1.
    """
    axes = fibonacci(AXES)
    margin = np.degrees(np.sqrt(2 * np.pi / AXES)) / 2
    near = np.abs(axes @ axes.T) >= np.cos(np.radians(min(angle + margin, 90.0)))
    cones = np.full((AXES, int(near.sum(1).max())), -1, dtype=np.int32)
    for i, row in enumerate(near):
        index = np.flatnonzero(row)
        cones[i, : len(index)] = index
    return axes, cones


@lru_cache(maxsize=1)
def nearest_axis() -> NDArray[np.int32]:
    """(side, side) the axis nearest to each cell of the octahedron's upper half.

    `_transport.nearest_axis_of` reads it.
    """
    u, v = np.meshgrid(*[(np.arange(_TABLE) + 0.5) / _TABLE] * 2, indexing="ij")
    x, y = u + v - 1, u - v
    point = np.stack([x, y, np.maximum(1 - np.abs(x) - np.abs(y), 0)], -1)
    point /= np.linalg.norm(point, axis=-1, keepdims=True)
    return np.abs(point @ fibonacci(AXES).T).argmax(-1).astype(np.int32)
