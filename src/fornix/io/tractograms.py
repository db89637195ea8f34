"""Tractograms in and out: trx, tck and trk, always in world (RAS+) mm inside."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.streamlines.trk import get_affine_trackvis_to_rasmm, header_2_dtype
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.io.files import atomic, input_file
from fornix.io.nifti import open_image
from fornix.io.trx import PARTIAL, read_trx, write_trx

EXTENSIONS = (".trx", ".tck", ".trk")


def save_tractogram(tractogram: Tractogram, path: str | Path) -> Path:
    """Write a tractogram in the format its extension names, atomically.

    trx keeps the grid and the values per streamline, trk the grid and the values, tck only points.
    """
    path = Path(path)
    check_extension(path)
    with atomic(path) as temporary:
        if path.suffix == ".trx":
            write_trx(tractogram, temporary)
        else:
            _write_nibabel(tractogram, temporary)
    return path


def load_tractogram(
    path: str | Path, reference: str | Path | None = None, *, mapped: bool = False
) -> Tractogram:
    """Read a tractogram. A tck file carries no grid: give a reference image for it.

    Args:
        path: Of the file.
        reference: Image on the grid of the tractogram; for tck files, and trk files of old writers whose
            header does not say where they lie.
        mapped: Leave the points of a trx file on disk (read-only), for more streamlines than fit in
            memory. A folder NAME.trx.partial, left by a tracker that was stopped, is read as well.

    Raises:
        FornixError: For an unknown extension, a corrupt file, points that are not finite, or a
            reference grid that does not match the file's.
    """
    path = _checked(path)
    image = None if reference is None else open_image(reference, "reference image")[0]
    try:
        if _is_trx(path):
            made = read_trx(path, mapped)
        elif path.suffix == ".tck" and image is None:
            raise FornixError(
                f"{path.name} carries no grid; give the reference image with --reference"
            )
        else:
            made = _read_nibabel(path, image)
    except FornixError as error:
        raise error if str(path.name) in str(error) else FornixError(f"{path}: {error}") from None
    except Exception as error:  # readers of binary formats fail in many ways on a broken file
        raise FornixError(f"{path} is not a readable tractogram: {error}") from error
    if image is not None and not same_grid(made, image.affine, image.shape[:3]):
        raise FornixError(
            f"{path} was made on another grid {made.grid} than the reference {image.shape[:3]}, or "
            "placed elsewhere; give the image it was tracked on"
        )
    return made


def read_streamlines(
    path: str | Path, reference: str | Path | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points (P, 3) in world mm and offsets (S + 1,) of any tractogram, whatever its grid.

    reference: image that was tracked on, for trk files that do not say where they lie.

    Raises:
        FornixError: For an unknown extension, a corrupt file or points that are not finite.
    """
    path = _checked(path)
    if path.suffix == ".tck":
        grid = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4))
        try:
            made = _read_nibabel(path, grid)
        except FornixError as error:
            raise FornixError(f"{path}: {error}") from None
        except Exception as error:
            raise FornixError(f"{path} is not a readable tractogram: {error}") from error
    else:
        made = load_tractogram(path, reference if needs_reference(path) else None)
    return made.points, made.offsets


def needs_reference(path: str | Path) -> bool:
    """Whether a tractogram file does not say where it lies: tck, and trk of old writers."""
    path = Path(path)
    return path.suffix == ".tck" or (
        path.suffix == ".trk" and path.is_file() and not _says_where(path)
    )


def same_grid(made: Tractogram, affine: ArrayLike, shape: tuple[int, ...]) -> bool:
    """Whether a tractogram was made on this grid."""
    return tuple(shape) == made.grid and np.allclose(affine, made.affine, atol=1e-3)


def check_extension(path: str | Path) -> Path:
    """The path, checked to name a format that can be written."""
    path = Path(path)
    if path.suffix not in EXTENSIONS:
        raise FornixError(f"{path.name}: a tractogram is one of {', '.join(EXTENSIONS)}")
    return path


def _is_trx(path: Path) -> bool:
    return path.suffix == ".trx" or path.name.endswith(".trx" + PARTIAL)


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir() and _is_trx(path) and (path / "header.json").exists():
        return path
    return check_extension(input_file(path, "tractogram"))


def _write_nibabel(tractogram: Tractogram, path: Path) -> None:
    streamlines = nib.streamlines.ArraySequence()
    streamlines._data = tractogram.points
    streamlines._offsets = tractogram.offsets[:-1]
    streamlines._lengths = np.diff(tractogram.offsets)
    per_streamline = {}
    if path.suffix == ".trk":
        per_streamline = {
            name[:18]: np.asarray(v, np.float32).reshape(-1, 1)
            for name, v in tractogram.per_streamline.items()
        }
    made = nib.streamlines.Tractogram(
        streamlines, data_per_streamline=per_streamline, affine_to_rasmm=np.eye(4)
    )
    header = None
    if path.suffix == ".trk":
        header = nib.streamlines.TrkFile.create_empty_header()
        header["voxel_to_rasmm"] = tractogram.affine.astype(np.float32)
        header["dimensions"] = tractogram.grid
        header["voxel_sizes"] = np.linalg.norm(tractogram.affine[:3, :3], axis=0)
        header["voxel_order"] = "".join(nib.aff2axcodes(tractogram.affine))
    nib.streamlines.save(made, str(path), header=header)


def _read_nibabel(path: Path, image: Any) -> Tractogram:
    placed = path.suffix != ".trk" or _says_where(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel's word on a missing affine; ours is below
        read = nib.streamlines.load(str(path))
    streamlines = read.streamlines
    points = np.asarray(streamlines.get_data(), dtype=np.float32)
    if not placed and image is not None:
        # nibabel took the identity for the affine; undone, the points are placed by the reference.
        header = dict(read.header)
        back = np.linalg.inv(get_affine_trackvis_to_rasmm(header))
        header["voxel_to_rasmm"] = np.asarray(image.affine, dtype=np.float32)
        place = get_affine_trackvis_to_rasmm(header) @ back
        points = apply_affine(place, points).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(streamlines._lengths)]).astype(np.int64)
    if path.suffix == ".trk" and not placed and image is None:
        raise FornixError(
            f"{path.name} does not say where it lies (its header's vox_to_ras is zero, as old writers "
            "leave it); give the image it was tracked on with --reference"
        )
    if path.suffix == ".trk" and placed:
        affine = np.asarray(read.header["voxel_to_rasmm"], dtype=np.float64)
        grid = _grid(read.header["dimensions"])
        values = {
            k: np.asarray(v, np.float32).ravel()
            for k, v in read.tractogram.data_per_streamline.items()
            if np.asarray(v).size == len(offsets) - 1
        }
        return Tractogram(points, offsets, affine, grid, values)
    return Tractogram(points, offsets, image.affine, _grid(image.shape))


def _says_where(path: Path) -> bool:
    """Whether the header of a trk file holds an affine."""
    at = header_2_dtype.fields["voxel_to_rasmm"][1]
    with path.open("rb") as stream:
        stream.seek(at)
        raw = stream.read(64)
    found = np.frombuffer(raw, dtype="<f4") if len(raw) == 64 else np.ones(16)
    return bool(found[15] != 0 and np.any(found[:12]))


def _grid(dimensions: Iterable[int]) -> tuple[int, int, int]:
    x, y, z = (int(v) for v in list(dimensions)[:3])
    return x, y, z
