"""The whole job from Python, on scans that are hardly scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, FornixWarning
from fornix.io import save_scan
from fornix.physics import Phantom
from fornix.pipeline import Options, run


def piece(phantom: Phantom, shape: tuple[int, int, int], folder: Path) -> Path:
    """A window of white matter, written as a scan of its own."""
    centre = np.argwhere(phantom.truth["dti_fa"].data > 0.5)[0]
    low = np.maximum(centre - np.array(shape) // 2, 0)
    window = tuple(slice(a, a + n) for a, n in zip(low, shape))
    data = np.ascontiguousarray(phantom.dwi.data[window])
    dwi = DWI(data, phantom.dwi.gradients, phantom.dwi.affine)
    return save_scan(dwi, folder / "piece_dwi.nii.gz")


@pytest.mark.filterwarnings("ignore::fornix.core.errors.FornixWarning")
@pytest.mark.parametrize("shape", [(1, 1, 1), (20, 20, 1), (1, 12, 12)])
def test_one_voxel_and_one_slice_end_in_a_report(phantom: Phantom, tmp_path, shape):
    scan = piece(phantom, shape, tmp_path)
    made = run(scan, tmp_path / "out", Options(streamlines=50, threads=1, sigma=33.0))
    assert made.report.exists()
    assert made.maps["dti_fa"].data.shape == shape
    assert np.isfinite(made.maps["dti_fa"].data).all()


def test_a_scan_without_fibres_keeps_its_maps_and_says_why(phantom: Phantom, tmp_path):
    water = phantom.dwi.with_(
        data=(1000 * np.exp(-3 * phantom.dwi.gradients.b)).astype(np.float32)
        * np.ones((*phantom.dwi.grid, 1), np.float32)
        + np.random.default_rng(0).normal(0, 5, phantom.dwi.data.shape).astype(np.float32)
    )
    scan = save_scan(water, tmp_path / "water_dwi.nii.gz")
    with pytest.warns(FornixWarning, match="no fibres"):
        made = run(scan, tmp_path / "out", Options(preprocess="none", streamlines=50, sigma=5.0))
    assert "no fibres" in made.report.read_text()
    assert made.tractogram is None and "dti_md" in made.maps


def test_too_few_directions_are_one_line(phantom: Phantom, tmp_path):
    few = phantom.dwi.subset([0, 1, 2, 3])
    scan = save_scan(few, tmp_path / "few_dwi.nii.gz")
    with pytest.raises(FornixError, match=r"(?i)direction"):
        run(scan, tmp_path / "out", Options(sigma=30.0))


def test_full_preprocessing_runs(phantom: Phantom, tmp_path):
    scan = save_scan(phantom.dwi.subset(range(0, 32, 4)), tmp_path / "s_dwi.nii.gz")
    options = Options(preprocess="full", models=("dti",), streamlines=0, tracts=False, threads=2)
    made = run(scan, tmp_path / "out", options)
    assert (tmp_path / "out" / "s_desc-preproc_dwi.bvec").exists()
    assert np.isfinite(made.dwi.data).all()
