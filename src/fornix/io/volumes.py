"""The volumes of a scan, checked as they come from the file, in memory or on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.series import Series
from fornix.io._order import to_memory
from fornix.io.nifti import data_file, reading
from fornix.io.packed import fill, skip

#: Scans that take more than this as float32 stay on disk, bytes.
IN_MEMORY = 1 << 30


def read_volumes(
    image: Any, path: str | Path, keep: Sequence[int], most: int = IN_MEMORY
) -> tuple[NDArray[np.float32] | Series, list[str]]:
    """The volumes `keep` of a scan as float32 (X, Y, Z, N), and notes on what was repaired.

    Args:
        image: Of `open_series`.
        path: Of the file.
        keep: Indices of the volumes to keep; None keeps all.
        most: Bytes; what takes more stays on disk, in the file's own number type.

    Raises:
        FornixError: For a damaged file, volumes that hold nothing, and overflowed integers.
    """
    stored, (slope, inter) = image.dataobj.dtype, (image.dataobj.slope, image.dataobj.inter)
    if stored.kind == "c":
        return _magnitudes(image, path, keep)
    shape = (*image.shape[:3], len(keep))
    series = Series(shape, stored, slope, inter) if 4 * int(np.prod(shape)) > most else None
    whole = np.empty(shape if series is None else (*shape[:3], 1), dtype=stored, order="F")
    left_out = np.empty(shape[:3], dtype=stored, order="F")
    check = _Check(path, shape, slope, inter)
    place = {volume: k for k, volume in enumerate(keep)}
    with reading(data_file(image, path)) as stream:
        skip(stream, image.dataobj.offset)
        for volume in range(image.shape[3]):
            k = place.get(volume)
            raw = left_out if k is None else whole[..., k if series is None else 0]
            fill(stream, raw.reshape(-1, order="F").view(np.uint8).data)
            if k is None:
                continue
            check.volume(volume, raw)
            if series is not None:
                series.put_volume(k, raw)
        stream.read(1)  # at its end a gzip file is checked against its sum
    if series is not None:
        series.blank(check.broken)
        return series, check.notes()
    data = to_memory(whole, slope, inter)
    data[check.broken] = 0
    return data, check.notes()


def _magnitudes(
    image: Any, path: str | Path, keep: Sequence[int]
) -> tuple[NDArray[np.float32], list[str]]:
    """The volumes of a complex scan, as magnitudes."""
    slope, inter = image.dataobj.slope, image.dataobj.inter
    shape = (*image.shape[:3], len(keep))
    data, place = np.empty(shape, dtype=np.float32), {v: k for k, v in enumerate(keep)}
    raw = np.empty(shape[:3], dtype=image.dataobj.dtype, order="F")
    check = _Check(path, shape, 1.0, 0.0)
    with reading(data_file(image, path)) as stream:
        skip(stream, image.dataobj.offset)
        for volume in range(image.shape[3]):
            fill(stream, raw.reshape(-1, order="F").view(np.uint8).data)
            if volume in place:
                size = np.abs(raw * slope + inter).astype(np.float32)
                check.volume(volume, size)
                data[..., place[volume]] = size
        stream.read(1)
    data[check.broken] = 0
    return data, check.notes()


class _Check:
    """Refuses volumes that hold nothing; collects voxels that hold NaN or inf in any volume."""

    def __init__(
        self, path: str | Path, shape: tuple[int, ...], slope: float, inter: float
    ) -> None:
        self.path = path
        self.broken = np.zeros(shape[:3], dtype=bool)
        self._size = int(np.prod(shape))
        self._scale = np.float32(slope), np.float32(inter)
        self._negative = 0

    def volume(self, volume: int, raw: NDArray[Any]) -> None:
        """Look at one volume (X, Y, Z), as stored."""
        lowest = raw.min(initial=0) if raw.dtype.kind in "iu" else None
        slope, inter = self._scale
        # With an intercept the whole range of the integers is used, and the lowest stands for 0.
        if lowest is not None and lowest < -16384 and raw.dtype.itemsize == 2 and inter == 0:
            self._overflow(volume, raw)
        if lowest is not None and inter == 0 and slope > 0:
            # Integers are finite, and keep their sign.
            finite, something = True, bool(raw.any())
            negative = int((raw < 0).sum()) if lowest < 0 else 0
        else:
            values = raw.astype(np.float32) * slope + inter
            good = np.isfinite(values)
            finite, something = bool(good.any()), bool(values.any())
            negative = int((values < 0).sum())
            self.broken |= ~good
        wrong = "has no finite value" if not finite else "" if something else "is all zero"
        if wrong:
            raise FornixError(
                f"{self.path}: volume {volume} {wrong}; leave it out with --exclude {volume}"
            )
        self._negative += negative

    def _overflow(self, volume: int, raw: NDArray[Any]) -> None:
        """Signed 16-bit volumes whose bright voxels wrapped around to strongly negative values."""
        wrapped = float((raw < -16384).mean())
        if wrapped > 1e-5 and raw.max() > 16384:
            raise FornixError(
                f"{self.path}: {100 * wrapped:.2g}% of volume {volume} is strongly negative beside "
                "values near the top of 16 bits, an integer overflow; convert again as unsigned or "
                "float"
            )

    def notes(self) -> list[str]:
        """What was repaired, and what looks wrong."""
        out = []
        if self.broken.any():
            out.append(
                f"{int(self.broken.sum())} voxels hold NaN or inf; they are blanked and left out of "
                "the mask"
            )
        if self._negative > 1e-4 * self._size:
            out.append(
                f"{100 * self._negative / self._size:.2g}% of the values are negative; fits treat "
                "them as zero"
            )
        return out
