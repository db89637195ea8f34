"""A registration's maps of points, both ways, and the files that hold them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from fornix.core.errors import FornixError
from fornix.register.files import load_point_map, load_warp, save_warp, warp_name
from fornix.register.grids import blurred
from fornix.register.warp import Warp, local_linear
from helpers.warps import random_warp


@pytest.mark.parametrize("seed", range(3))
def test_there_and_back_is_where_one_was(seed: int) -> None:
    warp = random_warp(seed)
    inner = warp.fixed.points()[4:-4, 4:-4, 4:-4].reshape(-1, 3)
    there = warp.to_moving(inner)
    assert float((there - inner).norm(dim=-1).max()) > 3
    away = (warp.to_fixed(there) - inner).norm(dim=-1)
    assert float(away.max()) < 0.1  # mm
    assert float(warp.volume_change().min()) > 0


def test_the_local_derivative_is_that_of_the_map() -> None:
    warp = random_warp()
    plain = Warp(warp.matrix, warp.fixed, warp.moving)
    found = local_linear(plain.to_moving, warp.fixed.points()[5, 5, :3])
    assert np.allclose(found.numpy(), warp.matrix[:3, :3], atol=1e-3)


def test_files_hold_the_warp_both_ways_for_itk_and_mrtrix(tmp_path: Path) -> None:
    warp = random_warp()
    save_warp(warp, tmp_path, "s", ("dwi", "mni"), {})
    read = load_warp(tmp_path, "s", ("dwi", "mni"))
    points = warp.fixed.points()[4:-4, 4:-4, 4:-4]
    assert float((read.to_moving(points) - warp.to_moving(points)).abs().max()) < 1e-3
    mrtrix, _ = load_point_map(tmp_path / warp_name("s", "dwi", "mni", "mrtrix"))
    assert float((mrtrix(points) - warp.to_moving(points)).abs().max()) < 1e-3
    image = nib.load(tmp_path / warp_name("s", "dwi", "mni"))
    assert image.shape == (*warp.fixed.shape, 1, 3)
    assert int(image.header["intent_code"]) == 1007


def test_what_is_no_warp_is_refused_in_a_line(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 5), np.float32), np.eye(4)), tmp_path / "x.nii.gz")
    with pytest.raises(FornixError, match="a warp is an ITK displacement field"):
        load_point_map(tmp_path / "x.nii.gz")
    (tmp_path / "y.nii.gz").write_bytes(b"no image")
    with pytest.raises(FornixError, match="cannot be read as a warp"):
        load_point_map(tmp_path / "y.nii.gz")


@pytest.mark.skipif(shutil.which("mrtransform") is None, reason="MRtrix3 is not installed")
def test_mrtrix_carries_an_image_over_as_we_do(tmp_path: Path) -> None:
    from fornix.register.apply import warp_image

    warp = random_warp(size=6.0)
    save_warp(warp, tmp_path, "s", ("dwi", "mni"), {})
    image = blurred(torch.rand((1, *warp.moving.shape)), 1.5)[0].numpy()
    # Their grid is the coarser one, before which we blur and MRtrix3 does not: the smooth stays.
    image = blurred(torch.from_numpy(image)[None], 3.0)[0].numpy()
    nib.save(nib.Nifti1Image(image, warp.moving.affine), tmp_path / "in.nii.gz")
    field = tmp_path / warp_name("s", "dwi", "mni", "mrtrix")
    command = ["mrtransform", tmp_path / "in.nii.gz", "-warp", field, "-interp", "linear"]
    subprocess.run(
        [*command, tmp_path / "out.nii.gz", "-quiet"], check=True, capture_output=True, timeout=60
    )
    # It keeps the storage order of the image that goes in.
    theirs = np.asarray(nib.as_closest_canonical(nib.load(tmp_path / "out.nii.gz")).dataobj)
    ours = warp_image(image, warp.moving, warp.fixed, warp.to_moving)
    both = (np.abs(theirs) > 0) & (ours > 0)
    assert both.sum() > 1000
    assert np.abs(theirs - ours)[both].max() < 0.05 * image.max()
