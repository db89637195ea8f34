"""NIfTI images in and out: any storage type and orientation, float32 inside, errors that say what to do."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from nibabel.fileslice import fileslice
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.io.files import atomic, input_file

EXTENSIONS = (".nii.gz", ".nii")

_UNREADABLE = (OSError, EOFError, zlib.error, ValueError)


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


def read_series(
    path: str | Path, max_bytes: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float64], list[str]]:
    """A 4-D image as float32 (X, Y, Z, N), its affine and notes.

    An uncompressed float32 file is memory-mapped. Where the array would take more than
    `max_bytes`, it is unpacked volume by volume into a temporary memory map on disk instead.
    """
    image, notes = open_image(path, "scan")
    if len(image.shape) != 4:
        raise FornixError(
            f"{path} has {len(image.shape)} dimensions {image.shape}; a diffusion scan has 4 "
            "(x, y, z, volume)"
        )
    _check_affine(image.affine, path)
    stored = image.get_data_dtype()
    slope, inter = image.dataobj.slope, image.dataobj.inter
    if stored == np.float32 and (slope, inter) == (1, 0) and str(path).endswith(".nii"):
        mapped = np.memmap(
            path,
            mode="r",
            dtype=stored.newbyteorder(image.header.endianness),
            shape=image.shape,
            offset=image.dataobj.offset,
            order="F",
        )
        return mapped, image.affine, notes
    size = int(np.prod(image.shape)) * 4
    if max_bytes is not None and size > max_bytes:
        # C order: the volumes of one voxel lie together, so blocks of voxels read few pages.
        with tempfile.NamedTemporaryFile(prefix="fornix-", suffix=".f32") as handle:
            mapped = np.memmap(handle.name, mode="w+", dtype=np.float32, shape=image.shape)
        for volume in range(image.shape[3]):
            raw = _raw(image, path, volume)
            _check_overflow(raw, volume, path)
            mapped[..., volume] = _scaled(raw, image)
        return mapped, image.affine, notes
    raw = _raw(image, path)
    for volume in range(image.shape[3]):
        _check_overflow(raw[..., volume], volume, path)
    return _scaled(raw, image), image.affine, notes


def write_image(path: str | Path, data: NDArray, affine: NDArray, like: Any | None = None) -> Path:
    """Write float32 (or uint8 for masks) NIfTI on the given affine, atomically."""
    path = Path(path)
    stored = data.astype(np.uint8 if data.dtype == bool else np.float32, copy=False)
    image = nib.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    with atomic(path) as temporary:
        nib.save(image, str(temporary))
    return path


def _raw(image: Any, path: str | Path, volume: int | None = None) -> NDArray:
    """The stored numbers, before scaling, of all volumes or one."""
    try:
        proxy = image.dataobj
        if volume is None:
            return np.asarray(proxy.get_unscaled())
        return np.asarray(_unscaled_volume(proxy, volume))
    except _UNREADABLE as error:
        raise FornixError(
            f"{path} is truncated or corrupt ({_short(error)}); copy or convert it again"
        ) from error


def _unscaled_volume(proxy: Any, volume: int) -> NDArray:
    """One unscaled volume, read in sequence so that gzip never starts over."""
    with proxy._get_fileobj() as handle, proxy._lock:
        return fileslice(
            handle, (..., volume), proxy.shape, proxy.dtype, proxy.offset, order=proxy.order
        )


def _scaled(raw: NDArray, image: Any) -> NDArray[np.float32]:
    """float32 in C order, scaled by the header's slope and intercept."""
    slope, inter = image.dataobj.slope, image.dataobj.inter
    native = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    if native.ndim == 4 and native.dtype in (np.int16, np.uint8, np.int32, np.float32, np.float64):
        # torch turns Fortran into C order several times faster than numpy does.
        out = torch.from_numpy(native).to(torch.float32).contiguous().numpy()
    else:
        out = np.ascontiguousarray(native, dtype=np.float32)
    if (slope, inter) != (1, 0):
        out = out * np.float32(slope) + np.float32(inter)
    return out


def _check_affine(affine: NDArray, path: str | Path) -> None:
    linear = np.asarray(affine)[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(linear)) < 1e-9:
        raise FornixError(
            f"{path} has a singular affine: the header gives no usable voxel axes; repair the header"
        )


def _check_overflow(raw: NDArray, volume: int, path: str | Path) -> None:
    """Signed 16-bit volumes whose bright voxels wrapped around to strongly negative values."""
    if raw.dtype.newbyteorder("=") != np.int16:
        return
    wrapped = float((raw < -16384).mean())
    if wrapped > 1e-5 and raw.max() > 16384:
        raise FornixError(
            f"{path}: {100 * wrapped:.2g}% of volume {volume} is strongly negative beside values "
            "near the top of 16 bits, an integer overflow; convert again as unsigned or float"
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
