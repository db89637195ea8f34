"""`fornix track` with its choices, and what it says when they are wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fornix.io import load_tractogram, save_mask, save_scan
from fornix.physics import Phantom


def fornix(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "300", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "fornix", *map(str, words)],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(phantom: Phantom, tmp_path_factory) -> Path:
    """A scan, masks, and orientations made once."""
    made = tmp_path_factory.mktemp("track")
    save_scan(phantom.dwi, made / "dwi.nii.gz")
    save_mask(phantom.mask, phantom.dwi.affine, made / "mask.nii.gz")
    half = phantom.mask.copy()
    half[: half.shape[0] // 2] = False
    save_mask(half, phantom.dwi.affine, made / "half.nii.gz")
    save_mask(np.ones((3, 3, 3), bool), np.eye(4), made / "small.nii.gz")
    start = (made / "dwi.nii.gz", "-o", made / "out", "--mask", made / "mask.nii.gz")
    for words in (("microstructure", *start, "--models", "dti", "--method", "wls"),
                  ("fod", *start, "--method", "csd")):  # fmt: skip
        done = fornix(*words)
        assert done.returncode == 0, done.stderr
    return made


def run(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    mask = ("--mask", folder / "mask.nii.gz")
    return fornix("track", folder / "dwi.nii.gz", "-o", folder / "out", *mask, *words)


def test_choices_are_kept(folder: Path):
    words = ("--streamlines", "300", "--method", "ptt", "--seeding", "interface",
             "--exclude-region", folder / "half.nii.gz")  # fmt: skip
    done = run(folder, *words)
    assert done.returncode == 0, done.stderr
    made = load_tractogram(folder / "out" / "dwi_tractogram.trx")
    assert len(made) == 300
    voxel = np.rint((made.points - made.affine[:3, 3]) @ np.linalg.inv(made.affine[:3, :3]).T)
    assert voxel[:, 0].max() < made.grid[0] // 2
    assert "reused" in run(folder, *words).stdout


def test_errors_are_one_line(folder: Path):
    for words, told in (
        (("--seeds", folder / "small.nii.gz"), "small.nii.gz: the mask is on another grid"),
        (("--step", "0"), "step must be above 0"),
    ):
        done = run(folder, "--streamlines", "20", *words)
        assert done.returncode == 1, words
        assert done.stderr.count("error:") == 1 and told in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
