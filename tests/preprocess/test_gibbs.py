"""Ringing goes where it is, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, FornixWarning
from fornix.core.gradients import Gradients
from fornix.core.series import Series
from fornix.io import load
from fornix.preprocess import correct
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.gibbs import remove_gibbs

DATA = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "dwi"


def discs(size: int = 48, finer: int = 4, seed: int = 0) -> np.ndarray:
    """(6, 4 size, 4 size): slices of a few bright discs in a larger one, on a fine grid."""
    rng = np.random.default_rng(seed)
    x, y = np.mgrid[: size * finer, : size * finer] / (size * finer) - 0.5
    made = []
    for _ in range(6):
        image = 100.0 * (x**2 / 0.11 + y**2 / 0.16 < 1)
        for _ in range(6):
            cx, cy, r = *rng.uniform(-0.2, 0.2, 2), rng.uniform(0.03, 0.1)
            image += rng.uniform(-60, 120) * ((x - cx) ** 2 + (y - cy) ** 2 < r**2)
        made.append(image)
    return np.stack(made)


def acquired(
    fine: np.ndarray,
    finer: int = 4,
    partial_fourier: float = 1.0,
    noise: float = 0.0,
    empty: float = 0.0,
    seed: int = 1,
) -> np.ndarray:
    """Magnitudes of truncated k-space; lines along the last axis are left out. empty: share zero-filled."""
    n, m = (s // finer for s in fine.shape[1:])
    f, g = np.fft.fftfreq(n * finer)[:, None], np.fft.fftfreq(m * finer)[None]
    k = np.fft.fft2(fine) * np.exp(1j * np.pi * (finer - 1) * (f + g))
    x, y = (np.fft.fftfreq(s, 1 / s).astype(int) for s in (n, m))
    k = k[:, x][:, :, y] / finer**2
    drawn = np.random.default_rng(seed).standard_normal((2, *k.shape)) * noise * np.sqrt(n * m)
    k = (k + drawn[0] + 1j * drawn[1]) * (y >= -(2 * partial_fourier - 1) * m / 2)
    k = k * (np.abs(x)[:, None] <= (1 - empty) * n / 2) * (np.abs(y) <= (1 - empty) * m / 2)
    return np.abs(np.fft.ifft2(k)).astype(np.float32)


def scan_of(*volumes: np.ndarray, **more: object) -> DWI:
    """Volumes of slices (Z, X, Y), a b0 first, as a scan (X, Y, Z, volumes)."""
    data = np.stack([np.moveaxis(v, 0, 2) for v in volumes], 3).astype(np.float32)
    axes = np.eye(3)[np.arange(len(volumes)) % 3]
    table = Gradients(np.r_[0.0, np.full(len(volumes) - 1, 1000.0)], axes)
    return DWI(data, table, np.diag([2.0, 2.0, 3.0, 1.0]), **more)


def scanned(fine: np.ndarray, **how: float) -> DWI:
    """Three volumes of the same object, weighted ones half as bright."""
    return scan_of(*[acquired(fine * f, seed=v, **how) for v, f in enumerate((1.0, 0.5, 0.5))])


def true_of(fine: np.ndarray, finer: int = 4) -> np.ndarray:
    z, x, y = fine.shape
    return fine.reshape(z, x // finer, finer, y // finer, finer).mean((2, 4))


def error(dwi: DWI, fine: np.ndarray, flat: bool = False) -> float:
    """Root mean square over all voxels, or those within which and beside which the object is flat."""
    true = np.asarray(scan_of(*[f * true_of(fine) for f in (1.0, 0.5, 0.5)]).data)
    squared = (np.asarray(dwi.data) - true) ** 2
    span = ndimage.maximum_filter(true, (3, 3, 1, 1)) - ndimage.minimum_filter(true, (3, 3, 1, 1))
    return float(np.sqrt(squared[span < 1e-6].mean() if flat else squared.mean()))


@pytest.fixture(scope="module")
def fine() -> np.ndarray:
    return discs()


@pytest.fixture(scope="module")
def ringing(fine: np.ndarray) -> DWI:
    return scanned(fine, noise=1.0)


def test_ringing_goes(fine, ringing):
    clean = scanned(fine, noise=0.05)
    assert error(remove_gibbs(clean), fine) < 0.9 * error(clean, fine)
    assert error(remove_gibbs(clean), fine, flat=True) < 0.8 * error(clean, fine, flat=True)
    assert error(remove_gibbs(ringing), fine) < 0.9 * error(ringing, fine)


@pytest.mark.parametrize("share", [0.875, 0.75, 0.625])
@pytest.mark.parametrize("noise", [0.2, 2.0])
def test_partial_fourier_is_undone(fine, share, noise):
    before = scanned(fine, partial_fourier=share, noise=noise)
    told = remove_gibbs(before, partial_fourier=share, phase_axis=1)
    assert error(told, fine) < (1.0 if share > 0.8 else 0.93) * error(remove_gibbs(before), fine)
    assert error(told, fine) < 0.97 * error(before, fine)


def test_filled_partial_fourier_is_said(ringing):
    with pytest.warns(FornixWarning, match="does not show in the images"):
        told = remove_gibbs(ringing, partial_fourier=0.75, phase_axis=1)
    np.testing.assert_array_equal(told.data, remove_gibbs(ringing).data)


def test_zero_filled_images_are_left_with_a_word(fine):
    filled = scanned(fine, noise=1.0, empty=0.2)
    with pytest.warns(FornixWarning, match="along i and j left as it is"):
        left = remove_gibbs(filled)
    np.testing.assert_array_equal(left.data, filled.data)
    assert "interpolated" in left.notes[-1]


@pytest.mark.parametrize("value", [0.0, 7.0, 1e6])
def test_constant_images_stay(value):
    flat = scan_of(*[np.full((2, 20, 24), value)] * 3)
    np.testing.assert_allclose(remove_gibbs(flat).data, value, rtol=2e-6)


def test_mirrored_and_turned_slices_give_the_same(ringing):
    made = np.asarray(remove_gibbs(ringing).data)
    for change in (
        lambda a: a[::-1],
        lambda a: a[:, ::-1],
        lambda a: np.swapaxes(a, 0, 1),
        lambda a: np.roll(a, 5, 0),
    ):
        other = remove_gibbs(ringing.with_(data=np.ascontiguousarray(change(ringing.data)))).data
        differ = np.abs(np.asarray(other) - change(made))
        # Where two shifts are equally good, rounding decides.
        assert np.quantile(differ, 0.998) < 1e-3


@pytest.mark.parametrize("across", [0, 1])
def test_any_slice_axis(ringing, across):
    turned = ringing.with_(data=np.ascontiguousarray(np.swapaxes(ringing.data, 2, across)))
    said = turned.with_(meta={"SliceEncodingDirection": "ij"[across] + "-"})
    for clean in (remove_gibbs(turned, slice_axis=across), correct(said, methods=("gibbs",))):
        made = np.swapaxes(clean.data, 2, across)
        # The plane is turned too, so equal up to rounding.
        assert np.quantile(np.abs(made - remove_gibbs(ringing).data), 0.998) < 1e-3


def test_any_storage_and_threads_give_the_same_bits(ringing):
    made = np.asarray(remove_gibbs(ringing, threads=1).data)
    np.testing.assert_array_equal(remove_gibbs(ringing, threads=2).data, made)
    by_volume = ringing.with_(data=np.asfortranarray(ringing.data))
    np.testing.assert_array_equal(remove_gibbs(by_volume).data, made)
    stored = Series(ringing.data.shape)
    for v in range(3):
        stored.put_volume(v, ringing.volume(v))
    found = remove_gibbs(ringing.with_(data=stored)).data
    assert isinstance(found, Series)
    np.testing.assert_array_equal(np.asarray(found), made)


def test_dark_slices_and_missing_numbers(ringing):
    data = np.array(ringing.data)
    data[:, :, 0] = 0
    data[3, 4, 1, 1] = np.nan
    made = np.asarray(remove_gibbs(ringing.with_(data=data)).data)
    assert (made[:, :, 0] == 0).all()
    assert np.isnan(made[3, 4, 1, 1]) and np.isnan(made).sum() == 1
    assert np.nanmin(made) >= 0


def test_odd_sizes():
    part = discs(size=45)[:, :, : 4 * 37]
    odd = scanned(part, noise=0.5)
    assert error(remove_gibbs(odd), part) < 0.95 * error(odd, part)


def test_few_pixels_are_left(ringing):
    small = ringing.with_(data=ringing.data[:7])
    assert remove_gibbs(small) is small


def test_progress_counts_volumes(ringing):
    seen: list[tuple[int, int]] = []
    remove_gibbs(ringing, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"slice_axis": 3}, "slice axis is 0, 1 or 2"),
        ({"partial_fourier": 0.5, "phase_axis": 1}, "above 0.5"),
        ({"partial_fourier": 1.2, "phase_axis": 1}, "above 0.5"),
        ({"partial_fourier": 0.75}, "give phase_axis"),
        ({"partial_fourier": 0.75, "phase_axis": 2}, "lies in the slices"),
    ],
)
def test_what_cannot_be_is_refused(ringing, how, message):
    with pytest.raises(FornixError, match=message):
        remove_gibbs(ringing, **how)


def test_correct_knows_the_word(ringing):
    made = correct(ringing, methods=("gibbs",))
    np.testing.assert_array_equal(made.data, remove_gibbs(ringing).data)


@pytest.mark.skipif(not DATA.is_dir(), reason="no real scans")
def test_real_scans_are_told_apart():
    zero_filled = load(DATA / "philips-achieva_b1000x32" / "dwi.nii.gz")
    with pytest.warns(FornixWarning, match="left as it is"):
        assert remove_gibbs(zero_filled).data is zero_filled.data
    partial = load(DATA / "siemens-prisma_b2000x20_run-1" / "dwi.nii.gz")
    told = Acquisition.of(partial)
    made = remove_gibbs(
        partial, partial_fourier=told.partial_fourier, phase_axis=told.encoding.axis
    )
    assert made.notes == partial.notes
    change = np.asarray(made.data) - partial.data
    bright = partial.mean_b0() > np.percentile(partial.mean_b0(), 70)
    assert abs(change[bright].mean()) < 0.01 * partial.data[bright].mean()
