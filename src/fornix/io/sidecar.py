"""The JSON beside every output: what it is, in which units, and what made it from what."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.errors import FornixError
from fornix.core.version import __version__
from fornix.io.files import atomic, sha256
from fornix.io.names import sidecar_path


def command_line() -> str:
    """The command of this process, for the record."""
    words = [Path(sys.argv[0]).name or "python", *sys.argv[1:]]
    return shlex.join(words)


def write_sidecar(path: str | Path, fields: Mapping[str, Any]) -> Path:
    """Write the sidecar of the output at `path`, which must be written already (it is hashed)."""
    content = {
        **fields,
        "FornixVersion": __version__,
        "Command": command_line(),
        "Sha256": sha256(path),
    }
    return write_json(sidecar_path(path), content)


def read_sidecar(path: str | Path) -> dict[str, Any]:
    """The sidecar of the output at `path`; empty where there is none."""
    beside = sidecar_path(path)
    return read_json(beside) if beside.exists() else {}


def write_json(path: str | Path, content: Mapping[str, Any]) -> Path:
    """Write JSON atomically; numpy values are converted."""
    path = Path(path)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=_plain) + "\n")
    return path


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object; an error names the file."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # of the text or of its encoding
        raise FornixError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise FornixError(f"{path} must hold a JSON object")
    return content


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
