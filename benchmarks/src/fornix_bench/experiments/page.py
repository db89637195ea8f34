"""The page of an experiment: question, setting, tables, figures, and what is seen in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fornix_bench.table import Row, environment, markdown, write_csv, write_page


@dataclass(frozen=True)
class Table:
    """A table of the page: a line of heading, its rows and columns (None: all of the first row)."""

    heading: str
    rows: Sequence[Row]
    columns: Sequence[str] | None = None


@dataclass(frozen=True)
class Page:
    """What an experiment found.

    name: of the command. seen: sentences that the numbers say. figures: file names and what they
    show. rows: of the CSV.
    """

    name: str
    title: str
    question: str
    setting: str
    rows: Sequence[Row]
    tables: Sequence[Table]
    figures: Sequence[tuple[str, str]]
    seen: Sequence[str]


def write(folder: Path, page: Page, threads: int, seed: int, quick: bool) -> Path:
    """NAME.csv and NAME.md into the folder; the figures are there already."""
    write_csv(folder / f"{page.name}.csv", page.rows)
    command = f"fornix experiment {page.name}" + (" --quick" if quick else "")
    command += f" --seed {seed}" if seed else ""
    blocks = [f"**Question.** {page.question}", f"**Setting.** {page.setting}", "## What is seen"]
    blocks.append("\n".join(f"* {line}" for line in page.seen))
    if quick:
        blocks.append(
            "Made with `--quick`: far too small to conclude from, only to see that it runs."
        )
    for file, text in page.figures:
        blocks.append(f"![{text}]({file})\n\n*{text}*")
    for table in page.tables:
        blocks += [f"## {table.heading}", markdown(table.rows, table.columns)]
    blocks += ["## Made again by", f"    {command}"]
    blocks.append(f"All rows are in {page.name}.csv. {environment(threads, seed)}.")
    return write_page(folder / f"{page.name}.md", page.title, blocks)


def pick(rows: Sequence[Row], **wanted: object) -> Row:
    """The one row with these values."""
    found = [r for r in rows if all(r.get(k) == v for k, v in wanted.items())]
    if len(found) != 1:
        raise KeyError(f"{len(found)} rows have {wanted}")
    return found[0]


def percent(value: float, reference: float) -> str:
    """`12% below` or `5% above` a reference."""
    change = 100 * (value / reference - 1)
    return f"{abs(change):.0f}% {'above' if change > 0 else 'below'}"
