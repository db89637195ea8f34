"""`fornix distortion`, and `--t1` of the other commands: what is written, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from fornix.cli.app import app
from fornix.core.errors import FornixError
from fornix.io import load, save_scan, write_sidecar
from fornix.io.nifti import write_image
from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess.acquisition import Acquisition
from fornix.workflow.options import Options
from fornix.workflow.plan import plan
from fornix.workflow.stages import acquisition_of

STEM = "sub-1_dir-AP"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A pair, and a T1 that lies on its grid."""
    folder = tmp_path_factory.mktemp("distortion")
    made = {}
    for way, name in (("j", "AP"), ("j-", "PA")):
        phantom = simulate(
            protocol=shells(1, (1000, 6)), snr=25, seed=3, voxel_size=5.0, threads=1,
            artefacts=Artefacts(field=60, phase_encoding=way),
        )  # fmt: skip
        made[name] = save_scan(phantom.dwi, folder / f"sub-1_dir-{name}_dwi.nii.gz")
        write_sidecar(made[name], {"PhaseEncodingDirection": way, "TotalReadoutTime": 0.05})
    head = phantom.anatomy
    assert head is not None
    t1 = head.wm + 0.65 * head.gm + 0.2 * head.csf
    made["T1"] = write_image(folder / "sub-1_T1w.nii.gz", t1.astype(np.float32), head.affine)
    made["4-D"] = write_image(
        folder / "four_T1w.nii.gz", np.stack([t1, t1], -1).astype(np.float32), head.affine
    )
    made["flat"] = write_image(folder / "flat_T1w.nii.gz", np.zeros_like(t1), head.affine)
    away = head.affine.copy()
    away[:3, 3] += 1000
    made["noise"] = write_image(
        folder / "noise_T1w.nii.gz",
        np.random.default_rng(0).random(t1.shape).astype(np.float32), away,
    )  # fmt: skip
    made["broken"] = folder / "broken_T1w.nii.gz"
    made["broken"].write_bytes(b"no image")
    return made


def sidecar(path: Path) -> dict:
    return json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())


def fornix(*words: object):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_field_of_a_pair_alone(files, tmp_path):
    done = fornix("distortion", files["AP"], "--reversed", files["PA"], "-o", tmp_path)
    assert done.exit_code == 0, done.output
    about = sidecar(tmp_path / f"{STEM}_fieldmap.nii.gz")
    assert about["Units"] == "Hz" and about["FieldSource"] == "reversed pair"
    assert (tmp_path / f"{STEM}_desc-unwarped_b0.nii.gz").exists()
    assert (tmp_path / f"{STEM}_dir-reversed_desc-unwarped_b0.nii.gz").exists()
    assert not (tmp_path / f"{STEM}_desc-preproc_dwi.nii.gz").exists()


def test_field_from_a_t1_is_marked_as_an_estimate_and_reused(files, tmp_path):
    words = ("distortion", files["AP"], "--t1", files["T1"], "-o", tmp_path)
    assert fornix(*words).exit_code == 0
    field = tmp_path / f"{STEM}_fieldmap.nii.gz"
    about = sidecar(field)
    assert "estimate" in about["FieldSource"] and "estimated from a T1" in about["Description"]
    shown = nib.load(tmp_path / f"{STEM}_space-dwi_T1w.nii.gz")
    assert shown.shape == nib.load(field).shape
    record = json.loads((tmp_path / f"{STEM}_qc.json").read_text())
    assert any("is an estimate" in w for w in record["Steps"]["distortion"]["Warnings"])
    before = field.stat().st_mtime_ns
    assert fornix(*words).exit_code == 0
    assert field.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("4-D", "has 4 dimensions"), ("flat", "shows no head"), ("broken", "broken_T1w"),
        ("nowhere", "nowhere"), ("noise", "of the brain|no T1 of this head"),
    ],
)  # fmt: skip
def test_bad_t1s(files, tmp_path, what, words):
    path = files.get(what, tmp_path / "nowhere.nii.gz")
    done = fornix("distortion", files["AP"], "--t1", path, "-o", tmp_path)
    assert done.exit_code == 1
    assert isinstance(done.exception, FornixError)
    text = str(done.exception)
    assert "\n" not in text
    assert any(w in text for w in words.split("|"))


def test_without_either_nothing_is_done(files, tmp_path):
    done = fornix("distortion", files["AP"], "-o", tmp_path)
    assert done.exit_code == 1 and "--t1" in str(done.exception)
    dwi = load(files["AP"])
    text = "\n".join(plan(dwi, Options(), Acquisition.of(dwi)))
    assert "no field, so distortion stays" in text
    text = "\n".join(plan(dwi, Options(), acquisition_of(dwi, Options(), t1=files["T1"])))
    assert "the field, an estimate from sub-1_T1w.nii.gz" in text
    with pytest.raises(FornixError, match="--t1 needs the corrections"):
        acquisition_of(dwi, Options(preprocess="fast"), t1=files["T1"])


def test_correct_uses_the_t1(files, tmp_path):
    words = ("correct", files["AP"], "--t1", files["T1"], "-o", tmp_path, "--method", "motion")
    done = fornix(*words)
    assert done.exit_code == 0, done.output
    assert "estimate" in sidecar(tmp_path / f"{STEM}_fieldmap.nii.gz")["FieldSource"]
    assert (tmp_path / f"{STEM}_desc-raw_mask.nii.gz").exists()
    assert (tmp_path / f"{STEM}_desc-brain_mask.nii.gz").exists()


def test_a_field_that_no_correction_uses_is_refused(files, tmp_path):
    done = fornix("correct", files["AP"], "--t1", files["T1"], "-o", tmp_path, "--method", "gibbs")
    assert done.exit_code == 1 and "need motion or eddy" in str(done.exception)
