"""Which of two files is the scan and which the T1."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.workflow.structural import is_structural, scan_and_structural


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    scan, t1 = tmp_path / "dwi.nii.gz", tmp_path / "t1.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 7), np.float32), np.eye(4)), scan)
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5, 1), np.float32), np.eye(4)), t1)
    return scan, t1


def test_either_order_is_understood(files: tuple[Path, Path]) -> None:
    scan, t1 = files
    assert scan_and_structural(scan, str(t1)) == (scan, t1)
    assert scan_and_structural(t1, str(scan)) == (scan, t1)
    assert scan_and_structural(scan, str(scan)) == (scan, None)
    assert scan_and_structural(scan, "mni") == (scan, None)
    assert not is_structural("nothere.nii.gz")  # the reader of scans says so


def test_an_image_without_a_scan_is_refused(files: tuple[Path, Path]) -> None:
    _, t1 = files
    for other in (str(t1), "mni"):
        with pytest.raises(FornixError, match="is a single image; give a diffusion scan"):
            scan_and_structural(t1, other)
