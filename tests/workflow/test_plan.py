"""A run says beforehand what it will do, and does that."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fornix.cli.app import app
from fornix.core.errors import FornixError, FornixWarning
from fornix.io import save_scan
from fornix.io.nifti import write_image
from fornix.pipeline import run
from fornix.preprocess.acquisition import Acquisition
from fornix.workflow.options import Options
from fornix.workflow.plan import plan


@pytest.fixture
def scan(phantom, tmp_path):
    small = phantom.dwi.subset(range(0, 32, 4))
    path = save_scan(small, tmp_path / "sub-1_dwi.nii.gz")
    return small, path


def lines_of(dwi, options=None, **meta):
    dwi = dwi.with_(meta=meta)
    return plan(dwi, options or Options(), Acquisition.of(dwi))


def test_each_step_has_a_line(scan):
    text = "\n".join(lines_of(scan[0]))
    for word in ("denoise (mppca)", "gibbs:", "eddy:", "bias:"):
        assert word in text


def test_what_is_missing_is_said_with_its_remedy(scan):
    text = "\n".join(lines_of(scan[0]))
    assert "--phase-encoding" in text
    assert "--reversed" in text
    known = lines_of(
        scan[0], PhaseEncodingDirection="j-", TotalReadoutTime=0.04, PartialFourier=0.75
    )
    text = "\n".join(known)
    assert "readout 0.04 s" in text
    assert "partial Fourier 0.75" in text
    assert "--phase-encoding" not in text


def test_a_scan_corrected_before_is_doubted(scan):
    text = "\n".join(lines_of(scan[0], Denoise="mppca", Corrections=["eddy"]))
    assert "doubt: the sidecar says that this scan was denoised before" in text
    assert "corrected before (eddy)" in text


def test_nothing_asked_is_said_too(scan):
    assert "stay as they are" in lines_of(scan[0], Options(preprocess="none"))[-1]


def test_a_dry_run_writes_nothing(scan, tmp_path):
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["run", str(scan[1]), "-o", str(out), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "eddy:" in done.output
    assert not out.exists()


def test_its_own_result_given_again_is_recognised(scan, tmp_path):
    options = Options(models=("dti",), method="wls", streamlines=0, tracts=False, threads=2)
    first = run(scan[1], tmp_path / "a", options)
    with pytest.warns(FornixWarning, match="corrected before"):
        run(first.folder / "sub-1_desc-preproc_dwi.nii.gz", tmp_path / "b", options)
    record = json.loads((tmp_path / "b" / "sub-1_qc.json").read_text())
    assert "corrected before" in json.dumps(record)


@pytest.mark.parametrize("how", ["none", "fast"])
def test_a_partner_without_corrections_is_refused(scan, tmp_path, how):
    other = tmp_path / "other.nii.gz"
    write_image(other, scan[0].mean_b0(), scan[0].affine)
    with pytest.raises(FornixError, match="use full"):
        run(scan[1], tmp_path / "out", Options(preprocess=how), reversed_scan=other)


def test_what_a_full_run_left_does_not_move_a_fast_one(phantom, tmp_path):
    path = save_scan(phantom.dwi, tmp_path / "sub-1_dwi.nii.gz")
    fast = Options(preprocess="fast", models=("dti",), streamlines=0, tracts=False, threads=2)
    full = Options(models=("dti",), method="wls", streamlines=0, tracts=False, threads=2)
    alone = run(path, tmp_path / "alone", fast)
    run(path, tmp_path / "both", full)
    after = run(path, tmp_path / "both", fast)
    assert (after.maps["dti_fa"].data == alone.maps["dti_fa"].data).all()
