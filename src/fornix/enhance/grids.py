"""The grid of smaller voxels, and what a measured voxel sees of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.physics.point_spread import SAME, Grid, centres
from fornix.preprocess.acquisition import Acquisition

#: Largest factor along an axis, and the least along at least one.
MOST, LEAST = 3.0, 1.25


def fine_grid(dwi: DWI, voxel_size: ArrayLike) -> Grid:
    """The grid of smaller voxels over the scan's field of view.

    Raises:
        FornixError: The size is no size, larger than the measured one, or beyond what is served.
    """
    size = np.asarray(voxel_size, dtype=np.float64).reshape(-1)
    if size.size not in (1, 3) or not np.isfinite(size).all() or (size <= 0).any():
        raise FornixError("the voxel size is one number of mm above 0, or three")
    size = np.broadcast_to(size, 3)
    factor = dwi.voxel_size / size
    measured = " x ".join(f"{v:.3g}" for v in dwi.voxel_size)
    if (factor < 1 - SAME).any():
        raise FornixError(
            f"voxels of {_listed(size)} mm are larger than the measured {measured} mm along an axis; "
            "enhancement makes smaller ones: give a size up to the measured one along each axis"
        )
    if factor.max() > MOST * (1 + SAME):
        least = _listed(np.ceil(100 * dwi.voxel_size / MOST) / 100)
        raise FornixError(
            f"voxels of {_listed(size)} mm are less than a third of the measured {measured} mm: "
            f"give {least} mm or more"
        )
    if factor.max() < LEAST * (1 - SAME):
        raise FornixError(
            f"voxels of {_listed(size)} mm are nearly those measured, {measured} mm: give a size smaller "
            f"by {LEAST:g} or more along an axis"
        )
    near = np.abs(factor - 1) < SAME
    return Grid(dwi.grid, dwi.affine).finer(np.where(near, dwi.voxel_size, size))


def profiles_of(dwi: DWI) -> tuple[tuple[str, str, str], tuple[float, float, float]]:
    """Profile and partial Fourier of each voxel axis, from the sidecar; slices along k if nothing is said."""
    known = Acquisition.of(dwi)
    kinds, shares = ["sinc"] * 3, [1.0] * 3
    kinds[known.slice_axis] = "slice"
    if known.encoding is not None and known.partial_fourier < 1:
        shares[known.encoding.axis] = known.partial_fourier
    return (kinds[0], kinds[1], kinds[2]), (shares[0], shares[1], shares[2])


def fine_mask(mask: NDArray[np.bool_], coarse: Grid, fine: Grid) -> NDArray[np.bool_]:
    """The mask in smaller voxels: where linear interpolation gives a half or more."""
    step = fine.voxel_size / coarse.voxel_size
    at = [centres(n, m, s)[0] for n, m, s in zip(coarse.shape, fine.shape, step)]
    found = ndimage.affine_transform(
        mask.astype(np.float32), step, at, output_shape=fine.shape, order=1, mode="nearest"
    )
    return np.asarray(found >= 0.5)


def _listed(size: NDArray[np.float64]) -> str:
    values = [f"{v:.4g}" for v in size]
    return values[0] if len(set(values)) == 1 else " x ".join(values)
