"""Other gradients and smaller voxels: consistent, indifferent to order and storage; bad input is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.enhance import measured as whole
from fornix.enhance import result
from fornix.enhance.protocols import target_gradients
from fornix.enhance.scan import enhance_scan
from fornix.enhance.space import sharpen
from fornix.io import load, save_scan, write_mrtrix
from fornix.physics.point_spread import Grid, Measurement
from fornix.physics.protocol import scheme


@pytest.fixture(scope="module")
def scan(phantom) -> DWI:
    """A b0 and nine volumes of a head at 5 mm, a block of it."""
    box = (slice(8, 24), slice(10, 27), slice(9, 24))
    whole_scan = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)
    table = whole_scan.gradients
    some = np.r_[np.flatnonzero(table.b0_mask)[:1], np.flatnonzero(~table.b0_mask)[:9]]
    part = whole_scan.subset(some)
    return part.with_(
        data=np.ascontiguousarray(part.data[box]), mask=phantom.mask[box], sigma=phantom.sigma[box]
    )


@pytest.fixture(scope="module")
def sharp(scan):
    return sharpen(scan, 2.5)


def test_small_voxels_give_the_measured_ones_back_to_the_noise(scan, sharp):
    assert sharp.dwi.grid == tuple(2 * n for n in scan.grid)
    assert sharp.details["ResidualAfter"] <= max(1.2, sharp.details["ResidualBefore"])
    coarse, fine = Grid(scan.grid, scan.affine), Grid(sharp.dwi.grid, sharp.dwi.affine)
    back = Measurement.of(coarse, fine, ("sinc", "sinc", "slice")).measured(sharp.dwi.data)
    deep = np.zeros(scan.grid, bool)
    deep[5:-5, 5:-5, 5:-5] = scan.mask[5:-5, 5:-5, 5:-5]
    noise = (back - scan.data)[deep] / np.asarray(scan.sigma)[deep][:, None]
    assert np.sqrt((noise**2).mean()) < 1.3


def test_values_and_their_spread_can_be_used(scan, sharp):
    inside = sharp.dwi.mask
    assert np.isfinite(sharp.dwi.data).all() and (sharp.dwi.data >= 0).all()
    assert (sharp.std[inside] > 0).all() and not sharp.dwi.data[~inside].any()
    assert not sharp.std[~inside].any() and (np.asarray(sharp.dwi.sigma)[inside] > 0).all()
    assert abs(inside.mean() - scan.mask.mean()) < 0.03
    centre = [
        a[:3, :3] @ ((np.array(g) - 1) / 2) + a[:3, 3]
        for g, a in ((scan.grid, scan.affine), (sharp.dwi.grid, sharp.dwi.affine))
    ]
    np.testing.assert_allclose(*centre, atol=1e-6)


def test_the_order_of_volumes_does_not_matter(scan, sharp):
    order = np.random.default_rng(0).permutation(len(scan.gradients))
    again = sharpen(scan.subset(order), 2.5)
    scale = scan.data.max()
    np.testing.assert_allclose(
        again.dwi.data / scale, sharp.dwi.data[..., order] / scale, atol=2e-3
    )


@pytest.mark.parametrize(
    ("denoised", "network", "most"), [(False, False, 0.04), (True, False, 0.3), (True, True, 0.3)]
)
def test_a_head_stored_otherwise_stays_the_same_head(scan, denoised, network, most):
    """Axes exchanged, one flipped: denoising has groups of voxels, the network learned: nearly so."""
    change = np.array([[0.0, -1, 0, scan.grid[1] - 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    inverse = np.linalg.inv(change)

    def stored(image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.swapaxes(image, 0, 1)[::-1])

    turned = DWI(
        stored(scan.data), scan.gradients, scan.affine @ inverse, mask=stored(scan.mask),
        sigma=stored(np.asarray(scan.sigma)),
    )  # fmt: skip
    again = sharpen(turned, 2.5, network=network, denoised=None if denoised else turned)
    same = sharpen(scan, 2.5, network=network, denoised=None if denoised else scan)
    np.testing.assert_array_equal(again.dwi.mask, stored(same.dwi.mask))
    apart = again.dwi.data - stored(same.dwi.data)
    assert np.sqrt((apart**2).mean()) < most * np.sqrt((same.std**2).mean())


def test_blocks_and_disk_do_not_change_the_result(scan, sharp, monkeypatch):
    monkeypatch.setattr(whole, "_BLOCK", 777)
    monkeypatch.setattr(whole, "_PLANES", 5)
    monkeypatch.setattr(result, "IN_MEMORY", 1000)
    again = sharpen(scan, 2.5)
    assert not isinstance(again.dwi.data, np.ndarray)
    scale = scan.data.max()
    np.testing.assert_allclose(
        np.asarray(again.dwi.data) / scale, sharp.dwi.data / scale, atol=2e-3
    )


def test_the_scale_of_the_data_does_not_matter(scan, sharp):
    large = scan.with_(data=scan.data * 1000, sigma=np.asarray(scan.sigma) * 1000)
    again = sharpen(large, 2.5)
    scale = scan.data.max()
    np.testing.assert_allclose(again.dwi.data / 1000 / scale, sharp.dwi.data / scale, atol=2e-3)


@pytest.mark.parametrize("size", [4.0, (5, 5, 2.0), (2.5, 3.0, 4.0)])
def test_any_factor(scan, size):
    made = sharpen(scan, size).dwi
    np.testing.assert_allclose(made.voxel_size, np.broadcast_to(size, 3), rtol=1e-6)
    inside = scan.data[scan.mask]
    assert made.data[made.mask].mean() == pytest.approx(inside.mean(), rel=0.1)


def test_both_together_are_the_gradients_asked_for_in_small_voxels(scan):
    target = scheme("dti6")
    made = enhance_scan(scan, to=target, voxel_size=(5, 5, 2.5), method="encoder", threads=1)
    assert made.dwi.gradients == target and made.dwi.grid[2] == 2 * scan.grid[2]
    assert made.std.shape == made.dwi.data.shape and "encoder and deconvolution" in made.method


def test_other_gradients_are_those_of_predict(scan):
    from fornix.estimators.predict import predict

    target = scheme("dti6")
    made = enhance_scan(scan, to="dti6", method="encoder", threads=1)
    np.testing.assert_array_equal(made.dwi.data, predict(scan, target, method="encoder")[0].data)


def test_bad_sizes_are_said(scan):
    for size, text in (
        (6.0, "larger than the measured"), ((2.5, 2.5, 7), "larger than the measured"),
        (1.0, "less than a third"), (4.9, "nearly those measured"), (-1, "above 0"), ((1, 2), "or three"),
        (float("nan"), "above 0"),
    ):  # fmt: skip
        with pytest.raises(FornixError, match=text) as told:
            enhance_scan(scan, voxel_size=size)
        assert "\n" not in str(told.value)


def test_bad_scans_are_said(scan):
    with pytest.raises(FornixError, match="say what to enhance"):
        enhance_scan(scan)
    table = scan.gradients
    with pytest.raises(FornixError, match="needs a b0"):
        enhance_scan(scan.subset(~table.b0_mask), voxel_size=2.5)
    with pytest.raises(FornixError, match="needs a b0"):
        enhance_scan(scan.subset(table.b0_mask), voxel_size=2.5)
    with pytest.raises(FornixError, match="noise level"):
        enhance_scan(replace(scan, sigma=None), voxel_size=2.5)
    with pytest.raises(FornixError, match="brain mask"):
        enhance_scan(replace(scan, mask=None), voxel_size=2.5)
    with pytest.raises(FornixError, match="mask is empty"):
        scan.with_(mask=np.zeros(scan.grid, bool))
    dark = scan.with_(data=np.zeros_like(scan.data))
    with pytest.raises(FornixError, match="b0 is not positive"):
        enhance_scan(dark, voxel_size=2.5)


def test_what_names_gradients(scan, tmp_path):
    small = scan.subset(np.arange(4))
    save_scan(small, tmp_path / "a_dwi.nii.gz")
    write_mrtrix(small.gradients, tmp_path / "a.b")
    for words in (
        tmp_path / "a_dwi.nii.gz", tmp_path / "a_dwi.bval", tmp_path / "a_dwi.bvec",
        f"{tmp_path}/a_dwi.bvec,{tmp_path}/a_dwi.bval", tmp_path / "a.b",
    ):  # fmt: skip
        found = target_gradients(words, small.affine)
        np.testing.assert_allclose(found.directions, small.gradients.directions, atol=1e-5)
        np.testing.assert_allclose(found.bvals, small.gradients.bvals)
    assert target_gradients("ukb", np.eye(4)) == scheme("ukb")
    assert (
        load(tmp_path / "a_dwi.nii.gz").gradients.bvals.tolist() == small.gradients.bvals.tolist()
    )


def test_what_names_no_gradients(tmp_path):
    with pytest.raises(FornixError, match="no file and no scheme"):
        target_gradients("nonsense", np.eye(4))
    broken = tmp_path / "x.b"
    broken.write_text("not numbers\n")
    with pytest.raises(FornixError, match="not a table of numbers"):
        target_gradients(broken, np.eye(4))
    (tmp_path / "y.bval").write_text("0 1000\n")
    with pytest.raises(FornixError, match=r"y\.bvec"):
        target_gradients(tmp_path / "y.bval", np.eye(4))
    high = Gradients(np.array([0.0, 9000.0]), np.array([[0, 0, 0], [1.0, 0, 0]]))
    write_mrtrix(high, tmp_path / "high.b")
    with pytest.raises(FornixError, match="reaches b = 9000"):
        target_gradients(tmp_path / "high.b", np.eye(4))


@pytest.mark.real
def test_a_real_scan(shared_data):
    from fornix.estimators.mask import brain_mask
    from fornix.preprocess import estimate_noise

    dwi = estimate_noise(
        brain_mask(load(shared_data / "dwi" / "uih-umr770_b930x16_dir-PA" / "dwi.nii.gz"))
    )
    made = sharpen(dwi, (3.5, 3.5, 2.1))
    assert made.dwi.grid[2] == 2 * dwi.grid[2]
    assert made.details["ResidualAfter"] < 2
    before, after = (d.data[d.mask].mean(0) for d in (dwi, made.dwi))
    np.testing.assert_allclose(after, before, rtol=0.06)
