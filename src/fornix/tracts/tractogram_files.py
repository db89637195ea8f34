"""Streamlines of tracts as files: one tractogram with a group a tract, and a table beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fornix.core.errors import FornixError
from fornix.io import derivative, load_tractogram, save_tractogram, write_sidecar
from fornix.io.files import atomic
from fornix.tracts.tracking import TractStreamlines, TractTractogram

#: Columns of the table, and what they are.
COLUMNS = {
    "tractID": "name of the tract, and of its group in the tractogram",
    "count": "streamlines",
    "cut": "of these, streamlines that end where the scan does, short of an end of the tract",
    "mean_length_mm": "mean length, mm",
    "covered": "share of the voxels above the tract's threshold that streamlines pass through",
    "seeds": "seeds that were tried",
    "reason": "why there are fewer than were asked for",
}


def save_tract_tractogram(
    made: TractTractogram, folder: Path, stem: str, about: Mapping[str, Any]
) -> list[Path]:
    """Write STEM_desc-tracts_tractogram.trx and STEM_desc-tracking_streamlines.tsv.

    Args:
        made: From `track_tracts`.
        folder: Where to.
        stem: What the files' names begin with.
        about: More of what the sidecar says.
    """
    path, table = _paths(folder, stem)
    save_tractogram(made.tractogram, path)
    rows = ["\t".join(COLUMNS)]
    for one in made.tracts:
        length = f"{one.mean_length:.2f}" if one.count else "n/a"
        cells = [
            one.name, str(one.count), str(one.cut), length, f"{one.covered:.3f}", str(one.seeds),
            one.reason or "n/a",
        ]  # fmt: skip
        rows.append("\t".join(cells))
    with atomic(table) as temporary:
        temporary.write_text("\n".join(rows) + "\n")
    write_sidecar(
        path,
        {
            "Description": "streamlines of tracts, a group each", "Units": "mm",
            "Count": len(made.tractogram), **about,
        },
    )  # fmt: skip
    write_sidecar(table, {"Description": "streamlines of each tract", "Columns": COLUMNS, **about})
    return [path, table]


def load_tract_tractogram(folder: Path, stem: str) -> TractTractogram:
    """Read what `save_tract_tractogram` wrote.

    Raises:
        FornixError: A file is missing, or is not what it should be.
    """
    path, table = _paths(folder, stem)
    lines = load_tractogram(path)
    if not table.exists():
        raise FornixError(f"{table} is missing: make it with fornix tracts --streamlines")
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    if not rows or tuple(rows[0]) != tuple(COLUMNS):
        raise FornixError(f"{table} is not a table that this version of fornix tracts writes")
    tracts = tuple(
        TractStreamlines(
            name, int(count), int(cut), int(seeds), 0.0 if length == "n/a" else float(length),
            float(covered), "" if reason == "n/a" else reason,
        )
        for name, count, cut, length, covered, seeds, reason in rows[1:]
    )  # fmt: skip
    return TractTractogram(lines, tracts)


def _paths(folder: Path, stem: str) -> tuple[Path, Path]:
    return (
        folder / f"{stem}_desc-tracts_tractogram.trx",
        folder / derivative(stem, "streamlines", desc="tracking", extension=".tsv"),
    )
