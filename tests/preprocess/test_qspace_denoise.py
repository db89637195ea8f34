"""Denoising from the scan itself: nearer to the truth, nothing shifted, whatever the order of things."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.estimators.mask import brain_mask
from fornix.io import load
from fornix.physics import Noise, Phantom, simulate
from fornix.physics.protocol import shells
from fornix.preprocess import denoise, estimate_noise
from fornix.preprocess.noise_correlation import noise_correlation
from fornix.preprocess.qspace_denoise import (
    expected_magnitude,
    qspace,
    qspace_complex,
    real_part,
    true_signal,
)

DATA = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "dwi"


def made_head(directions: int, snr: float, **noise: float) -> Phantom:
    table = shells(1, (1000.0, directions))
    return simulate(protocol=table, noise=Noise(snr=snr, **noise), voxel_size=4.0, seed=5)


def scan_of(phantom: Phantom) -> DWI:
    return phantom.dwi.with_(mask=phantom.mask)


def error(dwi: DWI, phantom: Phantom) -> float:
    level = np.broadcast_to(phantom.sigma, dwi.grid)[phantom.mask][:, None]
    difference = (np.asarray(dwi.data) - phantom.clean)[phantom.mask] / level
    return float(np.sqrt((difference**2).mean()))


@pytest.fixture(scope="module")
def few() -> Phantom:
    return made_head(6, 15.0)


@pytest.fixture(scope="module")
def usual() -> Phantom:
    return made_head(30, 12.0)


def test_nearer_to_the_truth_than_mppca(few, usual):
    for phantom in (few, usual):
        dwi = scan_of(phantom)
        ours, before = denoise(dwi, method="qspace"), denoise(dwi, method="mppca")
        assert error(ours, phantom) < 0.9 * error(before, phantom)
        assert error(ours, phantom) < 0.75 * error(dwi, phantom)


def test_the_mean_of_weighted_volumes_is_not_shifted(few, usual):
    # A b0 that stands alone is pulled to the others by up to an eighth of the noise.
    for phantom in (few, usual, made_head(6, 5.0)):
        dwi = scan_of(phantom)
        made = denoise(dwi.with_(sigma=phantom.sigma), method="qspace")
        level = np.broadcast_to(phantom.sigma, dwi.grid)[..., None]
        shift = ((np.asarray(made.data) - phantom.clean) / level)[phantom.mask].mean(0)
        assert np.abs(shift[1:]).max() < 0.03
        assert np.abs(shift[0]) < 0.15


def test_correlated_noise_goes_too():
    # A scanner that interpolates: what the noise level alone says would take too little off.
    phantom = made_head(30, 12.0, smoothing=1.3)
    dwi = estimate_noise(scan_of(phantom))
    assert min(noise_correlation(dwi, np.flatnonzero(phantom.mask))[:2]) > 0.1
    assert error(denoise(dwi, method="qspace"), phantom) < 0.75 * error(dwi, phantom)


def test_noise_that_varies_in_space():
    phantom = made_head(30, 15.0, variation=0.5)
    assert error(denoise(scan_of(phantom), method="qspace"), phantom) < 0.5


def test_threads_give_the_same_bits(few):
    one, two = (denoise(scan_of(few), method="qspace", threads=t).data for t in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_volume_order_does_not_matter(few):
    dwi = estimate_noise(scan_of(few))
    order = np.array([3, 0, 6, 2, 5, 1, 4])
    straight = np.asarray(denoise(dwi, method="qspace").data)
    turned = np.asarray(denoise(dwi.subset(order), method="qspace").data)
    level = float(np.median(np.asarray(dwi.sigma)))
    np.testing.assert_allclose(turned, straight[..., order], atol=0.02 * level)


def test_scale_does_not_matter(few):
    dwi = scan_of(few)
    large = dwi.with_(data=dwi.data * 1000)
    made, other = (np.asarray(denoise(d, method="qspace").data) for d in (dwi, large))
    level = float(np.mean(few.sigma))
    np.testing.assert_allclose(other / 1000, made, atol=0.02 * level)


def test_background_stays_and_dark_voxels_are_numbers(few):
    dwi = scan_of(few)
    data = np.array(dwi.data)
    data[:, :, : data.shape[2] // 4] = 0
    made = np.asarray(denoise(dwi.with_(data=data), method="qspace").data)
    assert np.isfinite(made).all() and (made >= 0).all()
    np.testing.assert_array_equal(made[~few.mask], data[~few.mask])
    bare = denoise(few.dwi, method="qspace")
    assert np.isfinite(np.asarray(bare.data)).all()


def test_signal_and_expected_magnitude_are_inverse():
    signal = np.array([0.0, 0.3, 1.0, 3.0, 29.0, 31.0, 500.0])
    back = true_signal(expected_magnitude(signal, np.ones(1)), np.ones(1))
    np.testing.assert_allclose(back[1:], signal[1:], rtol=2e-3)
    assert back[0] < 0.05 and true_signal(np.array([0.5]), np.ones(1)) == 0
    drawn = np.random.default_rng(0).standard_normal((2, 200_000))
    measured = np.hypot(1.5 + drawn[0], drawn[1]).mean()
    assert expected_magnitude(np.array([1.5]), np.ones(1))[0] == pytest.approx(measured, abs=0.01)


def test_complex_pairs_have_no_bias(few):
    # The same head with noise in both channels and a phase that differs between volumes.
    rng = np.random.default_rng(3)
    level = float(np.mean(few.sigma)) * 3
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in few.dwi.grid], indexing="ij")
    phase = np.stack([2 * x + f * y - z * x for f in rng.uniform(-2, 2, 7)], 3)
    drawn = rng.standard_normal((2, *few.clean.shape)) * level
    image = few.clean * np.exp(1j * phase) + drawn[0] + 1j * drawn[1]
    dwi = few.dwi.with_(data=np.abs(image), mask=few.mask, sigma=level)
    real = real_part(dwi, np.angle(image))
    inside = few.mask
    assert abs((np.asarray(real.data) - few.clean)[inside].mean()) < 0.1 * level
    made = qspace_complex(dwi, np.angle(image))
    difference = (np.asarray(made.data) - few.clean)[inside] / level
    assert abs(difference.mean()) < 0.1
    assert np.sqrt((difference**2).mean()) < 0.6


def test_what_cannot_be_is_refused(few):
    dwi = scan_of(few)
    with pytest.raises(FornixError, match="7 volumes"):
        denoise(dwi.subset(range(6)), method="qspace")
    with pytest.raises(FornixError, match="shape"):
        real_part(dwi, np.zeros((2, 2, 2, 7)))
    with pytest.raises(FornixError, match="radians"):
        real_part(dwi, np.full(dwi.data.shape, 180.0))
    with pytest.raises(FornixError, match="noise level is 0"):
        qspace(dwi.with_(sigma=0.0))
    with pytest.raises(FornixError, match="empty"):
        qspace(few.dwi.with_(data=np.zeros_like(few.dwi.data), sigma=1.0))


@pytest.mark.skipif(not DATA.is_dir(), reason="no real scans")
def test_a_real_scan_leaves_no_anatomy():
    dwi = estimate_noise(brain_mask(load(DATA / "siemens-prisma_b2000x20_run-1" / "dwi.nii.gz")))
    made = denoise(dwi, method="qspace")
    sigma = np.asarray(dwi.sigma)[..., None]
    weighted = ~dwi.gradients.b0_mask
    shown = expected_magnitude(np.asarray(made.data), sigma)
    left = ((np.asarray(dwi.data) - shown) / sigma)[..., weighted]
    inner = ndimage.binary_erosion(dwi.brain(), iterations=2)
    size = np.sqrt(ndimage.gaussian_filter((left**2).mean(3), 1.0))
    edges = ndimage.gaussian_gradient_magnitude(dwi.mean_dwi(), 0.7)
    assert abs(np.corrcoef(size[inner], edges[inner])[0, 1]) < 0.25
    assert 0.4 < np.median(size[inner]) < 1.05
