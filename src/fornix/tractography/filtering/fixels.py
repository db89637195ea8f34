"""Fixels: the lobes of the fibre orientation distribution, with how much fibre each holds.

A fixel is one fibre population of one voxel (Raffelt et al., NeuroImage 2017). Its density is the
integral of the FOD over the directions nearer to its peak than to another (Smith et al., NeuroImage
2013), times the voxel's volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import blocks
from fornix.core.errors import FornixError
from fornix.core.gradients import voxel_rotation
from fornix.models.peaks import measure_peaks
from fornix.numerics import harmonics
from fornix.numerics.directions import fibonacci
from fornix.tractography.filtering._kernels import FixelArrays

#: Directions over which a lobe is integrated, peaks per voxel, and their least size.
_AXES, _PEAKS = 300, 4
#: Least peak, as a share of the voxel's largest and of the FOD's typical largest amplitude.
_RELATIVE, _ABSOLUTE = 0.1, 0.08


@dataclass(frozen=True, eq=False)
class Fixels:
    """Fibre populations of the voxels of one grid.

    Attributes:
        first: (voxels + 1,) fixels of the voxel with flat index v are first[v] to first[v + 1].
        axes: (F, 3) unit vectors, world.
        density: (F,) mm³ of fibre, where the FOD has unit integral for a voxel full of fibre.
        amplitude: (F,) of the peak.
        typical: A typical largest amplitude.
        affine: (4, 4) of the FOD.
        grid: (X, Y, Z) of the FOD.
    """

    first: NDArray[np.int64]
    axes: NDArray[np.float64]
    density: NDArray[np.float64]
    amplitude: NDArray[np.float32]
    typical: float
    affine: NDArray[np.float64]
    grid: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.axes)

    def arrays(self, *, angle: float) -> FixelArrays:
        """As the compiled kernels take them; angle: largest one to a streamline's piece, degrees."""
        return FixelArrays(
            self.first,
            self.axes,
            np.asarray(self.grid),
            voxel_rotation(self.affine),
            np.linalg.norm(self.affine[:3, :3], axis=0),
            float(np.cos(np.radians(angle))),
        )

    @property
    def voxel(self) -> NDArray[np.int64]:
        """(F,) flat index of each fixel's voxel."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))


def find_fixels(
    fod: NDArray[np.float32], affine: NDArray[np.float64], mask: NDArray[np.bool_]
) -> Fixels:
    """The fixels of an FOD image.

    Args:
        fod: (X, Y, Z, coefficients), world axes.
        affine: (4, 4) voxel to world (RAS+, mm).
        mask: (X, Y, Z) where fibres may be.

    Raises:
        FornixError: No lobe stands out.
    """
    inside = mask & np.isfinite(fod).all(-1) & (fod[..., 0] > 0)
    coefficients = np.ascontiguousarray(fod[inside], dtype=np.float32)
    lmax = harmonics.lmax_of(fod.shape[3])
    if not len(coefficients):
        raise FornixError("the FOD is empty inside the mask: there is nothing to compare with")
    peaks = measure_peaks(coefficients, _PEAKS, relative=_RELATIVE)
    typical = float(np.percentile(peaks.amplitude[:, 0], 75))
    kept = peaks.amplitude > _ABSOLUTE * typical
    if not kept.any():
        raise FornixError("the FOD has no lobe inside the mask: there is nothing to compare with")
    axes = fibonacci(_AXES)
    basis = harmonics.evaluate(lmax, axes).astype(np.float32)
    density = np.zeros(kept.shape, np.float64)
    for part in blocks(len(coefficients), 4096):
        amplitudes = np.clip(coefficients[part] @ basis.T, 0, None)
        near = np.abs(np.einsum("vpd,nd->vpn", peaks.directions[part], axes.astype(np.float32)))
        near[~kept[part]] = -1
        nearest = near.argmax(1)
        for p in range(_PEAKS):
            density[part, p] = np.where(nearest == p, amplitudes, 0).sum(1)
    volume = abs(float(np.linalg.det(affine[:3, :3])))
    counts = np.zeros(inside.size, np.int64)
    counts[inside.ravel()] = kept.sum(1)
    x, y, z = fod.shape[:3]
    return Fixels(
        np.concatenate([[0], np.cumsum(counts)]),
        peaks.directions[kept].astype(np.float64),
        # The amplitudes' mean over the sphere times 4 pi is the integral.
        density[kept] * 4 * np.pi / _AXES * volume,
        peaks.amplitude[kept],
        typical,
        np.asarray(affine, dtype=np.float64),
        (x, y, z),
    )
