"""`fornix bench commands`: it runs on a small head, and its rows hold what the page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from fornix.core.errors import FornixError
from fornix_bench.suites import commands


def test_quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "TASKS", commands.TASKS[:2])
    rows = commands.run_commands(tmp_path, threads=1, quick=True)
    assert [r["command"] for r in rows] == [
        "fornix info", "fornix microstructure --models dti --method wls", "import fornix",
    ]  # fmt: skip
    # A whole process takes longer than the import of the package, and more memory than its parent lends.
    assert all(r["seconds"] > rows[-1]["seconds"] and r["peak_mb"] > 100 for r in rows[:-1])
    page = (tmp_path / "commands.md").read_text()
    assert "| fornix info |" in page and "peak_mb" in page


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(FornixError, match="does not exist"):
        commands._fornix(["info", str(tmp_path / "none.nii.gz")], tmp_path)
