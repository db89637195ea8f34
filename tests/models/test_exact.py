"""Without noise every method returns the truth, and agrees with the peers where those are exact."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fornix.core.gradients import Gradients
from fornix.estimators.microstructure import microstructure
from fornix.estimators.microstructure_methods import MICROSTRUCTURE_METHODS
from fornix.models.kurtosis import fit_kurtosis
from fornix.models.noddi import fit_noddi
from fornix.models.tensor import fit_tensor
from fornix.physics.protocol import scheme
from fornix.testing import model_truth as truth
from fornix.testing.model_truth import as_dwi

IN_FILES = {"md": 1e-3, "ad": 1e-3, "rd": 1e-3, "tensor": 1e-3}


def close_axes(found: np.ndarray, true: np.ndarray) -> float:
    """Largest angle in degrees between axes."""
    sine = np.linalg.norm(np.cross(found, true), axis=-1)
    return float(np.degrees(np.arcsin(np.clip(sine, 0, 1)).max()))


@pytest.mark.parametrize(
    ("model", "method"),
    [
        (m, w)
        for m in MICROSTRUCTURE_METHODS
        for w in MICROSTRUCTURE_METHODS[m]
        if not MICROSTRUCTURE_METHODS[m][w].whole_scan
    ],
)
def test_truth_without_noise(clean, protocol, model, method):
    dwi, known = clean(model, 150)
    if method == "dispersed":
        known = truth.noddis(protocol, 150, seed=1, extra="dispersed")
        dwi = as_dwi(1000 * known.signals, protocol)
    maps = microstructure(dwi, models=(model,), method=method, dti_bmax=None)
    for name, true in known.values.items():
        if f"{model}_{name}" not in maps:
            continue
        found = maps[f"{model}_{name}"].data[:, 0, 0]
        if name in ("v1", "direction"):
            gap = 1.0
            if name == "v1":
                lam = known.values["eigenvalues"]
                gap = (lam[:, 0] - lam[:, 1]) / lam[:, 0]
            clear = np.broadcast_to(gap, len(found)) > 0.02
            assert close_axes(found[clear], true[clear]) < 0.1
            continue
        expected = true * IN_FILES.get(name, 1000.0 if name == "s0" else 1.0)
        size = np.abs(expected).max() if name in ("tensor", "fwf") else np.abs(expected)
        # MK of the sharpest tensors is an integral by quadrature.
        tolerance = 1e-3 if name == "mk" else 1e-4
        np.testing.assert_array_less(np.abs(found - expected), tolerance * size + 2e-6)
    assert maps.trust is not None and maps.trust.all(), maps.notes


@pytest.mark.parametrize("name", ["dti6", "dti12", "dti30", "dsi", "abcd"])
def test_tensor_on_other_protocols(name):
    gradients = scheme(name)
    known = truth.tensors(gradients, 50)
    for method in (
        m for m in MICROSTRUCTURE_METHODS["dti"] if not MICROSTRUCTURE_METHODS["dti"][m].whole_scan
    ):
        fit = fit_tensor(known.signals, gradients, method, sigma=None, std=False)
        np.testing.assert_allclose(fit["md"], known.values["md"], rtol=1e-4)
        np.testing.assert_allclose(fit["fa"], known.values["fa"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["abcd", "hcp", "ukb"])
def test_noddi_on_other_protocols(name):
    gradients = scheme(name)
    known = truth.noddis(gradients, 40)
    fit = fit_noddi(known.signals, gradients)
    for param in ("ndi", "odi", "fwf"):
        np.testing.assert_allclose(fit[param], known.values[param], atol=1e-4)


def test_noddi_signal_is_the_integral(protocol):
    """The model behind the fit against direct integration over the sphere."""
    ndi, odi, fwf = 0.6, 0.2, 0.15
    mu = np.array([2.0, -1.0, 2.0]) / 3
    kappa = 1 / np.tan(np.pi / 2 * odi)
    t, w = np.polynomial.legendre.leggauss(300)
    phi = 2 * np.pi * np.arange(80) / 80
    one = np.cross(mu, [1.0, 0, 0])
    one /= np.linalg.norm(one)
    two = np.cross(mu, one)
    ring = np.cos(phi)[:, None] * one + np.sin(phi)[:, None] * two
    points = (t[:, None, None] * mu + np.sqrt(1 - t**2)[:, None, None] * ring).reshape(-1, 3)
    weight = np.repeat(w * np.exp(kappa * (t**2 - 1)), len(phi))
    weight /= weight.sum()
    cosine2 = (points @ protocol.directions.T) ** 2
    inner = weight @ np.exp(-protocol.b * 1.7 * cosine2)
    across = 1.7 * (1 - ndi)
    extra = np.exp(-protocol.b * (across + (1.7 - across) * (weight @ cosine2)))
    made = (1 - fwf) * (ndi * inner + (1 - ndi) * extra) + fwf * np.exp(-protocol.b * 3.0)
    fit = fit_noddi(made[None], protocol)
    np.testing.assert_allclose(fit.values[0, :3], [ndi, odi, fwf], rtol=1e-4)
    assert close_axes(fit["direction"], mu[None]) < 0.1


def test_tensor_agrees_with_dipy(protocol):
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dti import TensorModel

    noisy = 1000 * truth.add_noise(truth.tensors(protocol, 400).signals, 0.03, 0)
    table = gradient_table(protocol.bvals, bvecs=protocol.directions, b0_threshold=50)
    for method, theirs in (("ols", "OLS"), ("wls", "WLS")):
        peer = TensorModel(table, fit_method=theirs).fit(noisy)
        fit = fit_tensor(noisy, protocol, method)
        np.testing.assert_allclose(fit["md"], 1000 * peer.md, rtol=1e-4)
        np.testing.assert_allclose(fit["fa"], peer.fa, rtol=1e-4, atol=1e-5)
    peer = TensorModel(table, fit_method="NLLS").fit(noisy[:100])
    fit = fit_tensor(noisy[:100], protocol, "nlls", positive=False)
    np.testing.assert_allclose(fit["md"], 1000 * peer.md, rtol=1e-3)


def test_kurtosis_agrees_with_dipy(protocol):
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dki import DiffusionKurtosisModel

    noisy = 1000 * truth.add_noise(truth.kurtoses(protocol, 200).signals, 0.01, 0)
    table = gradient_table(protocol.bvals, bvecs=protocol.directions, b0_threshold=50)
    peer = DiffusionKurtosisModel(table, fit_method="WLS").fit(noisy)
    fit = fit_kurtosis(noisy, protocol, "wls")
    for name in ("mk", "ak", "rk", "kfa"):
        theirs = np.asarray(getattr(peer, name)() if name != "kfa" else peer.kfa)
        assert np.percentile(np.abs(fit[name] - theirs), 98) < 1e-2, name


@pytest.mark.skipif(shutil.which("dwi2tensor") is None, reason="MRtrix3 is not installed")
def test_tensor_agrees_with_mrtrix(protocol, tmp_path: Path):
    noisy = 1000 * truth.add_noise(truth.tensors(protocol, 300).signals, 0.03, 0)
    dwi = as_dwi(noisy, protocol)
    nib.save(nib.Nifti1Image(dwi.data, dwi.affine), tmp_path / "dwi.nii")
    np.savetxt(tmp_path / "grad.txt", protocol.to_mrtrix())
    command = ["dwi2tensor", "-quiet", "-grad", str(tmp_path / "grad.txt"), "-ols", "-iter", "0"]
    command += [str(tmp_path / "dwi.nii"), str(tmp_path / "dt.nii")]
    subprocess.run(command, check=True)
    theirs = np.asarray(nib.load(tmp_path / "dt.nii").dataobj)[:, 0, 0]
    maps = microstructure(dwi, method="ols", dti_bmax=None)
    good = maps.trust[:, 0, 0]
    np.testing.assert_allclose(
        1000 * maps["tensor"].data[good, 0, 0], 1000 * theirs[good], atol=2e-4
    )


def test_b0_uses_its_true_b():
    """A b0 at b = 50 that is taken for 0 would bias the tensor."""
    table = scheme("dti30")
    gradients = Gradients(np.where(table.b0_mask, 50.0, table.bvals), table.directions)
    signals = np.exp(-gradients.b * 1.0)[None]
    assert fit_tensor(signals, gradients)["md"][0] == pytest.approx(1.0, rel=1e-5)
