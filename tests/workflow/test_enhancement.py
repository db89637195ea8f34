"""Smaller voxels in the whole job."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.io import read_json, read_volume, save_scan
from fornix.physics import simulate
from fornix.pipeline import run
from fornix.workflow.options import Options


def test_all_that_follows_is_in_smaller_voxels_and_the_report_shows_both(tmp_path):
    phantom = simulate(protocol="dti15", snr=30, voxel_size=6.0, seed=2, threads=1)
    save_scan(phantom.dwi, tmp_path / "sub-1_dwi.nii.gz")
    options = Options(
        preprocess="fast", enhance=4.5, fod_method="csd", method="classical", models=("dti",),
        streamlines=500, tracts=False, threads=1,
    )  # fmt: skip
    done = run(tmp_path / "sub-1_dwi.nii.gz", tmp_path / "out", options)
    np.testing.assert_allclose(done.dwi.voxel_size, 4.5, rtol=1e-5)
    assert (
        read_volume(tmp_path / "out" / "sub-1_model-dti_param-fa_dwimap.nii.gz")[0].shape
        == done.dwi.grid
    )
    assert "enhance" in read_json(tmp_path / "out" / "sub-1_qc.json")["Steps"]
    page = done.report.read_text()
    assert "Smaller voxels" in page and "as measured" in page
    assert done.tractogram is not None
    again = run(tmp_path / "sub-1_dwi.nii.gz", tmp_path / "out", options)
    assert again.tractogram is not None and len(again.tractogram) == len(done.tractogram)
    np.testing.assert_allclose(
        np.asarray(again.dwi.data), np.asarray(done.dwi.data), rtol=1e-5, atol=1e-3
    )


def test_a_size_that_cannot_be_is_refused_before_any_work(tmp_path):
    with pytest.raises(FornixError, match="above 0"):
        Options(enhance=-1.0)
    phantom = simulate(protocol="dti6", snr=30, voxel_size=6.0, seed=2, threads=1)
    save_scan(phantom.dwi, tmp_path / "sub-1_dwi.nii.gz")
    with pytest.raises(FornixError, match="larger than the measured"):
        run(tmp_path / "sub-1_dwi.nii.gz", tmp_path / "out", Options(enhance=8.0))
    assert not (tmp_path / "out").exists()
