"""The trx format: written as streamlines come, read without holding them in memory.

A trx file is a zip archive, not compressed, of plain arrays and a JSON header
(https://tee-ar-ex.github.io/trx-python). trx-python makes such files from whole arrays and opens them
for writing even to read; here arrays grow on disk and files that must not change can be read.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError, tell
from fornix.core.tractogram import Tractogram
from fornix.io.files import atomic

#: A file that is being written is a folder of this name, which `read_trx` reads as well.
PARTIAL = ".partial"


class TrxWriter:
    """A trx file that grows: `append` puts streamlines on disk at once, `finish` makes it one file.

    Args:
        path: Of the file to be; while it grows, `path` + ".partial" is a folder with all that was
            appended, a valid trx folder after every `append`. It stays there where the writer is
            stopped before `finish`.

    Examples:
        >>> with TrxWriter(path, affine, grid) as out:   # doctest: +SKIP
        ...     out.append(points, lengths)
    """

    def __init__(self, path: str | Path, affine: ArrayLike, grid: tuple[int, int, int]) -> None:
        self.path = Path(path)
        self.folder = self.path.with_name(self.path.name + PARTIAL)
        if self.folder.is_file():
            raise FornixError(f"{self.folder} is in the way; remove it")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._affine = np.asarray(affine, dtype=np.float64)
        self._grid = grid
        self.streamlines = self.vertices = 0
        self._positions = open(self.folder / "positions.3.float32", "ab")  # noqa: SIM115
        self._offsets = open(self.folder / "offsets.uint64", "ab")  # noqa: SIM115
        self._offsets.write(np.zeros(1, "<u8").tobytes())
        self._header()

    def append(self, points: NDArray[np.floating], lengths: NDArray[np.integer]) -> None:
        """Add streamlines: their points (n, 3) in world mm one after another, and how many each has."""
        if int(lengths.sum()) != len(points):
            raise FornixError(f"{len(points)} points do not make streamlines of {lengths.sum()}")
        ends = self.vertices + np.cumsum(lengths, dtype=np.int64)
        self._positions.write(np.ascontiguousarray(points, dtype="<f4").data)
        self._offsets.write(ends.astype("<u8").data)
        self._positions.flush()
        self._offsets.flush()
        self.streamlines += len(lengths)
        self.vertices += len(points)
        self._header()

    def finish(
        self,
        per_streamline: Mapping[str, ArrayLike] | None = None,
        groups: Mapping[str, ArrayLike] | None = None,
    ) -> Path:
        """Make it one file at `path`, with values per streamline (S,) and groups of their indices."""
        self._close()
        for name, index in (groups or {}).items():
            if not np.size(index):
                continue  # an empty array is no array to readers
            (self.folder / "groups").mkdir(exist_ok=True)
            np.asarray(index, "<u4").tofile(self.folder / "groups" / f"{name}.uint32")
        for name, values in (per_streamline or {}).items():
            (self.folder / "dps").mkdir(exist_ok=True)
            np.asarray(values, "<f4").tofile(self.folder / "dps" / f"{name}.float32")
        with atomic(self.path) as temporary:
            _zip(self.folder, temporary)
        shutil.rmtree(self.folder)
        return self.path

    def discard(self) -> None:
        """Remove what was written."""
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> TrxWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish; where it was stopped or failed on the way, leave what there is in the folder."""
        if kind is None:
            self.finish()
        elif self.streamlines:
            self._close()
            tell(f"stopped: {self.streamlines:,} streamlines are in {self.folder}")
        else:
            self.discard()

    def _close(self) -> None:
        self._positions.close()
        self._offsets.close()

    def _header(self) -> None:
        header = {
            "DIMENSIONS": [int(n) for n in self._grid],
            "VOXEL_TO_RASMM": self._affine.tolist(),
            "NB_STREAMLINES": self.streamlines,
            "NB_VERTICES": self.vertices,
        }
        fresh = self.folder / "header.json.new"
        fresh.write_text(json.dumps(header))
        os.replace(fresh, self.folder / "header.json")


def write_trx(tractogram: Tractogram, path: Path, block: int = 1_000_000) -> None:
    """A whole tractogram, block by block, so that a memory-mapped one is never in memory."""
    writer = TrxWriter(path, tractogram.affine, tractogram.grid)
    try:
        for start in range(0, len(tractogram), block):
            offsets = tractogram.offsets[start : start + block + 1]
            writer.append(tractogram.points[offsets[0] : offsets[-1]], np.diff(offsets))
        writer.finish(tractogram.per_streamline, tractogram.groups)
    except BaseException:
        writer.discard()
        raise


def read_trx(path: Path, mapped: bool = False) -> Tractogram:
    """A trx file, or the folder of one that was not finished.

    Args:
        path: Of the file.
        mapped: Leave the points on disk, read-only; they are read as they are used.
    """
    arrays, header = _folder_arrays(path) if path.is_dir() else _zip_arrays(path)
    count, vertices = int(header["NB_STREAMLINES"]), int(header["NB_VERTICES"])
    offsets, points = np.zeros(1, np.int64), np.zeros((0, 3), np.float32)
    values: dict[str, NDArray[np.float32]] = {}
    groups: dict[str, NDArray[np.int64]] = {}
    for name, flat in arrays.items():
        stem = name.rpartition("/")[2].split(".")[0]
        if name.startswith("offsets.") and count:
            # Stopped between two appends, a folder may hold more than its header says.
            offsets = np.append(flat[:count], vertices).astype(np.int64)
        elif name.startswith("positions.") and vertices:
            points = flat[: 3 * vertices].reshape(-1, 3)
        elif name.startswith("dps/") and count and len(flat) == count:
            values[stem] = np.array(flat, dtype=np.float32)
        elif name.startswith("groups/"):
            groups[stem] = np.array(flat, dtype=np.int64)
    if not mapped or points.dtype != np.float32:
        points = np.array(points, dtype=np.float32)
    x, y, z = (int(n) for n in header["DIMENSIONS"])
    affine = np.array(header["VOXEL_TO_RASMM"], dtype=np.float64).reshape(4, 4)
    return Tractogram(points, offsets, affine, (x, y, z), values, groups)


def _folder_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    header = json.loads((path / "header.json").read_text())
    found = {}
    for file in sorted(path.rglob("*")):
        dtype = _dtype(file.name)
        if dtype is not None and file.stat().st_size >= dtype.itemsize:
            size = file.stat().st_size // dtype.itemsize
            found[file.relative_to(path).as_posix()] = np.memmap(file, dtype, "r", shape=(size,))
    return dict(found), header


def _zip_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    found: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("header.json"))
        for info in archive.infolist():
            dtype = _dtype(info.filename)
            if dtype is None or not info.file_size:
                continue
            if info.compress_type != zipfile.ZIP_STORED:
                found[info.filename] = np.frombuffer(archive.read(info), dtype)
                continue
            # The local header may be longer than the directory at the end says.
            with open(path, "rb") as raw:
                raw.seek(info.header_offset + 26)
                name, extra = struct.unpack("<HH", raw.read(4))
            begin = info.header_offset + 30 + name + extra
            size = info.file_size // dtype.itemsize
            found[info.filename] = np.memmap(path, dtype, "r", begin, (size,))
    return found, header


def _dtype(name: str) -> np.dtype[Any] | None:
    try:
        return np.dtype(name.rpartition(".")[2]).newbyteorder("<")
    except TypeError:
        return None


def _zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_dir() or file.suffix == ".new":
                continue
            # A fixed date: the same streamlines give the same bytes.
            info = zipfile.ZipInfo(file.relative_to(folder).as_posix())
            with file.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 1 << 22)
