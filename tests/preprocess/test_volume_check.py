"""Volumes that are not what their label says are named by their number; unspoilt scans are left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import rotate

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.physics import simulate
from fornix.preprocess import estimate_noise
from fornix.preprocess.volume_check import check_volumes

PROTOCOLS = ("dti12", "dti30", "demo")


@pytest.fixture(scope="module")
def heads() -> dict[tuple[str, int], DWI]:
    made = {}
    for protocol in PROTOCOLS:
        for snr in (8, 30):
            phantom = simulate(protocol=protocol, snr=snr, voxel_size=6.0, seed=5, threads=1)
            made[protocol, snr] = phantom.dwi.with_(mask=phantom.mask, sigma=None)
    return made


def with_volume(dwi: DWI, image: np.ndarray, b: float, vector: np.ndarray, place: int) -> DWI:
    table = Gradients(
        np.insert(dwi.gradients.bvals, place, b),
        np.insert(dwi.gradients.directions, place, vector, axis=0),
    )
    return dwi.with_(data=np.insert(np.asarray(dwi.data), place, image, axis=3), gradients=table)


def check(dwi: DWI):
    return check_volumes(estimate_noise(dwi))


def test_unspoilt_scans_are_left_alone(heads):
    for name, dwi in heads.items():
        assert check(dwi) == [], name


@settings(max_examples=25, deadline=None, print_blob=False, report_multiple_bugs=False)
@given(
    protocol=st.sampled_from(PROTOCOLS),
    snr=st.sampled_from([8, 30]),
    kind=st.sampled_from(["adc", "mean"]),
    place=st.integers(0, 13),
    scale=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_false_b0s_are_named_wherever_they_stand(heads, protocol, snr, kind, place, scale):
    dwi = heads[protocol, snr]
    b0, weighted = np.clip(dwi.mean_b0(), 1, None), np.clip(dwi.mean_dwi(), 1, None)
    image = (
        1000 * scale * np.clip(np.log(b0 / weighted), 0, None) * dwi.brain()
        if kind == "adc"
        else weighted
    )
    found = check(with_volume(dwi, image, 0.0, np.zeros(3), place))
    assert place in {v for f in found for v in f.volumes}
    named = next(f for f in found if place in f.volumes)
    assert "ADC" in named.text or "mean" in named.text, named.text
    assert f"--exclude {place}" in named.text and "\n" not in named.text


@settings(max_examples=20, deadline=None)
@given(
    protocol=st.sampled_from(["dti30", "demo"]), place=st.integers(1, 25), seed=st.integers(0, 99)
)
def test_a_trace_image_with_a_vector_is_named(heads, protocol, place, seed):
    dwi = heads[protocol, 30]
    shell = max(dwi.gradients.shells, key=len)
    vector = np.random.default_rng(seed).standard_normal(3)
    image = dwi.mean_of(np.array(shell.volumes))
    found = check(with_volume(dwi, image, shell.b, vector / np.linalg.norm(vector), place))
    assert [f.volumes for f in found] == [(place,)]


@settings(max_examples=15, deadline=None)
@given(
    protocol=st.sampled_from(["dti30", "demo"]),
    cut=st.floats(0.3, 0.7),
    scale=st.sampled_from([0.6, 0.9, 1.12, 1.5]),
)
def test_joined_runs_of_another_scale_are_named(heads, protocol, cut, scale):
    dwi = heads[protocol, 30]
    first = round(cut * len(dwi.gradients))
    data = np.array(dwi.data)
    data[..., first:] *= scale
    text = " ".join(f.text for f in check(dwi.with_(data=data)))
    assert "another scale" in text or "to one scale" in text, text


def test_numbers_are_those_of_the_file(heads):
    """After volumes are left out, an odd one is still named as the user counts."""
    dwi = heads["dti30", 30]
    weighted = np.clip(dwi.mean_dwi(), 1, None)
    spoilt = with_volume(dwi, weighted, 0.0, np.zeros(3), 20)
    shorter = spoilt.subset(np.delete(np.arange(len(spoilt.gradients)), [4, 5, 6]))
    assert [f.volumes for f in check(shorter)] == [(20,)]


def test_a_lone_b0_that_is_none(heads):
    dwi = heads["dti12", 30]
    data = np.array(dwi.data)
    place = int(np.flatnonzero(dwi.gradients.b0_mask)[0])
    data[..., place] = 0.3 * dwi.mean_dwi()
    assert [f.kind for f in check(dwi.with_(data=data))] == ["b0-contrast"]


def test_a_bias_that_the_scan_betrays_is_never_silent(heads):
    """A b0 whose level moves the mean diffusivity by 5% is named, one of a percent is not."""
    dwi = heads["dti30", 30]
    place = int(np.flatnonzero(dwi.gradients.b0_mask)[0])
    count = int(dwi.gradients.b0_mask.sum())
    for share, said in ((0.05 * count, True), (0.01, False)):
        data = np.array(dwi.data)
        data[..., place] *= 1 + share
        assert bool(check(dwi.with_(data=data))) == said, share


def test_scans_it_cannot_judge_are_passed_over(heads):
    dwi = heads["dti12", 30]
    assert check_volumes(dwi) == []  # no noise level
    assert check_volumes(replace(dwi.subset([0]), sigma=1.0)) == []


@settings(max_examples=10, deadline=None)
@given(
    protocol=st.sampled_from(PROTOCOLS),
    cut=st.floats(0.35, 0.65),
    axis=st.integers(0, 2),
    voxels=st.sampled_from([-2, -1, 1, 2]),
)
def test_joined_runs_of_another_head_position_are_named(heads, protocol, cut, axis, voxels):
    dwi = heads[protocol, 30]
    first = round(cut * len(dwi.gradients))
    data = np.array(dwi.data)
    data[..., first:] = np.roll(data[..., first:], voxels, axis=axis)
    found = check(dwi.with_(data=data))
    assert [f.kind for f in found] == ["moved"] and abs(found[0].volumes[0] - first) <= 1


@pytest.mark.parametrize(("axes", "degrees"), [((0, 1), 6), ((1, 2), 5), ((0, 2), 8)])
def test_a_turned_run_is_named_and_its_b0s_are_not_taken_for_maps(heads, axes, degrees):
    dwi = heads["dti30", 30]
    first = len(dwi.gradients) // 2
    data = np.array(dwi.data)
    data[..., first:] = rotate(data[..., first:], degrees, axes=axes, reshape=False, order=1)
    text = " ".join(f.text for f in check(dwi.with_(data=data)))
    assert "turned by" in text or "the head moved" in text, text
    assert "has the contrast of" not in text, text


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_a_trace_image_of_another_b_is_named(heads, protocol, factor):
    dwi = heads[protocol, 30]
    shell = dwi.gradients.shells[0]
    if any(abs(factor * shell.b - s.b) < 100 for s in dwi.gradients.shells[1:]):
        pytest.skip("a shell of that b is there")
    image, place = dwi.mean_of(np.array(shell.volumes)), 7
    found = check(with_volume(dwi, image, factor * shell.b, np.array([0.0, 0.6, 0.8]), place))
    assert [f.volumes for f in found] == [(place,)], [f.text for f in found]
