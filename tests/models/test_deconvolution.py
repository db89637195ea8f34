"""Both deconvolutions: against slow exact solutions, against MRtrix3, and the same for any block."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.optimize import nnls

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.models.deconvolution.csd import csd, msmt
from fornix.models.deconvolution.interior_point import deconvolve_nonnegative
from fornix.models.deconvolution.penalised import deconvolve_penalised
from fornix.models.deconvolution.response import estimate_responses
from fornix.numerics import harmonics
from fornix.numerics.constraint_sphere import sphere
from fornix.numerics.directions import fibonacci, spread
from fornix.numerics.zonal import convolution

DIRECTIONS = spread(60)
STICK = np.array([0.5, -0.55, 0.2, -0.05, 0.01])
ROUND = np.array([0.9, -0.2, 0.03, -0.004, 0.0005])


@pytest.fixture(scope="module")
def problem() -> tuple[np.ndarray, np.ndarray]:
    """Design (136, 47) of two shells, 16 b0s, fluid and grey; noisy signals (40, 136) of crossings."""
    rng = np.random.default_rng(1)
    zero = np.array([1.0, 0, 0, 0, 0])
    blocks = [(ROUND, 0.1, 0.6), (STICK, 0.02, 0.35)]
    design = [np.column_stack([convolution(DIRECTIONS[:16], zero, 8), np.ones((16, 2)) * [2, 1.2]])]
    for white, fluid, grey in blocks:
        isotropic = np.ones((60, 2)) * [fluid, grey]
        design.append(np.column_stack([convolution(DIRECTIONS, white, 8), isotropic]))
    full = np.concatenate(design)
    axes = rng.standard_normal((40, 2, 3))
    axes /= np.linalg.norm(axes, axis=2, keepdims=True)
    shares = rng.dirichlet([1, 1, 0.5, 0.5], 40)
    lobes = harmonics.evaluate(8, axes)
    truth = np.concatenate([(lobes * shares[:, :2, None]).sum(1), shares[:, 2:]], axis=1)
    clean = truth @ full.T
    return full, (clean + 0.03 * rng.standard_normal(clean.shape)).astype(np.float32)


def relative(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return np.linalg.norm(ours - theirs, axis=-1) / np.linalg.norm(theirs, axis=-1)


def test_products_of_harmonics_are_exact():
    ball = sphere(8)
    weights = np.random.default_rng(0).random(300)
    exact = (ball.basis * weights[:, None]).T @ ball.basis
    moments = ball.moments @ weights
    terms = ball.value * moments[ball.index]
    ours = np.add.reduceat(terms, ball.start[:-1])
    np.testing.assert_allclose(ours, exact[np.tril_indices(45)], atol=1e-10)


def test_tissues_as_by_lawson_and_hanson(problem):
    """The quadratic programme solved through its dual by an active-set method, voxel by voxel."""
    design, signals = problem
    amplitude = np.zeros((302, 47))
    amplitude[:300, :45] = harmonics.evaluate(8, fibonacci(300))
    amplitude[300:, 45:] = np.eye(2)
    orthogonal, upper = np.linalg.qr(design)
    cone = np.linalg.solve(upper.T, amplitude.T)
    cone /= np.linalg.norm(cone, axis=0)
    exact = []
    for signal in signals.astype(np.float64):
        best = orthogonal.T @ np.clip(signal, 0, None)
        exact.append(np.linalg.solve(upper, best + cone @ nnls(cone, -best, maxiter=5000)[0]))
    ours = deconvolve_nonnegative(signals, design, 8)
    assert relative(ours, np.array(exact)).max() < 0.01
    assert (ours @ amplitude.T).min() > -1e-6  # float32 on disk


def test_one_shell_as_by_newton_in_numpy(problem):
    design, signals = problem
    shell, data = design[-60:, :45], signals[:, -60:]
    mean = STICK[0] * np.sqrt(4 * np.pi)
    basis = harmonics.evaluate(8, fibonacci(300))
    normal = shell.T @ shell
    normal += 2e-4 * normal[0, 0] * np.eye(45)
    exact = []
    for signal in data.astype(np.float64):
        x = np.zeros(45)
        x[0] = 1.0
        for _ in range(50):
            low = basis[basis @ x < 0] * 50 * mean / 300
            before, x = x, np.linalg.solve(normal + low.T @ low, shell.T @ signal)
            if np.array_equal(before, x):
                break
        exact.append(x)
    ours = deconvolve_penalised(data, shell, 8, mean)
    assert relative(ours, np.array(exact)).max() < 0.01


def test_what_cannot_be_solved_is_zero_and_harms_no_neighbour(problem):
    design, signals = problem
    spoiled = signals.copy()
    spoiled[3], spoiled[4], spoiled[5, 7] = 0, np.nan, np.inf
    whole, part = (deconvolve_nonnegative(s, design, 8) for s in (signals, spoiled))
    assert np.isfinite(part).all()
    assert not part[3:5].any()
    others = np.delete(np.arange(len(signals)), [3, 4, 5])
    np.testing.assert_array_equal(whole[others], part[others])
    assert np.isfinite(deconvolve_penalised(spoiled[:, -60:], design[-60:, :45], 8, 1.8)).all()


def test_same_bits_for_any_threads_and_company(problem):
    design, signals = problem
    many = np.tile(signals, (60, 1))
    with use_threads(1):
        one = deconvolve_nonnegative(many, design, 8)
        penalised = deconvolve_penalised(many[:, -60:], design[-60:, :45], 8, 1.8)
    with use_threads(2):
        two = deconvolve_nonnegative(many, design, 8)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[:40], deconvolve_nonnegative(signals, design, 8))
    alone = deconvolve_penalised(signals[:, -60:], design[-60:, :45], 8, 1.8)
    np.testing.assert_allclose(penalised[-40:], alone, atol=1e-5)


@pytest.mark.skipif(shutil.which("dwi2fod") is None, reason="MRtrix3 is not installed")
def test_mrtrix_agrees(head: DWI, tmp_path: Path):
    from fornix.estimators.microstructure import microstructure

    tensor = microstructure(head, models=("dti",), method="wls")
    responses = estimate_responses(head, tensor["fa"].data, tensor["md"].data)
    keep = head.brain() & (np.random.default_rng(0).random(head.grid) < 0.02)
    part = head.with_(mask=keep)
    axes = fibonacci(300)
    save = {"dwi": head.data, "mask": keep.astype(np.uint8)}
    for name, data in save.items():
        nib.save(nib.Nifti1Image(data, head.affine), tmp_path / f"{name}.nii")
    root = np.sqrt(4 * np.pi)
    np.savetxt(tmp_path / "grad.txt", head.gradients.to_mrtrix())
    angles = np.column_stack([np.arctan2(axes[:, 1], axes[:, 0]), np.arccos(axes[:, 2])])
    np.savetxt(tmp_path / "axes.txt", angles)
    zonal = responses.wm * root / np.sqrt(2 * np.arange(0, 9, 2) + 1)
    np.savetxt(tmp_path / "wm.txt", zonal)
    np.savetxt(tmp_path / "last.txt", zonal[-1:])
    np.savetxt(tmp_path / "gm.txt", responses.gm[:, None] * root)
    np.savetxt(tmp_path / "csf.txt", responses.csf[:, None] * root)
    common = "-quiet -directions axes.txt -grad grad.txt -mask mask.nii dwi.nii"
    for job in (
        f"dwi2fod csd {common} last.txt csd.nii",
        f"dwi2fod msmt_csd {common} wm.txt msmt.nii gm.txt gm.nii csf.txt csf.nii",
    ):
        subprocess.run(job.split(), cwd=tmp_path, check=True)
    for name, ours in (("csd", csd(part, responses, 8)), ("msmt", msmt(part, responses, 8))):
        theirs = np.asarray(nib.load(tmp_path / f"{name}.nii").dataobj)[keep]
        size = np.linalg.norm(theirs, axis=1)
        error = relative(ours["fod"][keep], theirs)[size > 0.1 * size.max()]
        assert np.median(error) < 0.005
        assert np.percentile(error, 95) < 0.02
