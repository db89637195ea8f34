"""Commands on one scan: what makes a step anew, and what it needs of the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fornix.cli.app import app
from fornix.io import load_tractogram, save_scan
from fornix.io.nifti import write_image


@pytest.fixture(scope="module")
def scan(phantom, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "sub-x_dwi.nii.gz"
    save_scan(phantom.dwi, path)
    return path


def command(*words: object) -> str:
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    return done.output


def test_another_seed_does_not_make_maps_again(scan, tmp_path):
    """They leave nothing to chance, so the seed is no part of what they depend on."""
    common = [
        "microstructure",
        scan,
        "-o",
        tmp_path,
        "--models",
        "dti",
        "--method",
        "wls",
        "--threads",
        1,
    ]
    command(*common, "--seed", 0)
    assert "reused" in command(*common, "--seed", 1).split("microstructure")[1]


def test_mask_takes_the_options_of_every_command(scan, tmp_path):
    words = [
        "mask",
        str(scan),
        "-o",
        str(tmp_path),
        "--seed",
        "1",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert CliRunner().invoke(app, [*words, "--models", "dti"]).exit_code == 2


def test_orientations_and_tissue_of_other_tools_need_no_maps(scan, phantom, tmp_path):
    """A tck file is read again on the grid of the mask: no tensor was made that could give one."""
    fod, tissue = tmp_path / "fod.nii.gz", tmp_path / "tissue.nii.gz"
    write_image(fod, phantom.truth["fod"].data, phantom.dwi.affine)
    anatomy = phantom.anatomy
    fractions = np.stack([anatomy.wm, anatomy.gm, anatomy.csf], -1).astype(np.float32)
    write_image(tissue, fractions, phantom.dwi.affine)
    out = tmp_path / "out"
    words = [
        "track", scan, "-o", out, "--fod", fod, "--tissue", tissue, "--tractogram", "tck",
        "--streamlines", 200, "--threads", 1,
    ]  # fmt: skip
    command(*words)
    assert not list(out.glob("*model-dti*"))
    assert "reused" in command(*words).split("track")[1]
    mask = out / "sub-x_desc-brain_mask.nii.gz"
    assert len(load_tractogram(out / "sub-x_tractogram.tck", reference=mask)) == 200


def test_the_sidecar_says_which_b_the_tensor_describes(scan, tmp_path):
    for method, field, value in (
        ("voxelwise", "ReferenceBValue", 1000),
        ("wls", "BValues", [0, 1000]),
    ):
        out = tmp_path / method
        command(
            "microstructure", scan, "-o", out, "--models", "dti", "--method", method, "--threads", 1
        )
        side = json.loads((out / "sub-x_model-dti_param-md_dwimap.json").read_text())
        assert side[field] == value
