"""NIfTI images in and out: any storage type and orientation, float32 inside, errors that say what to do."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.series import Series
from fornix.io._order import to_file, to_memory
from fornix.io.files import atomic, input_file
from fornix.io.packed import DAMAGED, fill, packed, skip, unpacked

EXTENSIONS = (".nii.gz", ".nii")

_UNREADABLE: tuple[type[Exception], ...] = (*DAMAGED, zlib.error, ValueError)
#: Volumes that are brought into the order of a file at once.
_TOGETHER = 16


def open_image(path: str | Path, what: str = "image") -> tuple[Any, list[str]]:
    """The nibabel image (data not read yet) and notes about its header."""
    path = input_file(path, what)
    if not path.name.endswith(EXTENSIONS):
        raise FornixError(f"the {what} {path} is not NIfTI; give a .nii or .nii.gz file")
    try:
        image = nib.Nifti1Image.from_filename(str(path), keep_file_open=True)
    except (*_UNREADABLE, ImageFileError, WrapStructError, HeaderDataError) as error:
        raise FornixError(f"{path} is not a readable NIfTI file: {_short(error)}") from error
    return image, _header_notes(image)


def read_volume(path: str | Path, what: str = "image") -> tuple[NDArray[np.float32], NDArray]:
    """A whole image as float32, and its affine."""
    image, _ = open_image(path, what)
    return _scaled(_raw(image, path), image), np.asarray(image.affine)


def open_series(path: str | Path) -> tuple[Any, list[str]]:
    """The nibabel image of a scan (data not read yet), checked to be one, and notes about its header."""
    image, notes = open_image(path, "scan")
    if len(image.shape) != 4:
        raise FornixError(
            f"{path} has {len(image.shape)} dimensions {image.shape}; a diffusion scan has 4 "
            "(x, y, z, volume)"
        )
    _check_affine(image.affine, path)
    return image, notes


def write_image(
    path: str | Path, data: NDArray | Series, affine: NDArray, like: Any | None = None
) -> Path:
    """Write float32 (or uint8 for masks) NIfTI on the given affine, atomically."""
    path = Path(path)
    with atomic(path) as temporary, packed(temporary) as out:
        if not isinstance(data, np.ndarray):
            out.write(_header_of(data.shape, np.dtype(np.float32), affine))
            for volume in range(data.shape[3]):
                out.write(data.volume(volume).tobytes(order="F"))
            return path
        stored = data.astype(np.uint8 if data.dtype == bool else np.float32, copy=False)
        out.write(_header_of(stored.shape, stored.dtype, affine))
        if stored.ndim != 4:
            out.write(stored.tobytes(order="F"))
        else:
            for first in range(0, stored.shape[3], _TOGETHER):
                out.write(to_file(stored, first, _TOGETHER).data)
    return path


def _header_of(shape: tuple[int, ...], stored: np.dtype, affine: NDArray) -> bytes:
    """The bytes before the numbers, as nibabel writes them."""
    image = nib.Nifti1Image(np.broadcast_to(np.zeros((), stored), shape), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.update_header()
    image.header.set_slope_inter(1, 0)
    image.header["vox_offset"] = 352
    return bytes(image.header.binaryblock) + bytes(4)


def _raw(image: Any, path: str | Path) -> NDArray:
    """The stored numbers of the whole image, before scaling, in the order of the file."""
    proxy = image.dataobj
    out = np.empty(proxy.shape, dtype=proxy.dtype, order="F")
    with reading(path) as stream:
        skip(stream, proxy.offset)
        fill(stream, out.reshape(-1, order="F").view(np.uint8).data)
        stream.read(1)  # at its end a gzip file is checked against its sum
    return out


@contextmanager
def reading(path: str | Path) -> Iterator[BinaryIO]:
    """The unpacked bytes of an image; what goes wrong with them is one line."""
    try:
        with unpacked(path) as stream:
            yield stream
    except _UNREADABLE as error:
        if isinstance(error, FornixError):
            raise
        raise FornixError(
            f"{path} is truncated or corrupt ({_short(error)}); copy or convert it again"
        ) from error


def _scaled(raw: NDArray, image: Any) -> NDArray[np.float32]:
    """float32 in C order, scaled by the header's slope and intercept."""
    slope, inter = image.dataobj.slope, image.dataobj.inter
    if raw.ndim == 4 and raw.dtype.kind in "iuf":
        return to_memory(raw, slope, inter)
    out = np.ascontiguousarray(raw, dtype=np.float32)
    if (slope, inter) != (1, 0):
        out = out * np.float32(slope) + np.float32(inter)
    return out


def _check_affine(affine: NDArray, path: str | Path) -> None:
    linear = np.asarray(affine)[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(linear)) < 1e-9:
        raise FornixError(
            f"{path} has a singular affine: the header gives no usable voxel axes; repair the header"
        )


def _header_notes(image: Any) -> list[str]:
    header = image.header
    if not (header["sform_code"] and header["qform_code"]):
        if not header["sform_code"] and not header["qform_code"]:
            return ["the header has neither sform nor qform: the orientation is a guess"]
        return []
    try:
        difference = np.abs(image.get_sform() - image.get_qform()).max()
    except Exception as error:  # nibabel raises several kinds for a broken quaternion
        return [f"the qform is unusable ({_short(error)}); the sform is used"]
    scale = np.abs(image.get_sform()[:3, :3]).max()
    if difference > 0.05 * max(scale, 1e-6):
        return [f"sform and qform disagree by up to {difference:.2f} mm; the sform is used"]
    return []


def _short(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
