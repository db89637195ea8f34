"""Loading scans: every kind of bad input is one clear line; writing never leaves half a file."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fornix.core.errors import FornixError, FornixWarning
from fornix.core.gradients import Gradients
from fornix.core.series import Series
from fornix.io import load, read_mask, save_scan, write_fsl, write_image
from fornix.io.files import atomic, output_folder
from fornix.numerics.directions import spread

AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A good scan of 8 volumes."""
    return write(tmp_path / "sub-01_dwi.nii.gz", data())


def data(shape=(4, 5, 3), volumes=8) -> np.ndarray:
    return np.random.default_rng(0).uniform(50, 900, (*shape, volumes)).astype(np.float32)


def write(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE, dtype=np.int16) -> Path:
    image = nib.Nifti1Image(values.astype(dtype), affine)
    nib.save(image, path)
    base = str(path).removesuffix(".gz").removesuffix(".nii")
    table(Path(base), values.shape[-1], affine)
    return path


def table(base: Path, volumes: int, affine: np.ndarray = AFFINE) -> None:
    b = np.r_[0, np.full(volumes - 1, 1000.0)]
    made = Gradients(b, np.r_[[[0, 0, 0]], spread(max(volumes - 1, 1))[: volumes - 1]])
    if abs(np.linalg.det(affine)) < 1e-9:
        affine = AFFINE
    write_fsl(made, affine, f"{base}.bval", f"{base}.bvec")


def test_a_good_scan(scan):
    dwi = load(scan)
    assert dwi.stem == "sub-01"
    assert dwi.data.dtype == np.float32 and dwi.data.flags.c_contiguous
    assert str(dwi.gradients) == "1 b0, 7 at b=1000"
    assert dwi.notes == ()
    np.testing.assert_allclose(dwi.voxel_size, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_storage_types_and_big_scans_agree(tmp_path, dtype, suffix):
    values = (data() / 4).round()
    path = write(tmp_path / f"x{suffix}", values, dtype=dtype)
    np.testing.assert_array_equal(load(path).data, values)
    on_disk = load(path, max_memory="1k")
    np.testing.assert_array_equal(on_disk.data, values)
    assert isinstance(on_disk.data, Series)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    "values", [data()[..., 0], data()[..., 0] > 400, data(), data(volumes=37)[..., ::2]]
)
def test_written_as_nibabel_writes(tmp_path, values, suffix):
    affine = np.array([[-1.7, 0.1, 0, 3], [0.1, 1.7, 0.2, -4], [0, 0.2, 2.5, 1], [0, 0, 0, 1]])
    ours = write_image(tmp_path / f"ours{suffix}", values, affine)
    image = nib.Nifti1Image(values.astype(np.uint8 if values.dtype == bool else np.float32), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, tmp_path / f"theirs{suffix}")
    opened = gzip.open if suffix.endswith(".gz") else open
    with opened(ours, "rb") as a, opened(tmp_path / f"theirs{suffix}", "rb") as b:
        assert a.read() == b.read()


def test_scaled_storage(tmp_path, scan):
    image = nib.Nifti1Image(data().astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 3)
    nib.save(image, scan)
    np.testing.assert_allclose(load(scan).data, nib.load(scan).get_fdata(), rtol=1e-6)
    np.testing.assert_allclose(
        load(scan, max_memory="1k").data, nib.load(scan).get_fdata(), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda p: p.with_name("sub-01_dwi.bval").unlink(), "no b-values beside"),
        (lambda p: p.with_name("sub-01_dwi.bvec").unlink(), "no b-vectors beside"),
        (lambda p: p.with_name("sub-01_dwi.bval").write_text("0 1000 1000"), "3 b-values but 8"),
        (lambda p: p.with_name("sub-01_dwi.bval").write_text("0 " + "1 " * 7), "ms/µm²"),
        (lambda p: p.with_name("sub-01_dwi.bval").write_text("0 a b"), "not a table of numbers"),
        (lambda p: p.with_name("sub-01_dwi.bval").write_text(""), "is empty"),
        (
            lambda p: p.with_name("sub-01_dwi.bvec").write_text("1 0\n0 1 0\n0 0 1"),
            "different lengths",
        ),
        (lambda p: table(p.with_name("sub-01_dwi"), 9), "8 volumes but its table has 9"),
        (lambda p: write_nii(p, data()[..., 0]), "3 dimensions"),
        (lambda p: write_nii(p, zeroed(3)), "volume 3 is all zero; leave it out with --exclude 3"),
        (lambda p: write_nii(p, np.full((4, 5, 3, 8), np.nan, np.float32)), "no finite value"),
        (lambda p: write_nii(p, wrapped(), np.int16), "integer overflow"),
        (lambda p: p.write_bytes(p.read_bytes()[:-400]), "truncated or corrupt"),
        (lambda p: p.write_bytes(b"not an image"), "not a readable NIfTI"),
        (lambda p: p.write_bytes(gzip.compress(b"not an image")), "not a readable NIfTI"),
        (lambda p: write_nii(p, data(), affine=np.zeros((4, 4))), "singular affine"),
        (lambda p: (p.unlink(), p.mkdir()), "is a folder"),
        (lambda p: p.unlink(), "does not exist"),
    ],
)
def test_bad_input_is_one_line(scan, harm, words):
    harm(scan)
    with pytest.raises(FornixError, match=words) as caught:
        load(scan)
    assert "\n" not in str(caught.value)


def write_nii(
    path: Path, values: np.ndarray, dtype=np.float32, affine: np.ndarray = AFFINE
) -> None:
    image = nib.Nifti1Image(values.astype(dtype), None)
    image.header.set_sform(affine, 1)
    image.header.set_qform(None, 0)
    nib.save(image, path)


def zeroed(volume: int) -> np.ndarray:
    values = data()
    values[..., volume] = 0
    return values


def wrapped() -> np.ndarray:
    values = data() * 40
    return np.where(values > 32767, values - 65536, values)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (
            lambda v: np.where(np.arange(v.size).reshape(v.shape) == 7, np.nan, v),
            "1 voxels hold NaN",
        ),
        (
            lambda v: np.where(np.arange(v.size).reshape(v.shape) == 7, np.inf, v),
            "1 voxels hold NaN",
        ),
        (lambda v: np.where(v < 300, -v, v), "values are negative"),
    ],
)
def test_repairable_input_is_said(scan, harm, words):
    write_nii(scan, harm(data()))
    with pytest.warns(FornixWarning, match=words):
        dwi = load(scan)
    assert np.isfinite(dwi.data).all()
    assert any(words in note for note in dwi.notes)


def test_no_b0_is_said(scan):
    scan.with_name("sub-01_dwi.bval").write_text(" ".join(["1000"] * 8))
    scan.with_name("sub-01_dwi.bvec").write_text(
        "\n".join([" ".join(map(str, r)) for r in spread(8).T])
    )
    with pytest.warns(FornixWarning, match="no b0"):
        load(scan)


def test_sform_and_qform_that_disagree_are_said(scan):
    image = nib.Nifti1Image(data(), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(np.diag([-2.0, 2, 2, 1]) + np.c_[np.zeros((4, 3)), [0, 9, 0, 0]], 1)
    nib.save(image, scan)
    with pytest.warns(FornixWarning, match="disagree by up to 9"):
        load(scan)


def test_exclude(scan):
    with pytest.warns(FornixWarning, match="left out as asked"):
        assert len(load(scan, exclude=[2, 5]).gradients) == 6


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 4, 1), (1, 6, 6)])
def test_tiny_grids(tmp_path, shape):
    assert load(write(tmp_path / "x.nii.gz", data(shape))).grid == shape


def test_mask_on_another_grid_or_elsewhere(scan, tmp_path):
    dwi = load(scan)
    write_image(tmp_path / "small.nii.gz", np.ones((2, 2, 2), bool), AFFINE)
    with pytest.raises(FornixError, match="another grid"):
        read_mask(tmp_path / "small.nii.gz", dwi)
    moved = AFFINE.copy()
    moved[0, 3] = 50
    write_image(tmp_path / "moved.nii.gz", np.ones(dwi.grid, bool), moved)
    with pytest.raises(FornixError, match="another affine"):
        read_mask(tmp_path / "moved.nii.gz", dwi)


def test_save_and_load_again(scan, tmp_path):
    dwi = load(scan)
    again = load(save_scan(dwi, tmp_path / "copy_dwi.nii.gz"))
    np.testing.assert_array_equal(again.data, dwi.data)
    np.testing.assert_allclose(again.gradients.directions, dwi.gradients.directions, atol=1e-8)


def test_nothing_half_written(tmp_path):
    target = tmp_path / "x.nii.gz"
    target.write_text("old")

    def write() -> None:
        with atomic(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.nii.gz"]


def test_output_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(FornixError, match="is a file"):
        output_folder(file)
    left = tmp_path / "out" / ".fornix-tmp-99-x.nii.gz"
    left.parent.mkdir()
    left.write_text("half of a file")
    os.utime(left, (0, 0))  # of a version that did not name the owner: old is left behind
    output_folder(tmp_path / "out")
    assert not left.exists()
    with pytest.raises(FornixError, match=r"cannot be written|was not written"):
        output_folder("/proc/fornix-out")


def test_a_full_disk_is_one_line(tmp_path):
    """A limit on file size stands for the full disk: the write fails, nothing is left."""
    code = (
        "import numpy as np, sys\n"
        "from fornix.core.errors import FornixError\n"
        "from fornix.io import write_image\n"
        "try:\n"
        "    write_image(sys.argv[1] + '/x.nii', np.zeros((99, 99, 99)), np.eye(4))\n"
        "except FornixError as e:\n"
        "    print(e)\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert "was not written" in made.stdout, made.stderr
    assert os.listdir(tmp_path) == []
