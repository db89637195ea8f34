"""Bytes of files that may be gzip, in and out, several times faster than Python's own gzip does it.

isal is Intel's library for storage; python-isal keeps it (https://github.com/pycompression/python-isal).
What it writes is gzip like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from isal import igzip, isal_zlib

#: What reading a damaged file raises.
DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    cast("type[Exception]", isal_zlib.error),
)
#: Compression level, 0 to 3: 1 is as small as Python's 6 on maps of floats.
LEVEL = 1
_CHUNK = 1 << 20


@contextmanager
def unpacked(path: str | Path) -> Iterator[BinaryIO]:
    """The bytes of a file to read from the start, decompressed where its name ends in .gz."""
    with igzip.open(path, "rb") if str(path).endswith(".gz") else Path(path).open("rb") as stream:
        yield cast(BinaryIO, stream)


@contextmanager
def packed(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write, compressed where its name ends in .gz. The same bytes give the same file."""
    with open(path, "wb") as raw:
        if not str(path).endswith(".gz"):
            yield raw
            return
        with igzip.IGzipFile(
            filename="", mode="wb", compresslevel=LEVEL, fileobj=raw, mtime=0
        ) as out:
            yield cast(BinaryIO, out)


def skip(stream: BinaryIO, count: int) -> None:
    """Read past so many bytes. Raises EOFError where there are fewer."""
    fill(stream, memoryview(bytearray(count)))


def fill(stream: BinaryIO, target: memoryview) -> None:
    """Read until `target`, writable bytes, is full. Raises EOFError where the file ends before."""
    done = 0
    while done < len(target):
        count = stream.readinto(target[done : done + _CHUNK])  # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"{len(target) - done} bytes are missing at its end")
        done += count
