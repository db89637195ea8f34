"""A section that is asked for is made again; the others' tables stay as they are."""

from __future__ import annotations

from pathlib import Path

from fornix_bench.sections import run_sections
from fornix_bench.table import read_csv


def test_only_what_is_asked_for_is_made_again(tmp_path: Path) -> None:
    made = []

    def section(name: str):
        def make(quick: bool, seed: int):
            made.append((name, quick, seed))
            return [{"name": name, "seed": seed}]

        return make

    makers = {"a": section("a"), "b": section("b")}
    rows = run_sections("suite", makers, tmp_path / "out", 1, True, 3, ())
    assert [row["name"] for row in rows] == ["a", "b"]
    rows = run_sections("suite", makers, tmp_path / "out", 1, False, 4, ("b",))
    assert made == [("a", True, 3), ("b", True, 3), ("b", False, 4)]
    seeds = [int(read_csv(tmp_path / "out" / f"suite_{n}.csv")[0]["seed"]) for n in ("a", "b")]
    assert seeds == [3, 4] and len(rows) == 1
