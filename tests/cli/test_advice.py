"""Every message that names an option is followed: the option is there, and with it the command goes on."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner

import fornix
from fornix.cli.app import app

COMMANDS = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
#: Commands that read a scan.
READERS = (
    "info",
    "mask",
    "denoise",
    "correct",
    "microstructure",
    "fod",
    "track",
    "predict",
    "report",
    "run",
)
SHARED = {
    "--mask", "--b0-threshold", "--exclude", "--max-memory", "--seed", "--threads", "--device",
}  # fmt: skip


def options_of(name: str) -> set[str]:
    return {
        o for p in COMMANDS[name].params for o in (*p.opts, *p.secondary_opts) if o.startswith("--")
    }


@pytest.mark.parametrize("name", READERS)
def test_a_scan_s_options_are_the_same_everywhere(name):
    assert options_of(name) >= SHARED
    for parameter in COMMANDS[name].params:
        for reference in COMMANDS["run"].params:
            if parameter.name == reference.name and parameter.name in {
                o[2:].replace("-", "_") for o in SHARED
            }:
                assert parameter.help == reference.help and parameter.default == reference.default


def test_options_named_in_messages_exist():
    """In every string of the package outside the command line itself."""
    single = [
        c for group in COMMANDS.values() for c in getattr(group, "commands", {"": group}).values()
    ]
    known = {o for c in single for p in c.params for o in (*p.opts, *p.secondary_opts)}
    known |= {"--help", "--debug"}
    unknown = []
    for path in Path(fornix.__file__).parent.rglob("*.py"):
        if "cli" in path.parts or path.name == "page.py":  # a style sheet's --names
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                unknown += [(path.name, o) for o in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", node.value)
                            if o not in known]  # fmt: skip
    assert not unknown


@pytest.fixture(scope="module")
def good(simulated) -> Path:
    """A small head of three b0s and 30 directions, with its mask."""
    return simulated("dti30", 8)


def trace_at_the_end(scan: Path) -> None:
    image, bvals, bvecs = read(scan)
    trace = image.get_fdata(dtype=np.float32)[..., bvals > 50].mean(-1, keepdims=True)
    write(scan, image, np.append(bvals, 1000), np.c_[bvecs, np.zeros(3)], trace)


def negative_b(scan: Path) -> None:
    image, bvals, bvecs = read(scan)
    bvals[7] = -1
    write(scan, image, bvals, bvecs)


def nan_vectors(scan: Path) -> None:
    image, bvals, bvecs = read(scan)
    bvecs[:, [5, 9]] = np.nan
    write(scan, image, bvals, bvecs)


def b0s_at_100(scan: Path) -> None:
    image, bvals, bvecs = read(scan)
    write(scan, image, np.where(bvals < 50, 100, bvals), bvecs)


def empty_volume(scan: Path) -> None:
    image, bvals, bvecs = read(scan)
    data = image.get_fdata(dtype=np.float32)
    data[..., 6] = 0
    write(scan, image, bvals, bvecs, data=data)


def other_names(scan: Path) -> None:
    for extension in ("bval", "bvec"):
        beside = scan.with_name(f"sub-phantom_dwi.{extension}")
        beside.rename(beside.with_name(f"other.{extension}"))


def read(scan: Path):
    import nibabel as nib

    base = str(scan).removesuffix(".nii.gz")
    return nib.load(scan), np.loadtxt(f"{base}.bval"), np.loadtxt(f"{base}.bvec")


def write(scan, image, bvals, bvecs, more=None, data=None) -> None:
    import nibabel as nib

    values = image.get_fdata(dtype=np.float32) if data is None else data
    values = values if more is None else np.concatenate([values, more], axis=3)
    nib.save(nib.Nifti1Image(values, image.affine), scan)
    base = str(scan).removesuffix(".nii.gz")
    np.savetxt(f"{base}.bval", bvals[None], fmt="%g")
    np.savetxt(f"{base}.bvec", bvecs, fmt="%.7f")


#: What is done to the scan, and how the words after an option of the message are completed.
HARMS: list[tuple[Callable[[Path], None], str]] = [
    (trace_at_the_end, r"--exclude (\S+)"),
    (negative_b, r"--exclude (\S+)"),
    (nan_vectors, r"--exclude (\S+)"),
    (b0s_at_100, r"--b0-threshold (\S+?);"),
    (empty_volume, r"--exclude (\S+)"),
]


@pytest.mark.parametrize(
    "command", ["info", "mask", "microstructure", "denoise", "fod", "run", "predict"]
)
@pytest.mark.parametrize(("harm", "advice"), HARMS, ids=lambda v: getattr(v, "__name__", ""))
def test_following_the_advice_helps(good, tmp_path, harm, advice, command):
    folder = tmp_path / "scan"
    shutil.copytree(good, folder)
    scan = folder / "sub-phantom_dwi.nii.gz"
    harm(scan)
    words = [command, str(scan)] + ([] if command == "info" else ["-o", str(tmp_path / "out")])
    table = [str(good / "sub-phantom_dwi.bval"), "--bvec", str(good / "sub-phantom_dwi.bvec")]
    words += {
        "microstructure": ["--method", "classical"], "fod": ["--method", "csd"],
        "run": ["--method", "classical", "--fod-method", "csd", "--streamlines", "0", "--no-tracts"],
        "predict": ["--bval", *table, "--method", "encoder", "--no-adapt"],
    }.get(command, [])  # fmt: skip
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 1 and first.exception is not None
    message = str(first.exception)
    assert "\n" not in message
    found = re.search(advice, message)
    assert found, message
    option = found[0].split()[0]
    second = CliRunner().invoke(app, [*words, option, found[1].rstrip(";,)")])
    assert second.exit_code == 0, second.exception


@pytest.mark.parametrize("text", ["5 6", "5,6", "5, 6", " 5 ,6 ", "5-6"])
def test_lists_of_volumes(good, text):
    scan = str(good / "sub-phantom_dwi.nii.gz")
    done = CliRunner().invoke(app, ["info", scan, "--json", "--exclude", text])
    assert done.exit_code == 0 and "volumes [5, 6] were left out" in done.output


@pytest.mark.parametrize("text", ["5;6", "5,,6", "6-5", "a", "5.0", "-3", "5-", "0x5", "5,"])
def test_lists_that_cannot_be_read_are_wrong_usage(good, text):
    done = CliRunner().invoke(
        app, ["info", str(good / "sub-phantom_dwi.nii.gz"), f"--exclude={text}"]
    )
    assert done.exit_code == 2 and "5,17,20-25" in done.output.replace("\n", "")


def test_a_table_of_another_name_is_given_by_its_options(good, tmp_path):
    folder = tmp_path / "scan"
    shutil.copytree(good, folder)
    scan = folder / "sub-phantom_dwi.nii.gz"
    other_names(scan)
    first = CliRunner().invoke(app, ["info", str(scan)])
    assert "--bval" in str(first.exception)
    words = [
        "info",
        str(scan),
        "--bval",
        str(folder / "other.bval"),
        "--bvec",
        str(folder / "other.bvec"),
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
