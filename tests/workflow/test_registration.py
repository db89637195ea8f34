"""Files carried over by a warp."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.io import load_tractogram, save_tractogram
from fornix.io.nifti import read_volume, write_image
from fornix.register.files import save_warp, warp_name
from fornix.register.warp import Warp
from fornix.workflow import registration
from fornix.workflow.registration import warp_file
from helpers.warps import random_warp


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Warp]:
    folder = tmp_path_factory.mktemp("warps")
    warp = random_warp(2, size=6.0)
    save_warp(warp, folder, "s", ("dwi", "mni"), {})
    return folder, warp


def image(folder: Path, warp: Warp, channels: int = 0) -> Path:
    """The world's x in every voxel, in one or more volumes."""
    values = warp.moving.points()[..., 0].numpy()
    if channels:
        values = np.repeat(values[..., None], channels, 3)
    return write_image(folder / f"x{channels}.nii.gz", values, warp.moving.affine)


def test_a_map_comes_onto_the_other_grid(made: tuple[Path, Warp], tmp_path: Path) -> None:
    folder, warp = made
    path = warp_file(
        image(folder, warp), folder / warp_name("s", "dwi", "mni"), tmp_path / "o.nii.gz"
    )
    found, affine = read_volume(path)
    assert found.shape == warp.fixed.shape
    assert np.allclose(affine, warp.fixed.affine)
    expected = warp.to_moving(warp.fixed.points())[..., 0].numpy()
    there = found != 0
    assert there.mean() > 0.1
    assert np.abs(found - expected)[there & (np.abs(expected) < 15)].max() < 0.5


def test_streamlines_go_the_other_way_than_images(made: tuple[Path, Warp], tmp_path: Path) -> None:
    folder, warp = made
    points = warp.moving.points()[12:16, 14, 12].numpy()
    lines = Tractogram.from_list([points], warp.moving.affine, warp.moving.shape)
    save_tractogram(lines, tmp_path / "in.trx")
    warp_file(
        tmp_path / "in.trx", folder / warp_name("s", "mni", "dwi"), tmp_path / "out.trx", "streamlines"
    )  # fmt: skip
    moved = load_tractogram(tmp_path / "out.trx").points
    expected = warp.to_fixed(warp.moving.points()[12:16, 14, 12]).numpy()
    assert np.abs(moved - expected).max() < 0.3  # mm, of a field on voxels of 2.5 to 3 mm


@pytest.mark.parametrize(
    ("kind", "channels", "words"),
    [
        ("tensor", 5, "has 5 volumes; an image of tensor has 6"),
        ("peaks", 4, "has 4 volumes; an image of peaks has 3 volumes a peak"),
        ("fod", 7, "has 7 volumes; an image of fod has 6, 15, 28"),
        ("photograph", 0, "choose one of: scalar, labels, tensor, peaks, fod, streamlines"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(
    made: tuple[Path, Warp], tmp_path: Path, kind: str, channels: int, words: str
) -> None:
    folder, warp = made
    with pytest.raises(FornixError, match=words):
        warp_file(
            image(folder, warp, channels), folder / warp_name("s", "dwi", "mni"), tmp_path / "o.nii.gz", kind
        )  # fmt: skip


def test_an_image_of_another_place_is_refused(made: tuple[Path, Warp], tmp_path: Path) -> None:
    folder, _ = made
    away = np.eye(4)
    away[:3, 3] = 5000
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.float32), away), tmp_path / "far.nii.gz")
    with pytest.raises(FornixError, match="was the warp made from this one"):
        warp_file(
            tmp_path / "far.nii.gz", folder / warp_name("s", "dwi", "mni"), tmp_path / "o.nii.gz"
        )
    assert not (tmp_path / "o.nii.gz").exists()


def test_a_scan_of_the_moving_ones_name_is_called_otherwise(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(registration, "load", lambda path: path)
    monkeypatch.setattr(registration, "brain_mask", lambda scan: scan)
    monkeypatch.setattr(registration, "scan_features", lambda scan: scan)
    for name, called in (
        ("dwi.nii.gz", "fixed"),
        ("mni.nii.gz", "fixed"),
        ("ses-1_dwi.nii.gz", "ses1"),
    ):
        (tmp_path / name).touch()
        assert registration._fixed(str(tmp_path / name))[1] == called
