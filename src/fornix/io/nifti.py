"""NIfTI images in and out: any storage type and orientation, float32 inside, errors that say what to do."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel import imageglobals
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.series import Series
from fornix.io._order import to_file, to_memory
from fornix.io.files import atomic, input_file
from fornix.io.packed import DAMAGED, fill, packed, skip, unpacked

EXTENSIONS = (".nii.gz", ".nii", ".hdr", ".img")

_UNREADABLE: tuple[type[Exception], ...] = (*DAMAGED, zlib.error, ValueError)
#: Bytes that every NIfTI header has at least.
_HEADER = 348
#: Volumes that are brought into the order of a file at once.
_TOGETHER = 16


def open_image(path: str | Path, what: str = "image") -> tuple[Any, list[str]]:
    """The nibabel image (data not read yet), affine in mm, and notes about its header.

    NIfTI-1 and -2, in one file or as a pair of .hdr and .img.
    """
    path = input_file(path, what)
    if not path.name.endswith(EXTENSIONS):
        raise FornixError(
            f"the {what} {path} is not NIfTI; give a .nii or .nii.gz file (mrconvert and dcm2niix write it)"
        )
    if path.suffix == ".gz":
        with path.open("rb") as raw:
            if raw.read(2) != b"\x1f\x8b":
                raise FornixError(
                    f"{path} is not a readable NIfTI file: its name ends in .gz but it is not compressed; "
                    "name it .nii if it is a NIfTI file"
                )
        with reading(path) as stream:
            stream.read(
                _HEADER
            )  # a cut file fails here, in words; one that is too short is no NIfTI
    try:
        with _said_by_nibabel() as said:
            image: Any = nib.load(str(path), mmap=False)
    except Exception as error:  # nibabel raises many kinds for a broken header
        raise FornixError(f"{path} is not a readable NIfTI file: {_short(error)}") from error
    if not isinstance(image, nib.Nifti1Pair):
        raise FornixError(f"{path} is {type(image).__name__}, not NIfTI; convert it to .nii.gz")
    _check_header(image, path)
    notes = [f"the header was repaired: {text}" for text in said] + _header_notes(image)
    image, more = _in_mm(_four_dimensions(image))
    return image, notes + more


def read_volume(path: str | Path, what: str = "image") -> tuple[NDArray[np.float32], NDArray[Any]]:
    """A whole image as float32, and its affine."""
    image, _ = open_image(path, what)
    return _scaled(_raw(image, path), image), np.asarray(image.affine)


@dataclass(frozen=True)
class Stored:
    """An image as its file holds it: bytes that stand for tenths take a quarter of float32's memory.

    Attributes:
        raw: (X, Y, Z[, V]) stored numbers.
        slope: What they are multiplied by.
        inter: What is added then.
        affine: (4, 4).
    """

    raw: NDArray[Any]
    slope: float
    inter: float
    affine: NDArray[np.float64]

    def at(self, voxels: NDArray[np.integer], volumes: int | slice) -> NDArray[np.float32]:
        """Values (n,), or (n, V) of several volumes, at flat indices (C order) of the grid."""
        values = self.raw[(*np.unravel_index(voxels, self.raw.shape[:3]), volumes)]
        return values.astype(np.float32) * np.float32(self.slope) + np.float32(self.inter)


def read_stored(path: str | Path, what: str = "image") -> Stored:
    """A whole image without turning its numbers into floats."""
    image, _ = open_image(path, what)
    proxy = image.dataobj
    return Stored(
        _raw(image, path), float(proxy.slope), float(proxy.inter), np.asarray(image.affine)
    )


def open_series(path: str | Path) -> tuple[Any, list[str]]:
    """The nibabel image of a scan (data not read yet), checked to be one, and notes about its header."""
    image, notes = open_image(path, "scan")
    if len(image.shape) != 4:
        raise FornixError(
            f"{path} has {len(image.shape)} dimensions {image.shape}; a diffusion scan has 4 "
            "(x, y, z, volume)"
        )
    _check_affine(image.affine, path)
    if image.get_data_dtype().kind == "c":
        notes.append("the scan is complex: its magnitude is taken")
    return image, notes


def write_image(
    path: str | Path, data: NDArray[Any] | Series, affine: NDArray[Any], like: Any | None = None
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


def write_scaled(path: str | Path, data: NDArray[Any], affine: NDArray[Any], scale: float) -> Path:
    """Write integers that stand for `scale` times themselves, atomically: an eighth of the floats' size."""
    path = Path(path)
    with atomic(path) as temporary, packed(temporary) as out:
        out.write(_header_of(data.shape, data.dtype, affine, scale))
        for first in range(0, data.shape[-1], _TOGETHER):
            out.write(np.asfortranarray(data[..., first : first + _TOGETHER]).tobytes(order="F"))
    return path


def _header_of(
    shape: tuple[int, ...], stored: np.dtype, affine: NDArray[Any], scale: float = 1.0
) -> bytes:
    """The bytes before the numbers, as nibabel writes them."""
    image = nib.Nifti1Image(np.broadcast_to(np.zeros((), stored), shape), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.update_header()
    image.header.set_slope_inter(scale, 0)
    image.header["vox_offset"] = 352
    return bytes(image.header.binaryblock) + bytes(4)


def _raw(image: Any, path: str | Path) -> NDArray[Any]:
    """The stored numbers of the whole image, before scaling, in the order of the file."""
    proxy = image.dataobj
    if proxy.dtype.kind == "c":
        raise FornixError(f"{path} holds complex numbers; a mask or map is real: convert it")
    out = np.empty(proxy.shape, dtype=proxy.dtype, order="F")
    with reading(data_file(image, path)) as stream:
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


def _scaled(raw: NDArray[Any], image: Any) -> NDArray[np.float32]:
    """float32 in C order, scaled by the header's slope and intercept."""
    slope, inter = image.dataobj.slope, image.dataobj.inter
    if raw.ndim == 4 and raw.dtype.kind in "iuf":
        return to_memory(raw, slope, inter)
    out = np.ascontiguousarray(raw, dtype=np.float32)
    if (slope, inter) != (1, 0):
        out = out * np.float32(slope) + np.float32(inter)
    return out


class _Collected(logging.Handler):
    """Keeps what is logged as warnings and worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.said.append(record.getMessage())


@contextmanager
def _said_by_nibabel() -> Iterator[list[str]]:
    """Collects what nibabel logs of a header instead of printing it."""
    handler = _Collected()
    logger = imageglobals.logger
    before, logger.handlers, logger.propagate = (
        (logger.handlers, logger.propagate),
        [handler],
        False,
    )
    try:
        yield handler.said
    finally:
        logger.handlers, logger.propagate = before


def data_file(image: Any, path: str | Path) -> Path:
    """Where the numbers of an image are: beside the header for a pair of files."""
    held = image.file_map["image"].filename
    return Path(path if held is None else held)


def image_files(path: str | Path) -> list[Path]:
    """The file of an image, or both of a pair of .hdr and .img."""
    path = Path(path)
    if path.suffix not in (".hdr", ".img"):
        return [path]
    return [p for p in (path.with_suffix(".hdr"), path.with_suffix(".img")) if p.exists()]


def _check_header(image: Any, path: Path) -> None:
    """Refuse what no image of numbers has: colours, no voxels, more numbers than the file can hold."""
    stored = image.dataobj.dtype
    if stored.names is not None or stored.kind not in "iufc":
        raise FornixError(
            f"{path} holds colours ({stored}), as scanners write pictures of FA; give the scan itself"
        )
    if stored.itemsize > 16 or (stored.kind in "iuf" and stored.itemsize > 8):
        raise FornixError(f"{path} holds {stored}, which few tools read; convert it to float32")
    shape = image.shape
    if not shape or min(shape) < 1 or len(shape) < 3:
        raise FornixError(f"{path} has the shape {tuple(shape)}; an image has three axes or more")
    file = data_file(image, path)
    if not file.exists():
        raise FornixError(f"the image file {file} that belongs to {path} does not exist")
    # Neither gzip nor bad luck packs more than about a thousand to one.
    size = float(np.prod(np.asarray(shape, dtype=np.float64))) * stored.itemsize
    offset = image.dataobj.offset
    if not 0 <= offset <= max(1 << 20, file.stat().st_size):
        raise FornixError(
            f"{path} is corrupt: its header says that the numbers begin at byte {offset:g}; repair the "
            "header (vox_offset) or convert the scan again"
        )
    room = file.stat().st_size * (1100 if file.name.endswith(".gz") else 1)
    if size > room:
        raise FornixError(
            f"{path} is truncated or corrupt: its header names {size:,.0f} bytes of numbers "
            f"{tuple(shape)}, its {file.stat().st_size:,} bytes cannot hold them; copy it again"
        )
    if not np.isfinite([image.dataobj.slope, image.dataobj.inter]).all():
        raise FornixError(f"{path} has a scale (scl_slope, scl_inter) that is no number; repair it")


def _four_dimensions(image: Any) -> Any:
    """Without axes of one element beyond the volumes': (x, y, z, 1, n) and (x, y, z, n, 1) are scans."""
    shape = image.shape
    if len(shape) <= 4:
        return image
    more = [n for n in shape[3:] if n != 1]
    if len(more) > 1:
        return image
    image.header.set_data_shape((*shape[:3], *(more or [1])))
    proxy = image.dataobj
    proxy._shape = (*shape[:3], *(more or [1]))
    return image


#: How many mm the header's unit of length is.
_UNITS = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def _in_mm(image: Any) -> tuple[Any, list[str]]:
    """The image with its affine in mm, by the unit that its header names."""
    try:
        unit = image.header.get_xyzt_units()[0]
    except KeyError:  # a code that is none
        unit = "unknown"
    scale = _UNITS.get(unit, 1.0)
    if scale == 1.0 or image.affine is None:
        return image, []
    # Many tools write a unit and mean mm all the same: what is possible for a voxel decides.
    size = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
    if not (scale * size.min() > 0.005 and scale * size.max() < 50):
        return image, [
            f"the header's unit of length is {unit}, which would make voxels of "
            f"{scale * size.max():g} mm: taken as mm"
        ]
    affine = np.asarray(image.affine).copy()
    affine[:3] *= scale
    image._affine = affine
    return image, [f"lengths in the header are in {unit}; read as mm"]


def _check_affine(affine: NDArray[Any], path: str | Path) -> None:
    linear = np.asarray(affine)[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(linear)) < 1e-12:
        raise FornixError(
            f"{path} has a singular affine: the header gives no usable voxel axes; repair the header"
        )
    size = np.linalg.norm(linear, axis=0)
    if size.max() > 50 or size.min() < 0.005:
        raise FornixError(
            f"{path} has voxels of {size[0]:g} x {size[1]:g} x {size[2]:g} mm, which no scan of a brain "
            "has; set the unit of length or the voxel size in its header"
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
