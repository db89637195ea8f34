"""Tractograms in and out: trx, tck and trk, always in world (RAS+) mm inside."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.io.files import atomic, input_file
from fornix.io.nifti import open_image

EXTENSIONS = (".trx", ".tck", ".trk")


def write_tractogram(tractogram: Tractogram, path: str | Path) -> Path:
    """Write a tractogram in the format its extension names, atomically.

    trx keeps the grid and the values per streamline, trk the grid and the values, tck only points.
    """
    path = Path(path)
    _check_extension(path)
    with atomic(path) as temporary:
        if path.suffix == ".trx":
            _write_trx(tractogram, temporary)
        else:
            _write_nibabel(tractogram, temporary)
    return path


def read_tractogram(path: str | Path, reference: str | Path | None = None) -> Tractogram:
    """Read a tractogram. A tck file carries no grid: give a reference image for it.

    Raises FornixError for an unknown extension, a corrupt file, points that are not finite, or a
    reference grid that does not match the file's.
    """
    path = input_file(path, "tractogram")
    _check_extension(path)
    try:
        if path.suffix == ".trx":
            made = _read_trx(path)
        else:
            made = _read_nibabel(path, reference)
    except FornixError:
        raise
    except Exception as error:  # readers of binary formats fail in many ways on a broken file
        raise FornixError(f"{path} is not a readable tractogram: {error}") from error
    if reference is not None:
        image, _ = open_image(reference, "reference image")
        if image.shape[:3] != made.grid or not np.allclose(image.affine, made.affine, atol=1e-3):
            raise FornixError(
                f"{path} was made on another grid {made.grid} than the reference {image.shape[:3]}; "
                "give the image it was tracked on"
            )
    return made


def _check_extension(path: Path) -> None:
    if path.suffix not in EXTENSIONS:
        raise FornixError(f"{path.name}: a tractogram is one of {', '.join(EXTENSIONS)}")


def _write_trx(tractogram: Tractogram, path: Path) -> None:
    from trx.trx_file_memmap import TrxFile, save

    made = TrxFile(nb_vertices=len(tractogram.points), nb_streamlines=len(tractogram))
    made.header["VOXEL_TO_RASMM"] = tractogram.affine.astype(np.float32)
    made.header["DIMENSIONS"] = np.array(tractogram.grid, dtype=np.uint16)
    made.streamlines._data = tractogram.points
    made.streamlines._offsets = tractogram.offsets[:-1].astype(np.uint32)
    made.streamlines._lengths = np.diff(tractogram.offsets).astype(np.uint32)
    made.data_per_streamline = {
        name: np.asarray(values, dtype=np.float32).reshape(-1, 1)
        for name, values in tractogram.per_streamline.items()
    }
    save(made, str(path))
    made.close()


def _read_trx(path: Path) -> Tractogram:
    from trx.trx_file_memmap import load

    read = load(str(path))
    try:
        lengths = np.asarray(read.streamlines._lengths, dtype=np.int64)
        return Tractogram(
            np.array(read.streamlines._data, dtype=np.float32),
            np.concatenate([[0], np.cumsum(lengths)]),
            np.asarray(read.header["VOXEL_TO_RASMM"], dtype=np.float64),
            _grid(read.header["DIMENSIONS"]),
            {k: np.array(v, np.float32).ravel() for k, v in read.data_per_streamline.items()},
        )
    finally:
        read.close()


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


def _read_nibabel(path: Path, reference: str | Path | None) -> Tractogram:
    read = nib.streamlines.load(str(path))
    streamlines = read.streamlines
    points = np.asarray(streamlines.get_data(), dtype=np.float32)
    offsets = np.concatenate([[0], np.cumsum(streamlines._lengths)]).astype(np.int64)
    if path.suffix == ".trk":
        affine = np.asarray(read.header["voxel_to_rasmm"], dtype=np.float64)
        grid = _grid(read.header["dimensions"])
        values = {k: np.asarray(v).ravel() for k, v in read.tractogram.data_per_streamline.items()}
        return Tractogram(points, offsets, affine, grid, values)
    if reference is None:
        raise FornixError(f"{path.name} carries no grid; give the reference image with --reference")
    image, _ = open_image(reference, "reference image")
    return Tractogram(points, offsets, image.affine, _grid(image.shape))


def _grid(dimensions: object) -> tuple[int, int, int]:
    x, y, z = (int(v) for v in list(dimensions)[:3])  # type: ignore[call-overload]
    return x, y, z
