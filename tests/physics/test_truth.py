"""Derived truth against closed forms, DIPY, and the exact cumulants of the compartments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fornix.core.design import quadratic_form, quartic_form
from fornix.numerics import harmonics
from fornix.numerics.directions import fibonacci, spread
from fornix.physics import Tissue, signal, truth, watson
from fornix.testing.properties import six_to_matrix

F64 = torch.float64


def bundle(odi: float, ndi: float, fwf: float, d_perp: float | None = None) -> Tissue:
    return Tissue(
        torch.tensor([[[0.0, 0.6, 0.8]]], dtype=F64),
        torch.ones(1, 1, dtype=F64),
        torch.full((1, 1), odi, dtype=F64),
        torch.tensor([ndi], dtype=F64),
        torch.tensor([fwf], dtype=F64),
        torch.tensor([1.7], dtype=F64),
        None if d_perp is None else torch.tensor([d_perp], dtype=F64),
    )


def test_a_gaussian_bundle_gives_its_own_tensor() -> None:
    found = truth.fitted(bundle(1e-6, 0.0, 0.0, d_perp=0.4))
    assert found["dti_ad"].item() == pytest.approx(1.7, abs=1e-3)
    assert found["dti_rd"].item() == pytest.approx(0.4, abs=1e-3)
    assert abs(found["dti_v1"][0] @ torch.tensor([0.0, 0.6, 0.8], dtype=F64)) > 0.999999
    assert abs(found["dki_mk"].item()) < 1e-2
    fa = np.sqrt(1.5 * (2 * (0.4 - 2.5 / 3) ** 2 + (1.7 - 2.5 / 3) ** 2) / (1.7**2 + 2 * 0.4**2))
    assert found["dti_fa"].item() == pytest.approx(fa, abs=1e-3)


def test_free_water_is_isotropic_and_gaussian() -> None:
    found = truth.fitted(bundle(0.1, 0.6, 1.0))
    assert found["dti_fa"].item() < 1e-6
    assert found["dti_md"].item() == pytest.approx(3.0, abs=1e-9)
    assert abs(found["dki_mk"].item()) < 1e-6


def test_a_parallel_stick_is_all_anisotropy() -> None:
    found = truth.fitted(bundle(1e-6, 1.0, 0.0))
    assert found["dti_fa"].item() > 0.99
    assert found["dti_rd"].item() == pytest.approx(0, abs=2e-3)


def test_cumulants_are_the_signals_derivatives_at_zero(mixed: Tissue) -> None:
    directions = torch.tensor(spread(12).copy())
    slope, curvature = truth.cumulants(mixed, directions)
    step = 1e-2
    logs = [
        signal(mixed, (torch.full((12,), k * step), directions)).log().numpy() for k in range(1, 4)
    ]
    # One-sided differences at b = 0, third order.
    first = (18 * logs[0] - 9 * logs[1] + 2 * logs[2]) / (6 * step)
    second = (-5 * logs[0] + 4 * logs[1] - logs[2]) / step**2
    np.testing.assert_allclose(-first, slope, atol=5e-5)
    np.testing.assert_allclose(3 * second, curvature, atol=2e-2)


def test_cumulants_are_those_of_the_fit_at_low_b(mixed: Tissue) -> None:
    directions = np.vstack([np.zeros((1, 3)), spread(40), spread(40, seed=1)])
    b = np.r_[0.0, np.full(40, 0.02), np.full(40, 0.04)]
    design = np.hstack(
        [
            np.ones((81, 1)),
            -b[:, None] * quadratic_form(directions),
            (b**2 / 6)[:, None] * quartic_form(directions),
        ]
    )
    fit = truth.log_fit(signal(mixed, (torch.tensor(b), torch.tensor(directions))), design)
    probe = fibonacci(50)
    slope, curvature = truth.cumulants(mixed, torch.tensor(probe))
    np.testing.assert_allclose(fit[:, 1:7].numpy() @ quadratic_form(probe).T, slope, atol=1e-3)
    np.testing.assert_allclose(fit[:, 7:].numpy() @ quartic_form(probe).T, curvature, atol=0.15)


def test_kurtosis_metrics_match_dipy(mixed: Tissue) -> None:
    from dipy.reconst.dki import axial_kurtosis, mean_kurtosis, radial_kurtosis
    from dipy.reconst.dki import kurtosis_fractional_anisotropy as dipy_kfa
    from dipy.reconst.dti import decompose_tensor

    some = mixed[:12]
    gradients = truth.dense_protocol()
    b, table = gradients.b, gradients.directions
    design = np.hstack(
        [
            np.ones((len(b), 1)),
            -b[:, None] * quadratic_form(table),
            (b**2 / 6)[:, None] * quartic_form(table),
        ]
    )
    fit = truth.log_fit(signal(some, gradients), design).numpy()
    values, vectors = decompose_tensor(six_to_matrix(fit[:, 1:7]))
    md = values.mean(-1)
    parameters = np.hstack([values, vectors.reshape(-1, 9), fit[:, 7:] / md[:, None] ** 2])
    found = truth.fitted(some)
    limits = {"min_kurtosis": -10, "max_kurtosis": 100}
    # DIPY's closed form loses digits where eigenvalues nearly agree: 4e-3 in one of these voxels.
    apart = np.abs(found["dki_mk"].numpy() - mean_kurtosis(parameters, **limits))
    assert np.median(apart) < 1e-4 and apart.max() < 5e-3
    np.testing.assert_allclose(
        found["dki_ak"], axial_kurtosis(parameters, **limits), rtol=1e-4, atol=1e-5
    )
    apart = np.abs(found["dki_rk"].numpy() - radial_kurtosis(parameters, **limits))
    assert np.median(apart) < 1e-4 and apart.max() < 5e-3
    np.testing.assert_allclose(found["dki_kfa"], dipy_kfa(parameters), rtol=1e-5)


def test_turning_the_tissue_turns_directions_only(mixed: Tissue) -> None:
    turn = Rotation.random(random_state=1).as_matrix()
    turned = mixed.rotated(torch.tensor(turn))
    one = truth.fitted(mixed) | truth.noddi(mixed)
    two = truth.fitted(turned) | truth.noddi(turned)
    for name in ("noddi_ndi", "noddi_odi", "noddi_fwf"):
        np.testing.assert_allclose(one[name], two[name], atol=1e-9)
    # The dense protocol has finitely many directions: model misfit turns slightly with the head.
    for name in ("dti_fa", "dti_md", "dki_mk", "dki_kfa"):
        np.testing.assert_allclose(one[name], two[name], atol=2e-2)
    expected = truth.fod(mixed).numpy() @ harmonics.rotation_matrix(8, turn).T
    np.testing.assert_allclose(truth.fod(turned), expected, atol=1e-12)
    expected = truth.peaks(mixed).reshape(-1, 3, 3).numpy() @ turn.T
    np.testing.assert_allclose(truth.peaks(turned).reshape(-1, 3, 3), expected, atol=1e-12)


def test_odi_of_one_population_is_its_own() -> None:
    for odi in (0.02, 0.1, 0.5, 0.95):
        found = truth.noddi(bundle(odi, 0.6, 0.2))
        assert found["noddi_odi"].item() == pytest.approx(odi, abs=1e-5)
        assert found["noddi_ndi"].item() == pytest.approx(0.6)
        assert found["noddi_fwf"].item() == pytest.approx(0.2)


def test_fod_is_the_watson_density() -> None:
    tissue = bundle(0.35, 0.6, 0.25)
    points = fibonacci(200)
    made = truth.fod(tissue, lmax=16)[0].numpy() @ harmonics.evaluate(16, points).T
    expected = 0.75 * watson.density(0.35, points @ np.array([0.0, 0.6, 0.8]))
    np.testing.assert_allclose(made, expected, atol=1e-6)
    integral = truth.fod(tissue)[0, 0].item() * np.sqrt(4 * np.pi)
    assert integral == pytest.approx(0.75)


def test_peaks_are_ordered_and_scaled(mixed: Tissue) -> None:
    vectors = truth.peaks(mixed).reshape(-1, 3, 3)
    length = vectors.norm(dim=-1)
    assert (length[:, :-1] >= length[:, 1:]).all()
    np.testing.assert_allclose(length.sum(1), mixed.neural, atol=1e-12)


def test_maps_have_file_units_and_names(mixed: Tissue) -> None:
    mask = np.zeros((5, 4, 3), bool)
    mask.reshape(-1)[:40] = True
    maps = truth.maps(mixed, mask, np.eye(4))
    assert {
        "dti_fa", "dti_md", "dti_ad", "dti_rd", "dti_tensor", "dti_v1", "dti_s0", "dki_mk",
        "dki_ak", "dki_rk", "dki_kfa", "noddi_ndi", "noddi_odi", "noddi_odiw", "noddi_fwf", "fod",
        "peaks",
    } == set(maps)  # fmt: skip
    assert maps["md"].units == "mm^2/s" and 2e-4 < maps["md"].data[mask].mean() < 3e-3
    assert maps["fod"].data.shape == (5, 4, 3, 45) and maps["peaks"].data.shape == (5, 4, 3, 9)
    assert not maps["fa"].data[~mask].any()
    trace = maps["dti_tensor"].data[..., :3].mean(-1)
    np.testing.assert_allclose(trace, maps["md"].data, atol=1e-9)
