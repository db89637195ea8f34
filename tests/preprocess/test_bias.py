"""The receive field is found, whatever the tissue, and changes no ratio of volumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess.bias import bias_field, correct_bias


def scanned(bias: float, seed: int = 1):
    return simulate(
        protocol=shells(1, (1000, 6)), snr=25, seed=seed, voxel_size=4.0, threads=1,
        artefacts=Artefacts(bias=bias),
    )  # fmt: skip


def left_over(found: np.ndarray, made) -> float:
    true = made.artefact_truth.bias if made.artefact_truth else np.ones(made.mask.shape)
    share = np.log(found[made.mask] / true[made.mask])
    return float(np.abs(share - np.median(share)).mean())


@pytest.mark.parametrize("bias", [0.0, 0.15, 0.4])
def test_what_is_left_is_below_3_percent(bias):
    made = scanned(bias)
    dwi = made.dwi.with_(mask=made.mask)
    assert left_over(bias_field(dwi), made) < 0.03


def test_b0s_alone_still_help():
    made = scanned(0.4)
    b0 = made.dwi.with_(mask=made.mask).subset([0])
    assert left_over(bias_field(b0), made) < 0.6 * left_over(np.ones(made.mask.shape), made)


def test_ratios_of_volumes_stay_and_the_noise_goes_along():
    made = scanned(0.3)
    dwi = made.dwi.with_(mask=made.mask, sigma=np.full(made.mask.shape, 2.0, np.float32))
    done = correct_bias(dwi)
    field = np.asarray(dwi.sigma) / np.asarray(done.sigma)
    np.testing.assert_allclose(
        np.asarray(done.data) * field[..., None], np.asarray(dwi.data), rtol=1e-4, atol=1e-3
    )
    assert np.exp(np.log(field[made.mask]).mean()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_how_the_scan_is_stored_does_not_matter(axis):
    made = scanned(0.3)
    dwi = made.dwi.with_(mask=made.mask)
    turned = replace(dwi, data=np.flip(np.asarray(dwi.data), axis), mask=np.flip(made.mask, axis))
    other = np.flip(bias_field(turned), axis)
    np.testing.assert_allclose(other[made.mask], bias_field(dwi)[made.mask], rtol=0.03)


def test_too_little_to_tell_is_left_alone():
    made = scanned(0.3)
    few = np.zeros_like(made.mask)
    few[:5, :5, :5] = True
    assert (bias_field(made.dwi.with_(mask=few)) == 1).all()
