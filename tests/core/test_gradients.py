"""Frames: every storage order, obliques, round trips, and tables that cannot be right."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients, fsl_to_world

ORIENTATIONS = [
    (order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]


def affine_of(order: tuple[int, ...], signs: tuple[int, ...], oblique: np.ndarray) -> np.ndarray:
    linear = np.zeros((3, 3))
    linear[list(order), range(3)] = np.array(signs) * [1.5, 2.0, 2.5]
    affine = np.eye(4)
    affine[:3, :3] = oblique @ linear
    affine[:3, 3] = [-90, 40, 7]
    return affine


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
@pytest.mark.parametrize("turn", [np.eye(3), Rotation.random(random_state=5).as_matrix()])
def test_world_direction_is_the_one_dipy_and_fsl_mean(order, signs, turn):
    """FSL: voxel axes, x flipped where the determinant is positive. 48 orders, straight and oblique."""
    affine = affine_of(order, signs, turn)
    bvec = np.array([[0.6, 0.0, 0.8], [0.36, 0.48, 0.8]])
    made = Gradients.from_fsl([1000, 1000], bvec.T, affine)
    voxel = bvec.copy()
    if np.linalg.det(affine[:3, :3]) > 0:
        voxel[:, 0] *= -1
    expected = voxel @ (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).T
    np.testing.assert_allclose(made.directions, expected, atol=1e-12)
    np.testing.assert_allclose(made.to_fsl(affine)[1], bvec.T, atol=1e-12)


@given(seed=st.integers(0, 10_000), signs=st.tuples(*[st.sampled_from([1, -1])] * 3))
@settings(max_examples=40, deadline=None)
def test_round_trips(seed, signs):
    affine = affine_of((0, 1, 2), signs, Rotation.random(random_state=seed).as_matrix())
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    made = Gradients(rng.uniform(100, 3000, 20), directions)
    again = Gradients.from_fsl(*made.to_fsl(affine), affine)
    np.testing.assert_allclose(again.directions, made.directions, atol=1e-10)
    np.testing.assert_allclose(
        Gradients.from_mrtrix(made.to_mrtrix()).directions, made.directions, atol=1e-12
    )


def test_mrtrix_and_fsl_agree_on_the_frame(tmp_path):
    """mrtrix3 converts our FSL files to our MRtrix table, for a flipped oblique affine."""
    import shutil
    import subprocess

    if not shutil.which("mrinfo"):
        pytest.skip("mrtrix3 is not installed")
    import nibabel as nib

    from fornix.io import write_fsl

    affine = affine_of(
        (2, 0, 1), (1, -1, 1), Rotation.from_euler("xyz", [10, 20, 5], True).as_matrix()
    )
    directions = Rotation.random(8, random_state=1).apply([0, 0, 1])
    made = Gradients(np.r_[0, np.full(8, 1000.0)], np.r_[[[0, 0, 0]], directions])
    write_fsl(made, affine, tmp_path / "x.bval", tmp_path / "x.bvec")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 9), np.float32), affine), tmp_path / "x.nii")
    subprocess.run(
        ["mrinfo", "x.nii", "-fslgrad", "x.bvec", "x.bval", "-export_grad_mrtrix", "x.b", "-quiet"],
        cwd=tmp_path,
        check=True,
    )
    np.testing.assert_allclose(np.loadtxt(tmp_path / "x.b"), made.to_mrtrix(), atol=2e-4)


def test_shells_are_clustered_by_gaps():
    b = [0, 5, 995, 1000, 1005, 1990, 2010, 2995, 3005]
    made = Gradients(b, np.where(np.array(b)[:, None] > 50, [[0, 0, 1.0]], 0.0))
    assert [round(s.b) for s in made.shells] == [1000, 2000, 3000]
    assert list(made.b0_mask) == [True, True] + [False] * 7
    assert str(made) == "2 b0, 3 at b=1000, 2 at b=2000, 2 at b=3000"


def test_non_unit_vectors_are_normalised_and_said():
    made = Gradients([1000, 1000], [[0, 0, 2.0], [1, 0, 0]])
    np.testing.assert_allclose(np.linalg.norm(made.directions, axis=1), 1)
    assert "not of unit length" in made.notes[0]


def test_transposed_table_is_accepted_and_said():
    rows = Rotation.random(7, random_state=0).apply([1, 0, 0])
    made = Gradients.from_fsl(np.full(7, 1000.0), rows, np.diag([-1, 1, 1, 1]))
    assert "columns" in made.notes[0]
    np.testing.assert_allclose(made.directions, rows * [-1, 1, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("bvals", "bvecs", "words"),
    [
        ([0, 1, 2], np.eye(3), "ms/µm²"),
        ([0, 1000, 1000], np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1.0]]).T, "zero b-vector"),
        ([0, 1000], np.zeros((3, 5)), "do not belong together"),
        ([0, -5, 1000], np.eye(3), "finite and >= 0"),
        ([0, np.nan, 1000], np.eye(3), "finite and >= 0"),
        ([0, 1000, 1000], np.full((3, 3), np.nan), "not finite"),
        ([0, 1000, 1000, 1000], np.zeros((2, 4)), "3 rows"),
    ],
)
def test_impossible_tables_are_one_clear_line(bvals, bvecs, words):
    with pytest.raises(FornixError, match=words) as caught:
        Gradients.from_fsl(bvals, bvecs, np.diag([-2, 2, 2, 1]))
    assert "\n" not in str(caught.value)


def test_singular_affine():
    with pytest.raises(FornixError, match="singular"):
        fsl_to_world(np.zeros((4, 4)))


def test_tables_are_immutable():
    made = Gradients([1000], [[0, 0, 1.0]])
    with pytest.raises(ValueError, match="read-only"):
        made.directions[0, 0] = 1
