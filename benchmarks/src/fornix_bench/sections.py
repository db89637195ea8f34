"""Suites of several sections: each has a table of its own, and all share a page."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fornix.core.compute import use_threads
from fornix_bench.table import Row, write_csv

#: Rows of a section, from whether it is the quick one and the seed.
Section = Callable[[bool, int], list[Row]]


def run_sections(
    stem: str, makers: Mapping[str, Section], out: str | Path, threads: int, quick: bool, seed: int,
    sections: Sequence[str],
) -> list[Row]:  # fmt: skip
    """Write STEM_SECTION.csv of the sections asked for, all if none is; others stay as they are."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with use_threads(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, make in makers.items():
            if not sections or name in sections:
                found = make(quick, seed)
                write_csv(folder / f"{stem}_{name}.csv", found)
                rows += found
    return rows
