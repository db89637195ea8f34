"""Studies of known site effects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.studies import Made, made, write_study


@pytest.fixture
def cohort() -> Callable[..., Made]:
    return made


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Write a cohort as files."""

    def write(cohort: Made | None = None, name: str = "study", **options: object) -> Path:
        return write_study(tmp_path / name, cohort or made(each=12, columns=6), **options)  # type: ignore[arg-type]

    return write
