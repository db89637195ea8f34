"""Tables of many subjects in: tract profiles, scalars, edge matrices, participants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fornix.analysis.measurements import Measurements
from fornix.core.errors import FornixError, tell
from fornix.io.files import input_file

#: Names that the column of subjects goes by.
_SUBJECT = ("subjectID", "participant_id", "subject")
_SESSION = ("sessionID", "session_id", "session")
_MATRIX = "_relmat.tsv"


def read_measurements(paths: Sequence[str | Path], which: str | None = None) -> Measurements:
    """One map of many subjects.

    Args:
        paths: Tables of profiles in long form (tractID, nodeID, map, value, std, reason; one file per
            subject, or a column `subjectID`), pyAFQ's table (tractID, nodeID, subjectID and a column per
            map), tables of a row per subject and a column per scalar, or edge matrices
            (`…_relmat.tsv`, one per subject).
        which: Map to take; needed where tables hold several.
    """
    if not paths:
        raise FornixError("no tables were given; name one per subject, or one of all")
    if all(str(p).endswith(_MATRIX) for p in paths):
        return _matrices(paths)
    frames = []
    for path in paths:
        table = read_table(path)
        if "tractID" in table and "value" in table:
            table["map"] = table["map"].astype(str) if "map" in table else which or "value"
        elif "tractID" in table:
            table = _melted(table, which, path)
        else:
            table = _scalars(table, path)
            which = which if which and (table["map"] == which).any() else None
        if _column(table, _SUBJECT) is None:
            table["subjectID"] = subject_of(path)
        frames.append(table.rename(columns={_column(table, _SUBJECT): "subjectID"}))
    return _pivoted(pd.concat(frames, ignore_index=True), which)


def read_table(path: str | Path) -> pd.DataFrame:
    """A TSV or CSV file; `n/a` is missing, and names stay text."""
    path = input_file(path, "table")
    separator = "," if path.suffix == ".csv" else "\t"
    names = dict.fromkeys((*_SUBJECT, *_SESSION, "tractID", "reason", "map"), str)
    try:
        table = pd.read_csv(
            path, sep=separator, na_values=["n/a"], dtype=names, encoding="utf-8-sig"
        )
    except (ValueError, OSError) as error:
        raise FornixError(f"{path} is not a readable table: {str(error)[:80]}") from None
    if table.empty:
        raise FornixError(f"{path} has no rows")
    return table.drop(columns=[c for c in table if str(c).startswith("Unnamed")])


def read_participants(path: str | Path) -> pd.DataFrame:
    """A table of subjects; its column of subjects is called `participant_id`, `sub-` left out."""
    table = read_table(path)
    column = _column(table, _SUBJECT)
    if column is None:
        raise FornixError(
            f"{path} has no column {' or '.join(_SUBJECT)}; its columns are: {', '.join(table)}"
        )
    table = table.rename(columns={column: "participant_id"})
    session = _column(table, _SESSION)
    table = table.rename(columns={session: "session_id"}) if session else table
    table["participant_id"] = table["participant_id"].map(_plain)
    keys = [c for c in ("participant_id", "session_id") if c in table]
    if table.duplicated(keys).any():
        again = table.loc[table.duplicated(keys), "participant_id"].iloc[0]
        raise FornixError(f"{path} has subject {again} twice; give each one row (per session_id)")
    return table


def subject_of(path: str | Path) -> str:
    """The subject a file's name begins with: `sub-01` of `sub-01_ses-2_…`, or all before the first `_`."""
    return Path(path).name.split("_")[0]


def _plain(name: object) -> str:
    return str(name).removeprefix("sub-")


def _column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((n for n in names if n in table), None)


def _melted(table: pd.DataFrame, which: str | None, path: str | Path) -> pd.DataFrame:
    """PyAFQ's table: a column per map."""
    keys = [c for c in table if c in ("tractID", "nodeID", *_SUBJECT, *_SESSION)]
    maps = [c for c in table.select_dtypes("number") if c not in keys]
    if which is not None and which not in maps:
        raise FornixError(f"{path} has no column {which}; it has: {', '.join(maps)}")
    return table.melt(keys, [which] if which else maps, var_name="map")


def _scalars(table: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """A row per subject: each column of numbers is a tract of one node."""
    keys = [c for c in table if c in (*_SUBJECT, *_SESSION)]
    numbers = [c for c in table.select_dtypes("number") if c not in keys]
    if not numbers or _column(table, _SUBJECT) is None:
        raise FornixError(
            f"{path} is no table of profiles (tractID, nodeID, map, value, std) nor of scalars "
            f"(subjectID and numbers); its columns are: {', '.join(map(str, table))}"
        )
    long = table.melt(keys, numbers, var_name="tractID")
    return long.assign(nodeID=0, map="value")


def _pivoted(table: pd.DataFrame, which: str | None) -> Measurements:
    maps = list(table["map"].dropna().unique())
    if which is None and len(maps) != 1:
        raise FornixError(f"the tables hold the maps {', '.join(maps)}; choose one with --map")
    which = which or maps[0]
    # A missing tract is a row with a reason, and may name no map.
    empty = table["value"].isna()
    mine = table[(table["map"] == which) | (table["map"].isna() & empty)].copy()
    if mine["value"].notna().sum() == 0:
        raise FornixError(f"no table holds values of the map {which}; they hold: {', '.join(maps)}")
    mine["subjectID"] = mine["subjectID"].map(_plain)
    session = _column(mine, _SESSION)
    row = ["subjectID", session] if session else ["subjectID"]
    filled = mine[mine["value"].notna()].copy()
    filled["nodeID"] = filled["nodeID"].astype(int)
    if filled.duplicated([*row, "tractID", "nodeID"]).any():
        twice = filled.loc[filled.duplicated([*row, "tractID", "nodeID"])].iloc[0]
        raise FornixError(
            f"subject {twice['subjectID']} has node {twice['nodeID']} of {twice['tractID']} twice; give one "
            "file per subject, or a column session_id"
        )
    values = filled.pivot(index=row, columns=["tractID", "nodeID"], values="value").sort_index(
        axis=1
    )
    people = mine[row].drop_duplicates().sort_values(row)
    index = pd.MultiIndex.from_frame(people) if session else pd.Index(people["subjectID"])
    values = values.reindex(index)
    std = None
    if "std" in filled and filled["std"].notna().any():
        std = (
            filled.pivot(index=row, columns=["tractID", "nodeID"], values="std")
            .sort_index(axis=1).reindex(index).to_numpy(float)
        )  # fmt: skip
    reasons = {}
    if "reason" in mine:
        told = mine[mine["reason"].notna()]
        reasons = {
            (s, t): str(r) for s, t, r in zip(told["subjectID"], told["tractID"], told["reason"])
        }
    found = Measurements(
        tuple(people["subjectID"]), tuple(t for t, _ in values.columns),
        np.array([n for _, n in values.columns], np.int64), values.to_numpy(float), std, which,
        reasons, tuple(people[session].astype(str)) if session else (),
    )  # fmt: skip
    _say_uneven(found)
    return found


def _say_uneven(found: Measurements) -> None:
    """Say which tracts subjects lack, and refuse profiles of different numbers of nodes."""
    known = np.isfinite(found.values)
    lacking, uneven = {}, []
    for tract, span in found.spans().items():
        n = known[:, span].sum(1)
        full = n.max()
        lacking[tract] = int((n == 0).sum())
        # Few holes are nodes outside a map; profiles of another length are another sampling.
        if ((n > 0) & (n < 0.6 * (span.stop - span.start))).any() and full > 1:
            uneven.append(tract)
    if uneven:
        raise FornixError(
            f"subjects have different numbers of nodes in {', '.join(uneven[:3])}; make all profiles with "
            "the same number"
        )
    missing = {t: n for t, n in lacking.items() if n}
    if missing:
        worst = sorted(missing.items(), key=lambda item: -item[1])[:4]
        tell(
            f"{len(missing)} tracts are missing in some subjects and are compared among the others: "
            + ", ".join(f"{t} in {n}" for t, n in worst)
            + (" …" if len(missing) > 4 else "")
        )


def _matrices(paths: Sequence[str | Path]) -> Measurements:
    """Edges of one matrix per subject; an edge is a tract of one node, named by its two rows."""
    tables: list[NDArray[np.float64]] = []
    subjects: list[str] = []
    for path in paths:
        try:
            table = np.genfromtxt(input_file(path), delimiter="\t", missing_values="n/a")
        except ValueError as error:
            raise FornixError(f"{path} is not a matrix: {str(error)[:80]}") from None
        if table.ndim != 2 or table.shape[0] != table.shape[1]:
            raise FornixError(f"{path} is not a square matrix but {table.shape}")
        if tables and table.shape != tables[0].shape:
            raise FornixError(f"{path} has {len(table)} nodes, the first matrix {len(tables[0])}")
        tables.append(table)
        subjects.append(_plain(subject_of(path)))
    a, b = np.triu_indices(len(tables[0]), 1)
    values = np.stack([t[a, b] for t in tables])
    there = np.nan_to_num(values).any(0)
    if not there.any():
        raise FornixError("no matrix holds an edge; nothing can be compared")
    found = re.search(r"desc-([A-Za-z0-9]+)_", Path(paths[0]).name)
    names = tuple(f"{i + 1}-{j + 1}" for i, j in zip(a[there], b[there]))
    return Measurements(
        tuple(subjects), names, np.zeros(int(there.sum()), np.int64), values[:, there],
        map=found[1] if found else "edge",
    )  # fmt: skip
