"""Whatever a NIfTI header may say: the same numbers in mm, or one line. Generated over its fields."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.io import load, read_volume, write_fsl
from fornix.numerics.directions import spread

VOLUMES = 8
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2.0, 0.1, -126], [0, -0.1, 2.0, -72], [0, 0, 0, 1]])
SIGNALS = np.random.default_rng(0).uniform(50, 900, (4, 5, 3, VOLUMES)).astype(np.float32)


def put(
    folder: Path, image: nib.Nifti1Pair, name: str = "scan_dwi", extension: str = ".nii.gz"
) -> Path:
    """The image with a table of one b0 and seven directions."""
    path = folder / (name + extension)
    nib.save(image, path)
    table = Gradients(
        np.r_[0, np.full(VOLUMES - 1, 1000.0)], np.r_[[[0, 0, 0]], spread(VOLUMES - 1)]
    )
    write_fsl(table, AFFINE, folder / f"{name}.bval", folder / f"{name}.bvec")
    return path


def quiet_load(path: Path, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load(path, **more)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    stored=st.sampled_from(
        ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4", ">f8"]
    ),
    version=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    pair=st.booleans(),
    more_axes=st.sampled_from([(), (1,), "before"]),
)
def test_any_storage_gives_the_same_numbers(tmp_path, stored, version, pair, more_axes):
    values = SIGNALS
    if more_axes == "before":
        values = SIGNALS[:, :, :, None]
    elif more_axes:
        values = SIGNALS[..., None]
    if pair:
        version = nib.Nifti1Pair if version is nib.Nifti1Image else nib.Nifti2Pair
    image = version(values, AFFINE)
    if stored[0] == ">":
        image = version(values, AFFINE, version.header_class(endianness=">"))
    # nibabel finds slope and intercept so that the numbers fill the type: nothing in them overflowed.
    image.set_data_dtype(np.dtype(stored).newbyteorder("="))
    path = put(tmp_path, image, extension=".hdr" if pair else ".nii.gz")
    expected = nib.load(path).get_fdata().reshape(SIGNALS.shape)
    dwi = quiet_load(path)
    assert dwi.data.shape == SIGNALS.shape
    np.testing.assert_allclose(dwi.data, expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(dwi.affine, AFFINE, atol=1e-4)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_lengths_in_another_unit_are_read_as_mm(tmp_path, unit, factor):
    scale = np.diag([factor, factor, factor, 1.0])
    image = nib.Nifti1Image(SIGNALS, scale @ AFFINE)
    image.header.set_xyzt_units(unit, "sec")
    dwi = quiet_load(put(tmp_path, image))
    np.testing.assert_allclose(dwi.affine, AFFINE, atol=1e-3)
    assert any(unit in note for note in dwi.notes)


def test_a_unit_that_cannot_be_is_said_and_not_believed(tmp_path):
    image = nib.Nifti1Image(SIGNALS, AFFINE)
    image.header.set_xyzt_units("meter", "sec")  # voxels of 2 m
    dwi = quiet_load(put(tmp_path, image))
    np.testing.assert_allclose(dwi.voxel_size, np.linalg.norm(AFFINE[:3, :3], axis=0), rtol=1e-5)
    assert any("taken as mm" in note for note in dwi.notes)


def test_impossible_voxels_are_refused(tmp_path):
    with pytest.raises(FornixError, match="which no scan of a brain has; set the unit"):
        quiet_load(put(tmp_path, nib.Nifti1Image(SIGNALS, np.diag([200.0, 200, 200, 1]))))


def test_complex_scans_give_their_magnitude(tmp_path):
    phase = np.exp(1j * np.linspace(0, 3, VOLUMES))
    dwi = quiet_load(put(tmp_path, nib.Nifti1Image((SIGNALS * phase).astype(np.complex64), AFFINE)))
    np.testing.assert_allclose(dwi.data, SIGNALS, rtol=1e-5)
    assert any("magnitude" in note for note in dwi.notes)
    few = quiet_load(tmp_path / "scan_dwi.nii.gz", exclude=[3])
    np.testing.assert_allclose(few.data, np.delete(SIGNALS, 3, axis=3), rtol=1e-5)


def test_a_complex_mask_is_refused(tmp_path):
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(SIGNALS[..., 0].astype(np.complex64), AFFINE), path)
    with pytest.raises(FornixError, match="complex"):
        read_volume(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: colours(), "colours"),
        (lambda: nib.Nifti1Image(np.zeros((4, 5, 3, 2, 3), np.float32), AFFINE), "5 dimensions"),
        (lambda: nib.Nifti1Image(SIGNALS[..., 0], AFFINE), "3 dimensions"),
    ],
)
def test_what_is_no_scan_is_one_line(tmp_path, make, words):
    path = put(tmp_path, make())
    with pytest.raises(FornixError, match=words) as caught:
        quiet_load(path)
    assert "\n" not in str(caught.value)


def colours() -> nib.Nifti1Image:
    rgb = np.zeros((4, 5, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return nib.Nifti1Image(rgb, AFFINE)


def test_a_header_that_promises_more_than_the_file_holds(tmp_path):
    """The memory that is asked for follows the file, not what a broken header says."""
    path = put(tmp_path, nib.Nifti1Image(SIGNALS, AFFINE), extension=".nii")
    raw = bytearray(path.read_bytes())
    raw[42:50] = np.array([30000, 30000, 30000, 8], "<i2").tobytes()
    path.write_bytes(bytes(raw))
    with pytest.raises(FornixError, match="cannot hold them"):
        quiet_load(path)


def test_a_broken_sidecar_does_not_stop_a_scan(tmp_path):
    path = put(tmp_path, nib.Nifti1Image(SIGNALS, AFFINE))
    (tmp_path / "scan_dwi.json").write_text('{"EchoTime": ')
    dwi = quiet_load(path)
    assert dwi.meta == {} and any("sidecar" in note for note in dwi.notes)
