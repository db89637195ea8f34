"""Orientations of another tool: read as they are, refused with a reason where they cannot be."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fornix import DWI, FornixError
from fornix.estimators.external_fod import read_fod
from fornix.numerics import harmonics
from fornix.physics.protocol import scheme

GRID = (5, 4, 3)
AFFINE = np.diag([2.0, 2.0, 2.5, 1.0])


@pytest.fixture
def dwi() -> DWI:
    gradients = scheme("dti12")
    data = np.ones((*GRID, len(gradients)), np.float32)
    return DWI(data, gradients, AFFINE, mask=np.ones(GRID, bool))


def written(folder: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path = folder / "fod.nii.gz"
    nib.Nifti1Image(data.astype(np.float32), affine).to_filename(path)
    return path


def along(axis: np.ndarray, lmax: int = 8) -> np.ndarray:
    """A band-limited delta along an axis, in every voxel."""
    row = harmonics.evaluate(lmax, axis[None])[0]
    return np.tile(row, (*GRID, 1))


def test_maps_are_ready_to_track(dwi, tmp_path):
    axis = np.array([0.6, 0.0, 0.8])
    maps = read_fod(written(tmp_path, along(axis)), dwi)
    peak = maps["peaks"].data[2, 2, 1, :3]
    assert abs(peak @ axis) / np.linalg.norm(peak) > np.cos(np.deg2rad(0.5))
    np.testing.assert_allclose(maps["fod"].data[1, 1, 1], along(axis)[1, 1, 1], atol=1e-6)


def test_another_grid_is_refused(dwi, tmp_path):
    shifted = AFFINE.copy()
    shifted[0, 3] = 7
    with pytest.raises(FornixError, match="resample it"):
        read_fod(written(tmp_path, along(np.eye(3)[0]), shifted), dwi)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (np.ones((*GRID, 44)), "coefficients"),
        (np.ones((*GRID, 81)), "odd orders"),
        (-along(np.eye(3)[2]), "mean"),
        (np.full((*GRID, 45), np.nan), "not finite"),
    ],
)
def test_what_is_no_fod_is_refused(dwi, tmp_path, data, told):
    with pytest.raises(FornixError, match=told) as error:
        read_fod(written(tmp_path, data), dwi)
    assert "fod.nii.gz" in str(error.value)
