"""The table of a study: a row per scan, with its files, its site and what its person is like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fornix.analysis.profile_tables import read_table, subject_of
from fornix.core.errors import FornixError

#: Columns that are no covariates, by the names they go by.
_SUBJECT = ("participant_id", "subjectID", "subject")
_SESSION = ("session_id", "sessionID", "session")
_PATH = ("path", "maps", "scan", "table")
#: Covariates that are kept unless others are named.
USUAL = ("age", "sex", "group")


@dataclass(frozen=True, eq=False)
class ScanTable:
    """The rows of a study.

    Attributes:
        source: The file.
        frame: Columns `participant_id`, `session_id` (text, empty where there is none), `site`, `path`
            (absolute), and the covariates.
        lines: (S,) line of each row in the file, its head being line 1.
    """

    source: Path
    frame: pd.DataFrame
    lines: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"ScanTable({len(self)} scans, {self.frame['site'].nunique()} sites)"

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def sites(self) -> list[str]:
        """Site of each row."""
        return list(self.frame["site"])

    @property
    def heads(self) -> list[str]:
        """Person of each row."""
        return list(self.frame["participant_id"])

    @property
    def paths(self) -> list[Path]:
        """Folder, table or image of each row."""
        return [Path(p) for p in self.frame["path"]]

    @property
    def names(self) -> list[str]:
        """What the files of each row are to be called: sub-01, with session and site where it needs them."""
        plain = [f"sub-{_label(p)}" for p in self.heads]
        sessions = [f"_ses-{_label(s)}" if s else "" for s in self.frame["session_id"]]
        made = [p + s for p, s in zip(plain, sessions)]
        if len(set(made)) < len(made):
            made = [f"{p}_acq-{_label(t)}{s}" for p, t, s in zip(plain, self.sites, sessions)]
        seen: dict[str, int] = {}
        for i, name in enumerate(made):
            seen[name] = seen.get(name, 0) + 1
            made[i] = name if seen[name] == 1 else f"{name}_run-{seen[name]}"
        return made

    def where(self, row: int) -> str:
        """A row, for messages."""
        return f"{self.source.name}, line {self.lines[row]} ({self.heads[row]}, {self.sites[row]})"

    def rows(self, chosen: NDArray[np.bool_]) -> ScanTable:
        """Some of the rows."""
        return ScanTable(self.source, self.frame[chosen].reset_index(drop=True), self.lines[chosen])

    def usual_covariates(self) -> tuple[str, ...]:
        """Columns named age, sex or group that tell rows apart."""
        return tuple(
            c for c in USUAL if c in self.frame and self.frame[c].nunique(dropna=False) > 1
        )

    def check_covariates(self, names: Sequence[str]) -> None:
        """Refuse rows without a value, and ages below 0.

        Raises:
            FornixError: Names the row.
        """
        for name in (n for n in names if n in self.frame):
            values = self.frame[name]
            if values.isna().any():
                raise FornixError(
                    f"{self.where(int(np.flatnonzero(values.isna())[0]))}: no value of {name}; fill it in, "
                    "or leave the row out"
                )
            if not pd.api.types.is_numeric_dtype(values):
                continue
            if not np.isfinite(values.to_numpy(float)).all():
                bad = int(np.flatnonzero(~np.isfinite(values.to_numpy(float)))[0])
                raise FornixError(
                    f"{self.where(bad)}: {name} is not a finite number; repair the table"
                )
            if name.lower().startswith("age") and (values < 0).any():
                bad = int(np.flatnonzero(values.to_numpy() < 0)[0])
                raise FornixError(
                    f"{self.where(bad)}: {name} is {values[bad]:g}; an age is 0 or more"
                )


def read_scan_table(path: str | Path) -> ScanTable:
    """Read a study's table, TSV or CSV.

    Columns: `path` (a folder that `fornix run` wrote, a table of profiles or means, or an image in template
    space; relative to the table's folder), `site`, `participant_id` (the same for one head at several sites),
    `session_id`, and covariates.

    Raises:
        FornixError: A column, a site or a file is missing (said with its line), a file stands there twice.
    """
    source = Path(path)
    frame = read_table(source)
    found = {
        "path": _column(frame, _PATH), "site": _column(frame, ("site", "SITE", "scanner")),
        "participant_id": _column(frame, _SUBJECT), "session_id": _column(frame, _SESSION),
    }  # fmt: skip
    for name in ("path", "site"):
        if found[name] is None:
            raise FornixError(
                f"{source} has no column {name}; its columns are: {', '.join(map(str, frame))}"
            )
    frame = frame.rename(columns={old: new for new, old in found.items() if old is not None})
    lines = np.arange(len(frame)) + 2
    for name in ("path", "site"):
        if frame[name].isna().any():
            raise FornixError(
                f"{source.name}, line {lines[np.flatnonzero(frame[name].isna())[0]]}: no {name}; fill it in"
            )
    frame["site"] = [_text(s) for s in frame["site"]]
    absolute = [_absolute(source, str(p)) for p in frame["path"]]
    for line, place in zip(lines, absolute):
        if not place.exists():
            raise FornixError(
                f"{source.name}, line {line}: {place} does not exist; correct the path"
            )
    if "participant_id" not in frame:
        frame["participant_id"] = [subject_of(p.name.removesuffix(p.suffix)) for p in absolute]
    frame["participant_id"] = [_text(p).removeprefix("sub-") for p in frame["participant_id"]]
    if "session_id" not in frame:
        frame["session_id"] = ""
    frame["session_id"] = [
        "" if pd.isna(s) else _text(s).removeprefix("ses-") for s in frame["session_id"]
    ]
    frame["path"] = [str(p) for p in absolute]
    keys = ["path", "participant_id", "session_id"]
    if frame.duplicated(keys).any():
        again = int(np.flatnonzero(frame.duplicated(keys))[0])
        raise FornixError(
            f"{source.name}, line {lines[again]}: {frame['path'][again]} stands in the table twice; leave one"
        )
    return ScanTable(source, frame, lines)


def _absolute(source: Path, text: str) -> Path:
    """A path of the table: beside the table, or from where the command runs."""
    path = Path(text)
    beside = source.parent / path
    return path.absolute() if path.is_absolute() or not beside.exists() else beside.absolute()


def _column(frame: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((n for n in names if n in frame), None)


def _text(value: object) -> str:
    """A name; whole numbers that pandas read as fractions stay whole."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text) or "x"
