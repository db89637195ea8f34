"""Files in another basis or in other axes are found out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fornix.core.errors import FornixError, FornixWarning
from fornix.core.gradients import fsl_to_world, voxel_rotation
from fornix.models.fod_check import check_fod, check_peaks, coherence, peaks_to_world
from fornix.models.peaks import find_peaks
from fornix.numerics import harmonics
from fornix.physics import Phantom


@pytest.fixture(scope="module")
def peaks(phantom: Phantom) -> np.ndarray:
    """Two peaks of the true FOD, (X, Y, Z, 6), world axes."""
    fod = phantom.truth["fod"].data
    return find_peaks(fod.reshape(-1, fod.shape[3]), 2).reshape(*fod.shape[:3], 6)


def test_the_true_fod_passes(phantom: Phantom):
    assert check_fod(phantom.truth["fod"].data, phantom.dwi.affine) == 8


@pytest.mark.parametrize(("name", "legacy"), [("descoteaux07", True), ("descoteaux07", False)])
def test_dipys_basis_is_told(phantom: Phantom, name, legacy):
    theirs = phantom.truth["fod"].data @ harmonics.to_dipy_matrix(8, name, legacy).T
    with pytest.raises(FornixError, match=r"DIPY's descoteaux07.*from_dipy_matrix"):
        check_fod(theirs, phantom.dwi.affine)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ones((2, 2, 2)), "4 dimensions"),
        (np.ones((2, 2, 2, 7)), "no even harmonic order"),
        (np.ones((2, 2, 2, 81)), "odd orders up to 8"),
        (-np.ones((2, 2, 2, 15)), "another basis"),
        (np.full((2, 2, 2, 15), np.nan), "8 voxels of the FOD are not finite"),
    ],
)
def test_what_is_no_fod(data, message):
    with pytest.raises(FornixError, match=message):
        check_fod(data)


@pytest.mark.parametrize("fsl", [False, True])
def test_peaks_in_other_axes_are_told_and_turned(phantom: Phantom, peaks, fsl):
    """The head on a grid whose axes are turned by 90 degrees: world directions turn with it."""
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ phantom.dwi.affine[:3, :3]
    world = (peaks.reshape(-1, 3) @ turn.T).reshape(peaks.shape)
    to_world = voxel_rotation(affine)
    if fsl:
        to_world = fsl_to_world(affine)
    theirs = (world.reshape(-1, 3) @ to_world).reshape(peaks.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not check_peaks(world, affine)
    with pytest.warns(FornixWarning, match="not in world axes"):
        notes = check_peaks(theirs, affine)
    assert ("FSL's axes" if fsl else "voxel axes") in notes[0]
    np.testing.assert_allclose(peaks_to_world(theirs, affine, fsl), world, atol=1e-5)


def test_coherence_of_noise_and_of_too_little(phantom: Phantom, peaks):
    noise = np.random.default_rng(0).standard_normal((12, 12, 12, 3))
    assert coherence(noise, np.eye(4)) == pytest.approx(0, abs=0.05)
    assert coherence(peaks[..., :3], phantom.dwi.affine) > 0.6
    assert coherence(np.zeros((4, 4, 4, 3)), np.eye(4)) is None


def test_shapes_that_are_no_peaks():
    with pytest.raises(FornixError, match="3 numbers per peak"):
        check_peaks(np.zeros((2, 2, 2, 4)), np.eye(4))
