"""Tissue fractions from a segmentation of a T1 scan: its three forms, any grid, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, FornixWarning
from fornix.core.gradients import Gradients
from fornix.io import write_image
from fornix.tractography.tissue_fractions import tissue_from_segmentation

GRID, AFFINE = (12, 10, 8), np.array([[-3.0, 0, 0, 20], [0, 3, 0, -5], [0, 0, 3, 2], [0, 0, 0, 1]])
FINE = np.array([[1.0, 0, 0, -16], [0, 1, 0, -8], [0, 0, 1, -1], [0, 0, 0, 1]])


@pytest.fixture
def scan() -> DWI:
    gradients = Gradients(np.array([0.0, 1000.0]), np.array([[0, 0, 0], [0, 0, 1.0]]))
    return DWI(np.ones((*GRID, 2), np.float32), gradients, AFFINE, mask=np.ones(GRID, bool))


def fractions(centres: np.ndarray) -> np.ndarray:
    """White matter where x < 0, grey matter above it, fluid where z > 15, by world position."""
    x, z = centres[..., 0], centres[..., 2]
    csf = (z > 15).astype(np.float32)
    wm = (x < 0) * (1 - csf)
    return np.stack([wm, 1 - csf - wm, csf], -1).astype(np.float32)


def centres(grid, affine) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid], indexing="ij"), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def forms(values: np.ndarray) -> dict[str, np.ndarray]:
    wm, gm, csf = np.moveaxis(values, -1, 0)
    none = np.zeros_like(wm)
    return {
        "three": values,
        "five": np.stack([gm, none, wm, csf, none], -1),
        "lesion": np.stack([none, gm, 0.5 * wm, csf, 0.5 * wm], -1),
        "labels": 3 * wm + 2 * gm + csf,
    }


@pytest.mark.parametrize("form", ["three", "five", "lesion", "labels"])
def test_every_form_on_the_scans_grid(tmp_path: Path, scan: DWI, form: str):
    values = fractions(centres(GRID, AFFINE))
    path = write_image(tmp_path / "t.nii.gz", forms(values)[form], AFFINE)
    tissue = tissue_from_segmentation(path, scan)
    for i, name in enumerate(("wm", "gm", "csf")):
        np.testing.assert_allclose(getattr(tissue, name), values[..., i], atol=1e-6)


@pytest.mark.parametrize("form", ["three", "labels"])
def test_another_grid_is_averaged_in_world_space(tmp_path: Path, scan: DWI, form: str):
    path = write_image(
        tmp_path / "t.nii.gz", forms(fractions(centres((40, 40, 32), FINE)))[form], FINE
    )
    tissue = tissue_from_segmentation(path, scan)
    where = centres(GRID, AFFINE)
    truth = fractions(where)
    clear = (np.abs(where[..., 0]) > 4) & (np.abs(where[..., 2] - 15) > 4)
    clear[[0, -1]] = clear[:, [0, -1]] = clear[:, :, [0, -1]] = False
    np.testing.assert_allclose(tissue.wm[clear], truth[clear][:, 0], atol=0.02)
    np.testing.assert_allclose(tissue.gm[clear], truth[clear][:, 1], atol=0.02)
    edge = np.abs(where[..., 0]) < 1.6  # half white, half grey
    assert 0.15 < tissue.wm[edge & (where[..., 2] < 8)].mean() < 0.85


def test_bad_segmentations_are_refused(tmp_path: Path, scan: DWI):
    def write(name: str, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
        return write_image(tmp_path / f"{name}.nii.gz", data, affine)

    values = fractions(centres(GRID, AFFINE))
    with pytest.raises(FornixError, match="1 volume of labels, 3"):
        tissue_from_segmentation(write("two", values[..., :2]), scan)
    with pytest.raises(FornixError, match="not labelled 0 outside"):
        tissue_from_segmentation(write("t1", 100 * values[..., 0] + 7), scan)
    with pytest.raises(FornixError, match=r"must lie in \[0, 1\]"):
        tissue_from_segmentation(write("percent", 100 * values), scan)
    far = AFFINE.copy()
    far[:3, 3] += 100
    with pytest.raises(FornixError, match="covers only 0% of the brain"):
        tissue_from_segmentation(write("far", values, far), scan)
    near = AFFINE.copy()
    near[0, 3] += 9
    with pytest.warns(FornixWarning, match="is it aligned"):
        tissue_from_segmentation(write("near", values, near), scan)
    with pytest.raises(FornixError, match="does not exist"):
        tissue_from_segmentation(tmp_path / "none.nii.gz", scan)
