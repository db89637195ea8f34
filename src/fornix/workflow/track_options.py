"""What `fornix track` can be asked, as files and numbers; read when the scan's grid is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError


@dataclass(frozen=True)
class TrackOptions:
    """Choices of a tracking run; each is an argument of `track`, masks and tissue as file names."""

    seeds: Path | None = None
    seeding: str = "voxel"
    seeds_per_voxel: int | None = None
    step: float | None = None
    angle: float | None = None
    threshold: float = 0.1
    min_length: float = 20.0
    max_length: float = 250.0
    tissue: Path | None = None
    include: tuple[Path, ...] = ()
    exclude: tuple[Path, ...] = ()
    stop: tuple[Path, ...] = ()
    act_ends: bool = True
    fod: Path | None = None

    def arguments(self, dwi: DWI) -> dict[str, Any]:
        """Keyword arguments of `track`: masks read and checked to lie on the scan.

        Raises:
            FornixError: That names the file where one is missing, empty or off the scan's grid.
        """
        made = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "fod"}
        made["seeds"] = None if self.seeds is None else _mask(self.seeds, dwi, "seeds")
        for what in ("include", "exclude", "stop"):
            made[what] = tuple(_mask(path, dwi, what) for path in getattr(self, what))
        return made

    def record(self) -> dict[str, Any]:
        """What a result depends on: the numbers, and hashes of the files."""
        from fornix.io.files import input_file, sha256

        def told(value: Any) -> Any:
            if isinstance(value, Path):
                return sha256(input_file(value, "mask"))
            return [told(v) for v in value] if isinstance(value, tuple) else value

        plain = TrackOptions()
        return {k: told(v) for k, v in asdict(self).items() if v != getattr(plain, k)}


def _mask(path: Path, dwi: DWI, what: str) -> NDArray[np.bool_]:
    from fornix.io import read_mask

    try:
        return read_mask(path, dwi)
    except FornixError as error:
        told = str(error)
        named = told if str(path) in told else f"{path}: {told}"
        raise FornixError(f"{what}: {named}") from None
