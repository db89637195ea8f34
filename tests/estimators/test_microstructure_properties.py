"""What must hold for every model and method: symmetries, determinism, calibrated errors, range."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.estimators.microstructure import DESCRIPTIONS, microstructure
from fornix.estimators.microstructure_methods import MICROSTRUCTURE_METHODS
from fornix.models.kurtosis import fit_kurtosis
from fornix.models.noddi import fit_noddi
from fornix.models.tensor import fit_tensor
from fornix.testing import model_truth as truth
from fornix.testing.model_truth import MODELS, as_dwi
from fornix.testing.properties import (
    assert_gradient_order_free,
    assert_invariant,
    assert_rotates,
    turned,
)

EVERY = [
    (m, w)
    for m in MICROSTRUCTURE_METHODS
    for w in MICROSTRUCTURE_METHODS[m]
    if not MICROSTRUCTURE_METHODS[m][w].whole_scan
]
FIRST = {"dti": "fa", "dki": "mk", "noddi": "ndi"}


@pytest.fixture(scope="module")
def noisy(protocol):
    def make(model: str, count: int = 60, sigma: float = 0.03, seed: int = 0):
        known = MODELS[model](protocol, count, seed=seed)
        return as_dwi(1000 * truth.add_noise(known.signals, sigma, seed), protocol, sigma=30.0)

    return make


@pytest.mark.parametrize(("model", "method"), EVERY)
def test_rotation_and_order(noisy, model, method):
    dwi = noisy(model)

    def scalar(scan):
        return microstructure(scan, models=(model,), method=method, dti_bmax=None, std=False)[
            FIRST[model]
        ].data

    # The physical range of `constrained` is checked in fixed directions of the world.
    atol = {"constrained": 2e-2, "exact": 1e-3, "dispersed": 1e-3}.get(method, 1e-4)
    if method == "constrained":
        other = scalar(turned(dwi)[0])
        assert np.percentile(np.abs(other - scalar(dwi)), 95) < atol
    else:
        assert_invariant(scalar, dwi, atol=atol)
    assert_gradient_order_free(scalar, dwi, atol=atol)


def test_directions_rotate(noisy):
    dwi = noisy("dti")
    maps = microstructure(dwi, method="wls")
    clear = maps["fa"].data[:, 0, 0] > 0.3
    picked = dwi.with_(data=dwi.data[clear])
    assert_rotates(lambda d: microstructure(d, method="wls")["v1"].data, picked, "axis", atol=1e-3)
    assert_rotates(
        lambda d: 1000 * microstructure(d, method="wls")["tensor"].data, picked, "tensor", atol=1e-4
    )
    nod = noisy("noddi")
    clear = microstructure(nod, models=("noddi",), method="exact")["odi"].data[:, 0, 0] < 0.3
    nod = nod.with_(data=nod.data[clear])
    assert_rotates(
        lambda d: microstructure(d, models=("noddi",), method="exact")["direction"].data,
        nod,
        "axis",
        atol=1e-2,
    )


@pytest.mark.parametrize(("model", "method"), EVERY)
def test_threads_and_blocks_do_not_matter(noisy, model, method):
    dwi = noisy(model, 700)
    one = microstructure(dwi, models=(model,), method=method, threads=1)
    two = microstructure(dwi, models=(model,), method=method, threads=2, max_memory="600K")
    for name in one:
        np.testing.assert_array_equal(one[name].data, two[name].data)
        np.testing.assert_array_equal(one[name].std, two[name].std)
    np.testing.assert_array_equal(one.trust, two.trust)


@pytest.mark.parametrize(("model", "method"), EVERY)
def test_no_non_physical_value(protocol, model, method):
    """Pure noise, and noise on signals: everything stays finite and in its range."""
    rng = np.random.default_rng(0)
    pure = truth.add_noise(np.zeros((300, len(protocol))), 30.0, 1)
    weak = truth.add_noise(100 * MODELS[model](protocol, 300).signals, 30.0, 2)
    wild = rng.uniform(-50, 1000, (100, len(protocol)))
    dwi = as_dwi(np.concatenate([pure, weak, wild]), protocol)
    for sigma in (None, 30.0):
        maps = microstructure(dwi, models=(model,), method=method, sigma=sigma)
        for item in maps.values():
            assert np.isfinite(item.data).all() and np.isfinite(item.std).all(), item.name
            assert (item.std >= 0).all()
            if item.param in ("fa", "kfa", "ndi", "odi", "fwf"):
                assert item.data.min() >= 0 and item.data.max() <= 1
            if item.param in ("md", "ad", "rd", "s0"):
                assert item.data.min() >= 0
            if item.param in ("md", "ad", "rd"):
                assert item.data.max() <= 0.010001
            if item.param in ("mk", "ak", "rk"):
                low = 0.0 if method == "constrained" else -3 / 7 - 1e-6
                assert item.data.min() >= low and item.data.max() <= 10
            if item.param in ("v1", "direction"):
                norm = np.linalg.norm(item.data, axis=-1)
                np.testing.assert_allclose(norm, 1.0, atol=1e-5)


def test_constrained_kurtosis_has_no_black_voxel(protocol):
    known = truth.kurtoses(protocol, 500)
    noisy_signals = truth.add_noise(known.signals, 0.06, 3)
    free = fit_kurtosis(noisy_signals, protocol, "wls")
    held = fit_kurtosis(noisy_signals, protocol, "constrained")
    assert (free["mk"] <= 0.0).mean() > 0.02, "the case is too easy to show anything"
    for name in ("mk", "rk"):
        assert held[name].min() > 0.0
        better = np.abs(held[name] - known.values[name]).mean()
        assert better < 0.8 * np.abs(free[name] - known.values[name]).mean()


@pytest.mark.parametrize(
    ("model", "method", "sigma"),
    [
        ("dti", "ols", None), ("dti", "wls", None), ("dti", "wls", 0.02), ("dti", "iwls", 0.02),
        ("dti", "nlls", None), ("dti", "nlls", 0.02), ("dki", "wls", 0.01), ("dki", "wls", None),
        ("noddi", "exact", 0.01),
    ],
)  # fmt: skip
def test_standard_deviations_are_calibrated(protocol, model, method, sigma):
    """Over noise, the estimates scatter as their standard deviations say."""
    level, repeats = (0.02 if model == "dti" else 0.01), 100
    if model == "noddi":
        known = truth.noddis(protocol, 400)
        inner = (known.values["fwf"] > 0.1) & (known.values["fwf"] < 0.6)
        inner &= (known.values["ndi"] > 0.3) & (known.values["odi"] < 0.6)
        signals = known.signals[inner][:40]
        names, fit = ("ndi", "odi", "fwf"), fit_noddi
    elif model == "dki":
        signals, names, fit = (
            truth.kurtoses(protocol, 40).signals,
            ("mk", "ak", "kfa"),
            fit_kurtosis,
        )
    else:
        known = truth.tensors(protocol, 200)
        anisotropic = (known.values["fa"] > 0.3) & (known.values["eigenvalues"][:, 2] > 0.2)
        signals = known.signals[anisotropic][:40]
        names, fit = ("fa", "md", "ad", "rd", "s0"), fit_tensor
    noisy_signals = truth.add_noise(np.repeat(signals, repeats, 0), level, 5)
    made = fit(noisy_signals, protocol, method, sigma=sigma)
    for name in names:
        scatter = made[name].reshape(-1, repeats).std(1)
        told = made.std_of(name).reshape(-1, repeats).mean(1)
        assert 0.85 < np.median(told / scatter) < 1.18, name


def test_rician_likelihood_removes_the_bias(protocol):
    known = truth.tensors(protocol, 2000)
    noisy_signals = truth.add_noise(known.signals, 0.1, 0)
    plain = fit_tensor(noisy_signals, protocol, "nlls")["md"] - known.values["md"]
    aware = fit_tensor(noisy_signals, protocol, "nlls", sigma=0.1)["md"] - known.values["md"]
    assert abs(aware.mean()) < 0.1 * abs(plain.mean())


def test_every_map_is_described(noisy):
    maps = microstructure(noisy("noddi"), models=("dti", "dki", "noddi"), method="classical")
    # Networks alone part the populations of a voxel.
    described = {f"{m}_{p}" for m in DESCRIPTIONS for p in DESCRIPTIONS[m]}
    assert set(maps) == described - {"noddi_odiw"}
    for item in maps.values():
        assert item.description and item.reference and item.method and item.std is not None
    assert maps["md"].units == "mm^2/s"
    assert maps["ndi"].method == "exact"
