"""Warps as files that other tools read: ITK displacement fields (ANTs, nitransforms), MRtrix3 warps.

An ITK field lies on the grid of the image that comes out; each voxel holds where to read in the image
that goes in, as a displacement in mm, axes left and posterior (LPS), in a NIfTI of five dimensions. An
MRtrix3 warp holds the place itself, scanner mm (RAS), in four.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.io import write_sidecar
from fornix.io.files import atomic
from fornix.io.nifti import write_image
from fornix.register.grids import Lattice
from fornix.register.warp import DisplacementMap, PointMap, Warp

_LPS = np.array([-1.0, -1.0, 1.0])
#: NIfTI's code for vectors, by which ITK knows displacement fields.
_VECTOR = 1007


def save_warp(
    warp: Warp, folder: Path, stem: str, names: tuple[str, str], about: dict[str, object]
) -> list[Path]:
    """Both ways as ITK displacement fields, and as MRtrix3 warps.

    Args:
        warp: From `register`.
        folder: Where to.
        stem: What the files' names begin with.
        names: Of the moving and of the fixed head, for example `("dwi", "mni")`.
        about: More of what the sidecars say.

    Returns:
        `STEM_from-A_to-B_mode-image_xfm.nii.gz` brings images of A onto B's grid; also B to A, and the
        same with `desc-mrtrix`.
    """
    one, two = names
    written = []
    for source, onto, lattice, point_map in (
        (one, two, warp.fixed, warp.to_moving),
        (two, one, warp.moving, warp.to_fixed),
    ):
        points = lattice.points()
        there = point_map(points)
        path = folder / warp_name(stem, source, onto)
        _write_itk(path, (there - points).numpy(), lattice)
        text = f"brings images of {source} onto the grid of {onto}"
        write_sidecar(
            path, {"Description": f"ITK displacement field, {text}", "Units": "mm", **about}
        )
        mrtrix = folder / warp_name(stem, source, onto, "mrtrix")
        write_image(mrtrix, there.numpy(), lattice.affine)
        write_sidecar(mrtrix, {"Description": f"MRtrix3 warp, {text}", "Units": "mm", **about})
        written += [path, mrtrix]
    return written


@dataclass(frozen=True, eq=False)
class FileWarp:
    """A registration read from its two files; see `HeadMap`."""

    forward: PointMap
    backward: PointMap

    def to_moving(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 3) of the fixed head in the moving one."""
        return self.forward(points)

    def to_fixed(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 3) of the moving head in the fixed one."""
        return self.backward(points)


def load_warp(folder: Path, stem: str, names: tuple[str, str]) -> FileWarp:
    """Both ways of a registration that `save_warp` wrote.

    Raises:
        FornixError: A file is missing or is no warp.
    """
    one, two = names
    forward, _ = load_point_map(folder / warp_name(stem, one, two))
    backward, _ = load_point_map(folder / warp_name(stem, two, one))
    return FileWarp(forward, backward)


def warp_name(stem: str, source: str, onto: str, desc: str = "") -> str:
    """Name of the file that brings images of one head onto another's grid."""
    return f"{stem}_from-{source}_to-{onto}_mode-image{f'_desc-{desc}' if desc else ''}_xfm.nii.gz"


def _write_itk(path: Path, displacement: NDArray[np.float32], lattice: Lattice) -> None:
    data = (displacement * _LPS).astype(np.float32)[:, :, :, None, :]
    image = nib.Nifti1Image(data, lattice.affine)
    image.header.set_intent(_VECTOR)
    image.header.set_xyzt_units("mm")
    with atomic(path) as temporary:
        nib.save(image, temporary)


def load_point_map(path: str | Path) -> tuple[PointMap, Lattice]:
    """A map of points from an ITK displacement field or an MRtrix3 warp, and the grid it lies on.

    Raises:
        FornixError: The file is no such field.
    """
    try:
        image = nib.load(path)
        data = np.asarray(image.dataobj, np.float32)
    except (OSError, ValueError, ImageFileError) as error:
        raise FornixError(f"{path} cannot be read as a warp: {error}") from None
    lattice = Lattice(np.asarray(image.affine, np.float64), data.shape[:3])
    if data.ndim == 5 and data.shape[3:] == (1, 3):
        displacement = data[:, :, :, 0, :] * _LPS.astype(np.float32)
    elif data.ndim == 4 and data.shape[3] == 3:
        displacement = data - lattice.points().numpy()
    else:
        raise FornixError(
            f"{path} has shape {data.shape}; a warp is an ITK displacement field (X, Y, Z, 1, 3) or an "
            "MRtrix3 warp (X, Y, Z, 3), as fornix register writes them"
        )
    stack = torch.from_numpy(np.ascontiguousarray(np.moveaxis(displacement, -1, 0)))
    return DisplacementMap(torch.nan_to_num(stack), lattice), lattice
