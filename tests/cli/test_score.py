"""`fornix simulate --bundles`, then `fornix score`: as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fornix.core.tractogram import Tractogram
from fornix.io import save_tractogram

AFFINE, GRID = np.diag([2.0, 2.0, 2.0, 1.0]), (30, 30, 30)


def fornix(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "fornix", *map(str, words)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    """A scan of two crossing rods."""
    folder = tmp_path_factory.mktemp("phantom")
    rng = np.random.default_rng(0)
    along = np.linspace(0, 60, 30)
    for name, axis in (("across", 0), ("along", 1)):
        lines = []
        for _ in range(30):
            line = np.full((30, 3), 30.0)
            line[:, axis] = along
            lines.append(line + rng.uniform(-3, 3, 3))
        (folder / "bundles").mkdir(exist_ok=True)
        save_tractogram(
            Tractogram.from_list(lines, AFFINE, GRID), folder / "bundles" / f"{name}.tck"
        )
    done = fornix(
        "simulate", "--bundles", folder / "bundles", "-o", folder / "out", "--protocol", "dti12",
        "--voxel-size", "4", "--seed", "2", "--deform", "1", "--thin", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_the_truth_lies_beside_the_scan(phantom: Path):
    scan = nib.load(phantom / "sub-phantom_dwi.nii.gz")
    for name in ("mu", "fraction", "odi", "tissue", "bundles", "fod", "peaks"):
        image = nib.load(phantom / "truth" / f"sub-phantom_param-{name}_dwimap.nii.gz")
        assert image.shape[:3] == scan.shape[:3]
    index = json.loads((phantom / "truth" / "bundles.json").read_text())
    assert [b["Name"] for b in index["Bundles"]] == ["across", "along"]
    assert [b["Count"] for b in index["Bundles"]] == [30, 30]


def test_score_of_the_truth_itself(phantom: Path, tmp_path: Path):
    lines = phantom / "truth" / "bundles" / "across.trx"
    done = fornix("score", lines, phantom / "truth", "-o", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr
    assert "VS 100.0%" in done.stdout and "VB 1 of 2, IB 0" in done.stdout
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["VS"] == 100 and found["Bundles"][0]["overlap"] > 0.95
    assert found["Bundles"][1]["f1"] == 0 and found["F1"] < 0.5


def test_errors_are_one_line(phantom: Path, tmp_path: Path):
    for words, told in (
        (("score", tmp_path / "x.trx", phantom), "does not exist"),
        (("score", phantom / "sub-phantom_dwi.nii.gz", phantom), "a tractogram is one of"),
        (("score", phantom / "truth" / "bundles" / "along.trx", tmp_path), "holds no bundles.json"),
        (("simulate", "--bundles", tmp_path, "-o", tmp_path / "o"), "holds no bundle"),
    ):
        done = fornix(*words)
        assert done.returncode == 1
        assert done.stderr.count("error:") == 1 and told in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
