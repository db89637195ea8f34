"""Tables of results: CSV for machines, Markdown for readers, with what is needed to read them."""

from __future__ import annotations

import csv
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fornix.core.compute import available_threads
from fornix_bench.peers import microstructure as peers

Row = dict[str, Any]


def environment(threads: int, seed: int) -> str:
    """One line: cores, threads, seed and versions. No date: the same code gives the same file."""
    ours = {name: version(name) for name in ("numpy", "torch", "numba")}
    parts = [f"{name} {v}" for name, v in {**peers.versions(), **ours}.items()]
    cores = available_threads()
    return (
        f"{platform.machine()}, {cores} cores, {threads} threads, seed {seed}, "
        f"Python {platform.python_version()}, " + ", ".join(parts)
    )


def show(value: Any) -> str:
    """A cell: three significant digits for fractions, thousands separated for large numbers."""
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        if abs(value) >= 100:
            return f"{value:,.0f}"
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def markdown(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """A Markdown table of the rows."""
    names = list(columns or rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(show(r.get(n)) for n in names) + " |" for r in rows]
    return "\n".join(lines)


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    """All rows, the union of their columns in order of appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return path


def read_csv(path: Path) -> list[Row]:
    """The rows that `write_csv` wrote: numbers as numbers, empty cells left out."""
    with path.open(newline="") as file:
        return [{k: _value(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def _value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def write_page(path: Path, title: str, blocks: Sequence[str]) -> Path:
    """A Markdown page: the title, then the blocks with a blank line between them."""
    path.write_text(f"# {title}\n\n" + "\n\n".join(blocks) + "\n")
    return path
