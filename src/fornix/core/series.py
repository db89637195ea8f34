"""A scan that stays on disk: its numbers are read, block by block, as they are asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.core.methods import Deferred

#: Compiled, so imported when it is first needed: importing a scan's class is to be quick.
pick = Deferred("fornix.core._blocks:pick")


class Series:
    """A scan (X, Y, Z, N) in a scratch file, in its own number type; float32 where it is read.

    The file holds one plane of x after another, of each plane one volume after another: a block of
    voxels and a volume are both read in long pieces. It has no name, so that it goes with the process.

    It is read like an array: `series[..., v]`, `series[x0:x1]`, `series[mask]`, `np.asarray(series)`;
    what is read is in memory, what is not is not.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        stored: Any = np.float32,
        slope: float = 1.0,
        inter: float = 0.0,
    ) -> None:
        self._grid = shape[:3]
        self._total = shape[3]
        self._volumes = np.arange(shape[3])
        self._stored = np.dtype(stored).newbyteorder("=")
        self._scale = (np.float32(slope), np.float32(inter))
        self._blank: NDArray[np.bool_] | None = None
        self._file = tempfile.TemporaryFile(prefix="fornix-", buffering=0)  # noqa: SIM115
        self._last: tuple[int, NDArray[Any]] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(X, Y, Z, N)."""
        return (*self._grid, len(self._volumes))

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self._grid[0]

    # Writing: once, by whoever makes it.

    def put_volume(self, volume: int, values: NDArray[Any]) -> None:
        """Store a volume (X, Y, Z), in the file's number type and before scaling."""
        values = np.ascontiguousarray(values, dtype=self._stored)
        for x, plane in enumerate(values):
            self._write(plane, x * self._total + volume)

    def put_planes(self, first: int, values: NDArray[Any]) -> None:
        """Store planes (n, Y, Z, N) from x = first on, in the file's number type and before scaling."""
        for x, plane in enumerate(values, start=first):
            self._write(
                np.ascontiguousarray(np.moveaxis(plane, 2, 0), self._stored), x * self._total
            )
        self._last = None

    def blank(self, voxels: NDArray[np.bool_]) -> None:
        """Read as 0, in all volumes, what lies in these voxels (X, Y, Z)."""
        self._blank = voxels if voxels.any() else None

    # Reading.

    def volume(self, volume: int) -> NDArray[np.float32]:
        """One volume, (X, Y, Z)."""
        raw = np.empty(self._grid, dtype=self._stored)
        for x in range(self._grid[0]):
            self._read(raw[x], x * self._total + int(self._volumes[volume]))
        slope, inter = self._scale
        found: NDArray[np.float32] = raw.astype(np.float32)
        if slope != 1 or inter != 0:
            found = found * slope + inter
        if self._blank is not None:
            found[self._blank] = 0
        return found

    def planes(
        self, first: int, last: int, volumes: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Planes first <= x < last of some volumes, all if absent: (n, Y, Z, volumes)."""
        per_plane = self._grid[1] * self._grid[2]
        flat = np.arange(first * per_plane, last * per_plane)
        found = self.gather(flat, volumes)
        return found.reshape(last - first, *self._grid[1:], found.shape[1])

    def gather(
        self, voxels: NDArray[np.int64], volumes: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Signals (n, volumes) of voxels, flat indices of the grid; of some volumes, all if absent.

        Quick where the voxels come in ascending order.
        """
        chosen = self._volumes if volumes is None else self._volumes[np.asarray(volumes)]
        out = np.empty((len(voxels), len(chosen)), dtype=np.float32)
        plane, within = np.divmod(voxels, self._grid[1] * self._grid[2])
        edges = np.flatnonzero(np.diff(plane)) + 1
        for start, stop in zip([0, *edges], [*edges, len(voxels)]):
            if start < stop:
                raw, rows = self._plane(int(plane[start]), chosen)
                pick(raw, within[start:stop], rows, *self._scale, out[start:stop])
        if self._blank is not None:
            out[self._blank.reshape(-1)[voxels]] = 0
        return out

    def subset(self, volumes: ArrayLike) -> Series:
        """The same scan with some of its volumes, by index or boolean mask, in the order given."""
        made = object.__new__(Series)
        made.__dict__.update(self.__dict__)
        made._volumes = self._volumes[np.asarray(volumes)]
        return made

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, np.ndarray) and key.dtype == bool and key.shape == self._grid:
            return self.gather(np.flatnonzero(key))
        spatial, last = _split(key)
        if not isinstance(last, slice) and np.ndim(last) == 0 and spatial == (slice(None),) * 3:
            return self.volume(int(last))
        first = spatial[0]
        x = np.arange(self._grid[0])[first]
        planes = [self.planes(i, i + 1, self._volumes_of(last))[0] for i in np.atleast_1d(x)]
        block = np.stack(planes) if planes else np.empty((0, *self.shape[1:]), np.float32)
        found = block[(slice(None), *spatial[1:], slice(None))]
        found = found[0] if np.ndim(x) == 0 else found
        return found[..., 0] if not isinstance(last, slice) and np.ndim(last) == 0 else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.planes(0, self._grid[0]).astype(dtype or np.float32, copy=False)

    def _volumes_of(self, last: Any) -> NDArray[np.int64]:
        return np.atleast_1d(np.arange(len(self._volumes))[last])

    def _plane(self, x: int, chosen: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The stored numbers of a plane, (volumes, Y Z), and the rows of the chosen volumes in it."""
        last = self._last
        if last is not None and last[0] == x:
            return last[1], chosen
        size = self._grid[1] * self._grid[2]
        if 2 * len(chosen) < self._total:
            raw = np.empty((len(chosen), size), dtype=self._stored)
            for row, volume in zip(raw, chosen):
                self._read(row, x * self._total + int(volume))
            return raw, np.arange(len(chosen))
        raw = np.empty((self._total, size), dtype=self._stored)
        self._read(raw, x * self._total)
        self._last = (x, raw)  # blocks of voxels end within planes: the next one starts here
        return raw, chosen

    def _place(self, piece: int) -> int:
        return int(piece * self._grid[1] * self._grid[2] * self._stored.itemsize)

    def _read(self, target: NDArray[Any], piece: int) -> None:
        view, place = target.reshape(-1).view(np.uint8).data, self._place(piece)
        done = 0
        while done < len(view):
            count = os.preadv(self._file.fileno(), [view[done:]], place + done)
            if not count:
                raise FornixError("the scratch file of the scan is shorter than it was written")
            done += count

    def _write(self, values: NDArray[Any], piece: int) -> None:
        view, place = values.reshape(-1).view(np.uint8).data, self._place(piece)
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(self._file.fileno(), view[done:], place + done)
        except OSError as error:
            raise FornixError(
                f"no room for the scan's scratch file in {tempfile.gettempdir()} "
                f"({error.strerror}); free some space, or name another folder in TMPDIR"
            ) from error


def _split(key: Any) -> tuple[tuple[Any, Any, Any], Any]:
    """The spatial part of an index, and that of the volumes. Raises IndexError for other kinds."""
    parts: Sequence[Any] = key if isinstance(key, tuple) else (key,)
    if any(p is Ellipsis for p in parts):
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        parts = (*parts[:at], *[slice(None)] * (5 - len(parts)), *parts[at + 1 :])
    parts = (*parts, *[slice(None)] * (4 - len(parts)))
    if len(parts) != 4 or any(not isinstance(p, (slice, int, np.integer)) for p in parts[:3]):
        raise IndexError("a scan on disk is read by slices and numbers, or by a mask (X, Y, Z)")
    return (parts[0], parts[1], parts[2]), parts[3]


def room_like(
    data: NDArray[np.float32] | Series, volumes: int | None = None
) -> NDArray[np.float32] | Series:
    """Room for a scan made from this one: in memory, or on disk where this one is."""
    shape = data.shape[:3]
    count = data.shape[3] if volumes is None else volumes
    if isinstance(data, np.ndarray):
        return np.empty((*shape, count), dtype=np.float32)
    return Series((*shape, count))


def put_volume(out: NDArray[np.float32] | Series, volume: int, values: NDArray[Any]) -> None:
    """Store one volume (X, Y, Z) of a scan that is being made."""
    if isinstance(out, np.ndarray):
        out[..., volume] = values
    else:
        out.put_volume(volume, values)


def put_planes(out: NDArray[np.float32] | Series, first: int, values: NDArray[Any]) -> None:
    """Store planes (n, Y, Z, N) from x = first on of a scan that is being made."""
    if isinstance(out, np.ndarray):
        out[first : first + len(values)] = values
    else:
        out.put_planes(first, values)
