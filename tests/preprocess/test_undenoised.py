"""All corrections but denoising, each only where it was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess import estimate_noise
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.geometry.transform import Geometry
from fornix.preprocess.quality.measures import snr_by_volume
from fornix.preprocess.undenoised import corrected_undenoised


@pytest.fixture(scope="module")
def raw():
    made = simulate(
        protocol=shells(2, (1000, 6), (3000, 6)), snr=25, voxel_size=4.0, seed=1, threads=1,
        artefacts=Artefacts(gibbs=0.9),
    )  # fmt: skip
    return estimate_noise(made.dwi.with_(mask=made.mask))


def test_nothing_asked_is_nothing_done(raw):
    same = corrected_undenoised(raw, (), Acquisition())
    np.testing.assert_array_equal(np.asarray(same.data), np.asarray(raw.data))


def test_volumes_near_the_noise_keep_their_ringing(raw):
    made = corrected_undenoised(raw, ("gibbs",), Acquisition())
    changed = np.array([not np.array_equal(made.volume(v), raw.volume(v)) for v in range(14)])
    level = snr_by_volume(raw)
    assert changed[level >= 6].all()
    assert not changed[level < 6].any()
    assert (level < 6).any() and (level >= 6).any()


def test_a_head_at_rest_is_not_interpolated_and_the_level_stays(raw):
    rest = Geometry.at_rest(raw.affine, raw.grid, len(raw.gradients))
    made = corrected_undenoised(raw, ("eddy",), Acquisition(), rest)
    np.testing.assert_array_equal(np.asarray(made.data), np.asarray(raw.data))
    np.testing.assert_array_equal(np.asarray(made.sigma), np.asarray(raw.sigma))
