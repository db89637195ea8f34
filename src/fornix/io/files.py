"""Writing files so that nothing half-written is ever left: a temporary name, then a rename."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fornix.core.errors import FornixError

_TEMPORARY = ".fornix-tmp-"


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is removed.

    A full disk or a folder that cannot be written is a one-line FornixError.
    """
    path = Path(path)
    if path.is_dir():
        raise FornixError(f"{path} is a folder; a file cannot be written there")
    # The extension stays last: writers choose the format by it.
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise _explained(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def output_folder(path: str | Path) -> Path:
    """Make the folder if needed, check that it can be written, and clear what a killed run left."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise FornixError(f"the output {path} is a file; give a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f"{_TEMPORARY}{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
        for left in path.glob(f"{_TEMPORARY}*"):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise _explained(error, path) from error
    return path


def input_file(path: str | Path, what: str = "input") -> Path:
    """The path, checked to be a file that exists."""
    path = Path(path)
    if path.is_dir():
        raise FornixError(f"the {what} {path} is a folder; give a file")
    if not path.exists():
        raise FornixError(f"the {what} {path} does not exist")
    return path


def sha256(path: str | Path) -> str:
    """Hash of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _explained(error: OSError, path: Path) -> FornixError:
    if error.errno == errno.ENOSPC:
        return FornixError(f"the disk is full: {path} was not written; free some space, run again")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return FornixError(f"{path} cannot be written (no permission or read-only); choose another")
    return FornixError(f"{path} was not written: {error.strerror or error}")
