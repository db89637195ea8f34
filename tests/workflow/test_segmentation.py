"""Tissues as files: labels, a table and probabilities that belong together."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from fornix.cli.app import app
from fornix.io import save_scan
from fornix.physics import simulate
from fornix.workflow.stages.segmentation import LABELS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tissue")
    phantom = simulate(protocol="dti12", snr=25, voxel_size=4.0, seed=1, threads=1)
    path = save_scan(phantom.dwi, folder / "sub-1_dwi.nii.gz")
    words = ["mask", str(path), "-o", str(folder), "--threads", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(app, words)
    return folder, phantom, again.output


def read(folder, name):
    return np.asarray(nib.load(folder / f"sub-1_{name}.nii.gz").dataobj)


def test_labels_are_the_likeliest_and_probabilities_add_up(made):
    folder = made[0]
    labels, brain = read(folder, "dseg"), read(folder, "desc-brain_mask") > 0
    maps = np.stack([read(folder, f"label-{name}_probseg") for name, _ in LABELS])
    np.testing.assert_array_equal(labels[brain], maps.argmax(0)[brain] + 1)
    assert not labels[~brain].any()
    assert (maps.sum(0) <= 1 + 1e-5).all()
    table = (folder / "sub-1_dseg.tsv").read_text().splitlines()
    assert [row.split("\t")[1] for row in table[1:]] == [name for name, _ in LABELS]


def test_tissues_lie_where_they_are(made):
    folder, phantom, _ = made
    white = phantom.truth["dti_fa"].data[phantom.mask] > 0.35
    found = read(folder, "label-WM_probseg")[phantom.mask]
    assert found[white].mean() > 2 * found[~white].mean()
    left = read(folder, "label-L_probseg")
    x = nib.affines.apply_affine(phantom.dwi.affine, np.argwhere(phantom.mask))[:, 0]
    side = left[phantom.mask][np.abs(x) > 15] > 0.5
    assert (side == (x[np.abs(x) > 15] < 0)).mean() > 0.95


def test_a_second_run_reuses_them(made):
    assert "tissue" in made[2]
    assert "reused" in made[2].split("tissue")[1]
