"""The page on adding a method is true: its file, its line and its test work in a copy of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fornix
from fornix.io import save_scan

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "adding-a-method.md"


def add_line(table: Path, block: str, name: str) -> None:
    """Put the block's import at the top of the table's file and its entry at the end of the table."""
    lines = block.strip().splitlines()
    imports = [line for line in lines if line.startswith("from ")]
    [entry] = [line for line in lines if line.startswith("Method(")]
    source = table.read_text("utf-8")
    last_import = source.rindex("\nfrom fornix.core.methods import")
    source = f"{source[:last_import]}\n{chr(10).join(imports)}{source[last_import:]}"
    start = source.index(f"{name} = MethodTable(")
    end = source.index("\n    ],", start)
    table.write_text(f"{source[:end]}\n        {entry}{source[end:]}", "utf-8")


@pytest.mark.slow
def test_one_file_one_line_one_test(tmp_path: Path, fences) -> None:
    package = tmp_path / "src" / "fornix"
    package.mkdir(parents=True)
    for part in Path(fornix.__file__).parent.iterdir():  # links, but for the package that changes
        if part.name == "preprocess":
            shutil.copytree(part, package / part.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif part.name != "__pycache__":
            (package / part.name).symlink_to(part)

    method, line, test = [f for f in fences(PAGE) if f.title]
    (tmp_path / method.title).write_text(method.code, "utf-8")
    add_line(tmp_path / line.title, line.code, "DENOISE_METHODS")
    (tmp_path / test.title).parent.mkdir(parents=True)
    (tmp_path / test.title).write_text(test.code, "utf-8")

    phantom = fornix.simulate(protocol="dti6", voxel_size=8, seed=0, threads=1)
    save_scan(phantom.dwi, tmp_path / "dwi.nii.gz")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    for command in (
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", test.title],
        ["-m", "fornix", "denoise", "dwi.nii.gz", "--method", "median", "-o", "out"],
        ["-m", "fornix", "cite"],
    ):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert (tmp_path / "out" / "dwi_desc-preproc_dwi.nii.gz").exists()
    assert "Tukey" in done.stdout
