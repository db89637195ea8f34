"""Masks of any body and grid: the size of the voxels, thin grids, coarse voxels, high b, no background."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fornix.core.dwi import DWI
from fornix.core.grid import head_scale
from fornix.estimators.mask import brain_mask
from fornix.physics import Phantom, simulate


@pytest.fixture(scope="module")
def coarse() -> Phantom:
    return simulate(protocol="demo", snr=30, voxel_size=6.0, seed=1, threads=1)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / max(int(a.sum() + b.sum()), 1)


@settings(max_examples=12, deadline=None)
@given(factor=st.floats(0.01, 0.35))
def test_a_small_brain_is_a_large_one_seen_through_a_lens(coarse, factor):
    scaled = coarse.dwi.with_(affine=np.diag([factor] * 3 + [1.0]) @ coarse.dwi.affine, mask=None)
    assert dice(brain_mask(scaled).mask, coarse.mask) > 0.97


@settings(max_examples=15, deadline=None)
@given(axis=st.integers(0, 2), count=st.integers(1, 4), where=st.floats(0.4, 0.6))
def test_a_few_slices_in_any_axis(coarse, axis, count, where):
    first = round(where * coarse.dwi.grid[axis])
    part = [slice(None)] * 3
    part[axis] = slice(first, first + count)
    here = tuple(part)
    thin = DWI(np.ascontiguousarray(coarse.dwi.data[here]), coarse.dwi.gradients, coarse.dwi.affine)
    assert dice(brain_mask(thin).mask, coarse.mask[here]) > 0.93


@pytest.mark.parametrize("protocol", ["hcp", "abcd", "dsi"])
def test_high_b_does_not_lead_into_the_noise(protocol):
    made = simulate(protocol=protocol, snr=20, voxel_size=6.0, seed=2, threads=1)
    assert dice(brain_mask(made.dwi.with_(mask=None)).mask, made.mask) > 0.97


def test_a_crop_inside_the_head_is_kept_whole(coarse):
    middle = tuple(slice(n // 2 - 3, n // 2 + 3) for n in coarse.dwi.grid)
    crop = DWI(
        np.ascontiguousarray(coarse.dwi.data[middle]), coarse.dwi.gradients, coarse.dwi.affine
    )
    assert brain_mask(crop).mask.mean() > 0.95


def test_noise_alone_is_refused_or_said():
    rng = np.random.default_rng(0)
    noise = np.abs(rng.normal(0, 20, (30, 30, 20, 13))).astype(np.float32)
    table = simulate(protocol="dti12", voxel_size=10.0, threads=1).dwi.gradients
    scan = DWI(noise, table, np.diag([2.0, 2, 2, 1]))
    made = brain_mask(scan)  # everything, as there is no background, or a word
    assert made.mask.mean() > 0.9 or any("--mask" in note for note in made.notes)


def test_head_scale():
    x = np.indices((70, 70, 70)) - 34.5
    ball = (x**2).sum(0) < 30**2  # radius of 30 voxels
    assert head_scale(ball, np.full(3, 2.0)) == 1.0  # 60 mm: human
    assert head_scale(ball, np.full(3, 0.2)) == pytest.approx(0.1, rel=0.02)  # a mouse
    assert head_scale(ball[:, :, 34:35], np.full(3, 2.0)) == 1.0  # one slice of it
    assert head_scale(np.ones((10, 10, 10), bool), np.full(3, 2.0)) == 1.0  # a crop
    assert head_scale(np.zeros((5, 5, 5), bool), np.full(3, 2.0)) == 1.0
