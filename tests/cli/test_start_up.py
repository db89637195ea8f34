"""Classical commands do not wait for what only networks and reports need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

#: A second and half a second of start-up.
HEAVY = ("torch", "matplotlib")
COMMANDS = {
    "info": "info SCAN",
    "wls": "microstructure SCAN -o OUT --models dti --method wls",
    "csd": "fod SCAN -o OUT --method csd",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_heavy_is_loaded(
    name: str, simulated: Callable[[str, int], Path], tmp_path: Path
) -> None:
    scan = simulated("dti30", 5) / "sub-phantom_dwi.nii.gz"
    words = [
        w.replace("SCAN", str(scan)).replace("OUT", str(tmp_path)) for w in COMMANDS[name].split()
    ]
    code = f"import sys; sys.modules.update(dict.fromkeys({HEAVY})); from fornix.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
