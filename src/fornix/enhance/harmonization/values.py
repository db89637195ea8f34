"""Measurements of a study's rows: along and over tracts, in parcels, at every voxel of a template."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fornix.analysis.measurements import Measurements
from fornix.analysis.profile_tables import read_table
from fornix.core.errors import FornixError
from fornix.enhance.harmonization import rish_study, template_maps
from fornix.enhance.harmonization.table import ScanTable
from fornix.register.grids import Lattice

#: What is harmonized.
LEVELS = ("means", "profiles", "parcels", "voxels")
#: Features of the signal, which scans are scaled by.
SIGNAL = "signal"


@dataclass(frozen=True, eq=False)
class StudyValues:
    """Values of all rows.

    Attributes:
        level: One of LEVELS, or SIGNAL.
        maps: By name, a row per row of the table.
        lattice: Of voxels.
    """

    level: str
    maps: dict[str, Measurements]
    lattice: Lattice | None = None

    def __repr__(self) -> str:
        return f"StudyValues({self.level}: {', '.join(self.maps)})"


def read_values(
    table: ScanTable,
    level: str = "auto",
    maps: Sequence[str] = (),
    parcels: Path | None = None,
    lattice: Lattice | None = None,
    reference: str | None = None,
    known: Collection[str] = (),
) -> StudyValues:
    """What the rows of a table hold.

    Args:
        table: Of the study.
        level: `means` or `profiles` of tracts, `parcels`, `voxels`; `auto`: the profiles or means of tables
            and of folders that have them, else voxels; SIGNAL: log energies of the signal.
        maps: Those to take; all that every row has if none is named.
        parcels: Labels in template space, for `parcels`.
        lattice: Grid that voxels must lie on; the first row's if absent.
        reference: Of the signal: site whose scans tell all features.
        known: Of the signal: sites whose shells are among the features; all if empty.

    Raises:
        FornixError: A row holds nothing of the kind, a map without a number, or lies on another grid.
    """
    if level == SIGNAL:
        wanted = [rish_study.feature_of(name) for name in maps]
        return StudyValues(
            level, *rish_study.read_features(table, wanted, reference or "", known, lattice)
        )
    if level not in (*LEVELS, "auto"):
        raise FornixError(f"--on {level} is unknown; choose one of: {', '.join(LEVELS)}, auto")
    if level == "parcels" and parcels is None:
        raise FornixError("--on parcels needs labels in template space: give --parcels IMAGE")
    first = table.paths[0]
    image = template_maps.is_image(first)
    if level == "auto":
        folder_has = first.is_dir() and any(first.glob("*_desc-profiles_tracts.tsv"))
        level = "voxels" if image or (first.is_dir() and not folder_has) else "profiles"
    if level in ("voxels", "parcels"):
        made = template_maps.read(table, maps, parcels if level == "parcels" else None, lattice)
        return StudyValues(level, *made)
    return StudyValues(level, _tables(table, level, maps))


def table_file(path: Path, level: str, where: str) -> Path:
    """The table of a row: itself, or that of its folder.

    Args:
        path: Of the row.
        level: `means` or `profiles`.
        where: The row, for messages.
    """
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*_desc-{level}_tracts.tsv"))
    if len(found) != 1:
        raise FornixError(
            f"{where}: {path} holds {len(found)} tables of {level} (…_desc-{level}_tracts.tsv), one "
            "is needed; "
            "fornix run and fornix profile write it"
        )
    return found[0]


def row_table(table: ScanTable, row: int, level: str) -> pd.DataFrame:
    """The long table (tractID, nodeID, map, value, std) of one row.

    Args:
        table: Of the study.
        row: Its number.
        level: `means` or `profiles`.
    """
    where = table.where(row)
    made = read_table(table_file(table.paths[row], level, where))
    lacking = [c for c in ("tractID", "nodeID", "map", "value") if c not in made]
    if lacking:
        raise FornixError(
            f"{where}: {table.paths[row].name} has no column {lacking[0]}; a table of profiles has tractID, "
            "nodeID, map, value and std"
        )
    for column, wanted in (
        ("subjectID", table.heads[row]), ("sessionID", table.frame["session_id"][row])
    ):  # fmt: skip
        if column in made and wanted:
            mine = made[column].astype(str).str.replace("^(sub|ses)-", "", regex=True) == wanted
            if not mine.any():
                raise FornixError(f"{where}: {table.paths[row].name} has no rows of {wanted}")
            made = made[mine]
    if made.duplicated(["tractID", "nodeID", "map"]).any():
        raise FornixError(
            f"{where}: {table.paths[row].name} has a node twice; give one table per scan, or a "
            "column subjectID"
        )
    return made


def _tables(table: ScanTable, level: str, maps: Sequence[str]) -> dict[str, Measurements]:
    rows = [row_table(table, i, level) for i in range(len(table))]
    offered = [list(dict.fromkeys(r["map"].dropna())) for r in rows]
    shared = [m for m in offered[0] if all(m in o for o in offered)]
    for name in maps:
        for i, o in enumerate(offered):
            if name not in o:
                raise FornixError(
                    f"{table.where(i)}: no map {name}; it holds: {', '.join(o) or 'none'}"
                )
    chosen = list(maps) or shared
    if not chosen:
        raise FornixError(
            f"no map is in all rows of {table.source.name}; {table.where(0)} holds {', '.join(offered[0])}"
        )
    return {name: _pivoted(table, rows, name) for name in chosen}


def _pivoted(table: ScanTable, rows: Sequence[pd.DataFrame], name: str) -> Measurements:
    mine = [r[(r["map"] == name) & r["nodeID"].notna()] for r in rows]
    keys = [pd.MultiIndex.from_arrays([r["tractID"], r["nodeID"].astype(int)]) for r in mine]
    every = keys[0]
    for k in keys[1:]:
        every = every.union(k, sort=False)
    every = every.sort_values()
    values = np.full((len(rows), len(every)), np.nan)
    std = np.full(values.shape, np.nan)
    for i, (r, k) in enumerate(zip(mine, keys)):
        at = every.get_indexer(k)
        values[i, at] = r["value"].to_numpy(float)
        if "std" in r:
            std[i, at] = r["std"].to_numpy(float)
        if not np.isfinite(values[i]).any():
            raise FornixError(f"{table.where(i)}: the map {name} has no value that is a number")
    return Measurements(
        tuple(table.heads), tuple(t for t, _ in every), np.array([n for _, n in every], np.int64),
        values, std if np.isfinite(std).any() else None, name,
        sessions=tuple(table.frame["session_id"]) if (table.frame["session_id"] != "").any() else (),
    )  # fmt: skip


def aligned(made: Measurements, tracts: Sequence[str], nodes: NDArray[np.int64]) -> Measurements:
    """Measurements on a model's columns: those that rows lack are NaN, those it does not know left out.

    Args:
        made: From `read_values`.
        tracts: (V,) of the model.
        nodes: (V,) of the model.

    Raises:
        FornixError: None of the columns is known.
    """
    own = pd.MultiIndex.from_arrays([list(made.tracts), made.nodes])
    at = own.get_indexer(pd.MultiIndex.from_arrays([list(tracts), nodes]))
    if (at < 0).all():
        raise FornixError(
            f"the model knows none of the columns of {made.map} ({made.tracts[0]}, …); it was fitted to "
            f"{tracts[0]}, …: take the same tracts and number of nodes"
        )
    there = at >= 0
    values = np.where(there, made.values[:, at], np.nan)
    std = None if made.std is None else np.where(there, made.std[:, at], np.nan)
    return Measurements(
        made.subjects, tuple(tracts), nodes, values, std, made.map, made.reasons, made.sessions
    )
