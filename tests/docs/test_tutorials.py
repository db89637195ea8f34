"""The code of the tutorials runs as it stands, each in an empty folder, and its claims hold."""

from __future__ import annotations

from pathlib import Path

import pytest

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"
LESSONS = sorted(p for p in TUTORIALS.glob("*.md") if p.name != "index.md")


@pytest.mark.slow
@pytest.mark.parametrize("page", LESSONS, ids=lambda p: p.stem)
def test_a_tutorial_runs(page: Path, tmp_path: Path, run_page) -> None:
    run_page(page, tmp_path)


@pytest.mark.parametrize("page", LESSONS, ids=lambda p: p.stem)
def test_a_tutorial_is_listed(page: Path) -> None:
    assert f"]({page.name})" in (TUTORIALS / "index.md").read_text("utf-8")
