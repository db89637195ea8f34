"""Scans and folders of any name, in every command that reads one, and in what is printed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fornix.cli.app import app
from fornix.io import load_maps, stem_of

NAMES = [
    "dwi [a]",
    "x[/b]",
    "mit Leerzeichen ö 脑",
    ".hidden",
    "-dash",
    "100% {x} $HOME *?",
    "a'b\"c",
    "sub-01_ses-2",
]


@pytest.fixture(scope="module")
def good(simulated) -> Path:
    return simulated("dti12", 10)


def put(good: Path, folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    for extension in ("nii.gz", "bval", "bvec", "json"):
        shutil.copy(good / f"sub-phantom_dwi.{extension}", folder / f"{name}_dwi.{extension}")
    return folder / f"{name}_dwi.nii.gz"


@pytest.mark.parametrize("name", [n for n in NAMES if "/" not in n])
def test_a_scan_of_any_name(good: Path, tmp_path: Path, name: str) -> None:
    scan = put(good, tmp_path / f"study {name}", name)
    out = tmp_path / f"out {name}"
    runner = CliRunner()
    assert runner.invoke(app, ["info", str(scan)]).exit_code == 0
    words = ["run", str(scan), "-o", str(out), "--method", "classical", "--fod-method", "csd",
             "--streamlines", "0", "--no-tracts", "--preprocess", "none"]  # fmt: skip
    for _ in range(2):  # anew, and from what is there
        done = runner.invoke(app, words)
        assert done.exit_code == 0, done.exception
        assert str(out) in done.output.replace("\n", "")
    again = runner.invoke(app, words)
    assert again.output.count("reused") >= 3
    assert {"dti_fa", "fod"} <= set(load_maps(out, stem_of(scan)))
    assert runner.invoke(app, ["report", str(scan), "-o", str(out)]).exit_code == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_not_there_is_shown_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.nii.gz"
    done = CliRunner().invoke(app, ["info", str(path)])
    assert done.exit_code == 1 and str(path) in str(done.exception)


@pytest.mark.parametrize("command", ["denoise", "correct", "run", "mask"])
def test_files_of_other_tools_are_left_alone(good: Path, tmp_path: Path, command: str) -> None:
    """A folder as preprocessing tools leave it, given as output."""
    scan = put(good, tmp_path / "qsiprep", "sub-01_space-ACPC_desc-preproc")
    mask = scan.with_name("sub-01_space-ACPC_desc-brain_mask.nii.gz")
    shutil.copy(good / "truth" / "sub-phantom_desc-brain_mask.nii.gz", mask)
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in scan.parent.iterdir()}
    for more in ([], ["--mask", str(mask)]):
        done = CliRunner().invoke(app, [command, str(scan), "-o", str(scan.parent), *more])
        assert done.exit_code == 1 and "another folder with -o" in str(done.exception)
    assert {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in scan.parent.iterdir()} == before


def test_a_mask_corrected_by_hand_in_its_place_is_taken(good: Path, tmp_path: Path) -> None:
    scan, out = put(good, tmp_path / "in", "sub-01"), tmp_path / "out"
    assert CliRunner().invoke(app, ["mask", str(scan), "-o", str(out)]).exit_code == 0
    mask = out / "sub-01_desc-brain_mask.nii.gz"
    shutil.copy(good / "truth" / "sub-phantom_desc-brain_mask.nii.gz", mask)
    drawn = mask.read_bytes()
    words = [
        "microstructure",
        str(scan),
        "-o",
        str(out),
        "--mask",
        str(mask),
        "--method",
        "classical",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert mask.read_bytes() == drawn


@pytest.mark.parametrize(
    "harm", ["", "{", "[]", '{"Steps": 3}', '{"Inputs": null, "Steps": {"mask": 1}}']
)
def test_harmed_records_are_made_anew(good: Path, tmp_path: Path, harm: str) -> None:
    scan, out = put(good, tmp_path / "in", "sub-01"), tmp_path / "out"
    words = ["microstructure", str(scan), "-o", str(out), "--method", "classical"]
    assert CliRunner().invoke(app, words).exit_code == 0
    for record in out.glob("*.json"):
        record.write_text(harm)
    # Sidecars say what Fornix made: without them the images might be another tool's.
    for image in (*out.glob("*_mask.nii.gz"), *out.glob("*_dwimap.nii.gz")):
        image.unlink()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception
