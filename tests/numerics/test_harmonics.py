"""The basis: orthonormal, MRtrix3's, turned and converted without loss."""

from __future__ import annotations

import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre

from fornix.core.errors import FornixError
from fornix.numerics import harmonics


@pytest.mark.parametrize("lmax", [0, 2, 4, 8, 12])
def test_orthonormal(lmax):
    points, weights = harmonics._analysis(2 * lmax)
    basis = harmonics.evaluate(lmax, points)
    np.testing.assert_allclose(
        basis.T @ (weights[:, None] * basis), np.eye(basis.shape[1]), atol=1e-10
    )


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_rotation(seed):
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(random_state=seed).as_matrix() * rng.choice([-1, 1])
    matrix = harmonics.rotation_matrix(8, rotation)
    points, c = rng.standard_normal((30, 3)), rng.standard_normal(45)
    turned = harmonics.evaluate(8, points @ rotation.T) @ (matrix @ c)
    np.testing.assert_allclose(turned, harmonics.evaluate(8, points) @ c, atol=1e-10)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(45), atol=1e-10)


def test_legendre():
    x = torch.linspace(-1, 1, 31, dtype=torch.float64)
    made = harmonics.legendre(12, x).numpy()
    for column, ell in enumerate(range(0, 13, 2)):
        np.testing.assert_allclose(made[:, column], eval_legendre(ell, x.numpy()), atol=1e-12)


@pytest.mark.parametrize(
    ("basis", "legacy"), [("descoteaux07", True), ("descoteaux07", False), ("tournier07", False)]
)
def test_dipy_bases_convert_both_ways(basis, legacy):
    there = harmonics.to_dipy_matrix(8, basis, legacy)
    np.testing.assert_allclose(
        harmonics.from_dipy_matrix(8, basis, legacy) @ there, np.eye(45), atol=1e-10
    )
    from dipy.core.geometry import cart2sphere
    from dipy.reconst.shm import real_sh_descoteaux, real_sh_tournier

    points = Rotation.random(20, random_state=0).apply([0, 0, 1])
    _, theta, phi = cart2sphere(*points.T)
    make = real_sh_descoteaux if basis == "descoteaux07" else real_sh_tournier
    theirs = make(8, theta, phi, legacy=legacy)[0]
    c = np.random.default_rng(0).standard_normal(45)
    np.testing.assert_allclose(theirs @ (there @ c), harmonics.evaluate(8, points) @ c, atol=1e-8)


def test_mrtrix_reads_our_coefficients(tmp_path):
    if not shutil.which("sh2amp"):
        pytest.skip("mrtrix3 is not installed")
    c = np.random.default_rng(0).standard_normal((3, 2, 2, 28)).astype(np.float32)
    nib.save(nib.Nifti1Image(c, np.eye(4)), tmp_path / "c.nii")
    points = Rotation.random(9, random_state=2).apply([0, 0, 1])
    np.savetxt(tmp_path / "u.txt", points)
    subprocess.run(["sh2amp", "c.nii", "u.txt", "a.nii", "-quiet"], cwd=tmp_path, check=True)
    theirs = nib.load(tmp_path / "a.nii").get_fdata()
    np.testing.assert_allclose(theirs, c @ harmonics.evaluate(6, points).T, atol=1e-5)


@pytest.mark.parametrize("n", [2, 7, 44, 0])
def test_wrong_number_of_coefficients(n):
    with pytest.raises(FornixError, match="coefficients"):
        harmonics.lmax_of(n)
