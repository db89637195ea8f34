"""Small heads as `fornix simulate` writes them, for tests of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fornix.cli.app import app


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """The folder of a head of this protocol and voxel size (mm), made once."""
    made: dict[tuple[str, int], Path] = {}

    def folder(protocol: str, size: int) -> Path:
        if (protocol, size) not in made:
            out = tmp_path_factory.mktemp("head")
            words = ["simulate", "-o", str(out), "--protocol", protocol, "--voxel-size", str(size)]
            assert CliRunner().invoke(app, [*words, "--snr", "30"]).exit_code == 0
            made[protocol, size] = out
        return made[protocol, size]

    return folder
