"""Writing files so that nothing half-written is ever left: a temporary name, then a rename."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fornix.core.errors import FornixError

_TEMPORARY = ".fornix-tmp-"
#: Temporary files of another machine are left behind by a killed run if untouched for so long, s.
_STALE = 2 * 86400.0
_HOST = re.sub(r"[^A-Za-z0-9.]+", ".", platform.node()) or "host"
_OWNED = re.compile(re.escape(_TEMPORARY) + r"(\d+)@([A-Za-z0-9.]+)-")
#: Files that were given as input: nothing is written over them while they are here.
_inputs: list[tuple[int, int]] = []


@contextmanager
def protected(*paths: str | Path | None) -> Iterator[None]:
    """While this is open, `atomic` refuses to write over these files, by whatever name they are called.

    Args:
        paths: Files; None and files that do not exist are passed over.
    """
    held = [found for path in paths if (found := _identity(path)) is not None]
    _inputs.extend(held)
    try:
        yield
    finally:
        for found in held:
            _inputs.remove(found)


def refuse_input(path: str | Path) -> None:
    """An error where a file to be written is one of the inputs."""
    if _identity(path) in _inputs:
        raise FornixError(
            f"{path} is the input and would be written over; choose another folder with -o"
        )


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is removed.

    A full disk or a folder that cannot be written is a one-line FornixError.
    """
    path = Path(path)
    if path.is_dir():
        raise FornixError(f"{path} is a folder; a file cannot be written there")
    refuse_input(path)
    # The extension stays last: writers choose the format by it. The owner stands first: what another
    # process writes is not to be cleared away.
    owner = f"{os.getpid()}@{_HOST}-{secrets.token_hex(3)}"
    temporary = path.with_name(f"{_TEMPORARY}{owner}-{_short_name(path.name)}")
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
        probe = path / f"{_TEMPORARY}{os.getpid()}@{_HOST}-{secrets.token_hex(3)}"
        probe.write_bytes(b"x")
        probe.unlink()
        for left in path.iterdir():
            if left.name.startswith(_TEMPORARY) and _left_behind(left):
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


def sha256(*paths: str | Path) -> str:
    """Hash of the bytes of a file, or of several one after another, hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _identity(path: str | Path | None) -> tuple[int, int] | None:
    """What a file is, whatever name it is called by."""
    try:
        found = os.stat(path) if path is not None else None
    except (OSError, ValueError):
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _short_name(name: str) -> str:
    """The end of a name, so that a temporary name is no longer than file systems allow."""
    return name if len(name.encode()) <= 160 else name[-40:]


def _left_behind(temporary: Path) -> bool:
    """Whether the process that wrote a temporary file is gone."""
    owner = _OWNED.match(temporary.name)
    if owner is not None and owner[2] == _HOST:
        return not _alive(int(owner[1]))
    try:
        return time.time() - temporary.stat().st_mtime > _STALE
    except OSError:  # renamed or cleared meanwhile
        return False


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def _explained(error: OSError, path: Path) -> FornixError:
    if error.errno == errno.ENOSPC:
        return FornixError(f"the disk is full: {path} was not written; free some space, run again")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return FornixError(f"{path} cannot be written (no permission or read-only); choose another")
    return FornixError(f"{path} was not written: {error.strerror or error}")
