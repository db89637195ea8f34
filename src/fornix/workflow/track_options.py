"""Options of `fornix track`, as files and numbers; the files are read when the scan's grid is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.io import read_mask
from fornix.io.files import input_file, sha256


@dataclass(frozen=True)
class TrackOptions:
    """Choices of a tracking run; each is an argument of `track`, masks and tissue as file names."""

    seeds: Path | None = None
    seeding: str = "auto"
    seeds_per_voxel: int | None = None
    step: float | None = None
    angle: float | None = None
    threshold: float = 0.1
    min_length: float | None = None
    max_length: float | None = None
    tissue: Path | None = None
    include: tuple[Path, ...] = ()
    exclude: tuple[Path, ...] = ()
    stop: tuple[Path, ...] = ()
    act_ends: bool = True
    fod: Path | None = None

    def arguments(self, dwi: DWI) -> dict[str, Any]:
        """Keyword arguments of `track`: masks read and checked to lie on the scan.

        Args:
            dwi: The scan.

        Raises:
            FornixError: A file is missing, empty or off the scan's grid; the message names it.
        """
        arguments = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name != "fod"
        }
        arguments["seeds"] = None if self.seeds is None else _mask(self.seeds, dwi, "seeds")
        for what in ("include", "exclude", "stop"):
            arguments[what] = tuple(_mask(path, dwi, what) for path in getattr(self, what))
        return arguments

    def record(self) -> dict[str, Any]:
        """What a result depends on: the numbers, and hashes of the files."""

        def recorded(value: Any) -> Any:
            if isinstance(value, Path):
                return sha256(input_file(value, "mask"))
            return [recorded(v) for v in value] if isinstance(value, tuple) else value

        default = TrackOptions()
        return {k: recorded(v) for k, v in asdict(self).items() if v != getattr(default, k)}


def _mask(path: Path, dwi: DWI, what: str) -> NDArray[np.bool_]:
    try:
        return read_mask(path, dwi)
    except FornixError as error:
        message = str(error)
        named = message if str(path) in message else f"{path}: {message}"
        raise FornixError(f"{what}: {named}") from None
