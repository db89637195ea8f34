"""The combination of a network with the fit: better than either, whichever of the two is off."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.estimators.classical import CLASSICAL
from fornix.models.base import Fit
from fornix.nets.fusion import MODEL_ERROR, precision_fusion, reliable_params, shrink_to_fit
from fornix.nets.targets import METRICS
from fornix.physics import signal
from fornix.physics.protocol import scheme
from fornix.training.data.subjects import source_anatomy
from fornix.training.data.tissue import shift_subject_parameters, with_truth

COLUMNS = {"mk": slice(0, 1), "rk": slice(1, 2)}
COUNT = 20_000


def fits(bias: float, seed: int = 0) -> tuple[np.ndarray, Fit, Fit]:
    """True values, a network with error 0.05 and a bias that it does not know of, a fit with 0.08."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.4, 1.4, (COUNT, 2)).astype(np.float32)
    made = []
    for error, off in ((0.05, bias), (0.08, 0.0)):
        values = true + off + error * rng.standard_normal(true.shape)
        std = np.full_like(true, error)
        made.append(Fit(COLUMNS, values.astype(np.float32), std, np.zeros(COUNT, np.uint8)))
    return true, made[0], made[1]


def rmse(fit: Fit, true: np.ndarray) -> float:
    return float(np.sqrt(((fit["mk"] - true[:, 0]) ** 2).mean()))


@pytest.mark.parametrize("bias", [0.0, 0.05, 0.1, 0.3, -0.3])
def test_it_is_no_worse_than_either(bias):
    true, network, fit = fits(bias)
    before, of_fit = rmse(network, true), rmse(fit, true)
    fused = precision_fusion(network, fit, ["mk"], np.ones(COUNT, bool), {}, "dki")
    assert fused.where.all()
    assert rmse(fused.fit, true) < 1.02 * min(before, of_fit)
    z = (fused.fit["mk"] - true[:, 0]) / fused.fit.std_of("mk")
    assert (np.abs(z) < 1.96).mean() > 0.94


def test_other_parameters_and_voxels_are_left_alone():
    _, network, fit = fits(0.2)
    values = network.values.copy()
    use = np.zeros(COUNT, bool)
    use[: COUNT // 2] = True
    fused = precision_fusion(network, fit, ["mk"], use, {}, "dki")
    np.testing.assert_array_equal(fused.where, use)
    np.testing.assert_array_equal(fused.fit.values[:, 1], values[:, 1])
    np.testing.assert_array_equal(fused.fit.values[~use], values[~use])


def test_what_is_given_is_not_changed():
    """Fits are frozen: a fusion makes new ones, and new quantiles."""
    _, network, fit = fits(0.2)
    assert network.std is not None
    levels = {"dki_mk": {0.5: network["mk"].copy()}}
    kept = network.values.copy(), network.std.copy(), levels["dki_mk"][0.5].copy()
    fused = precision_fusion(network, fit, ["mk"], np.ones(COUNT, bool), levels, "dki")
    assert not np.array_equal(fused.fit.values, kept[0])
    np.testing.assert_array_equal(network.values, kept[0])
    np.testing.assert_array_equal(network.std, kept[1])
    np.testing.assert_array_equal(levels["dki_mk"][0.5], kept[2])


def test_quantiles_move_along():
    true, network, fit = fits(0.3)
    limits = {q: network["mk"] + z * 0.05 for q, z in ((0.05, -1.645), (0.95, 1.645))}
    levels = {"dki_mk": {q: v.astype(np.float32) for q, v in limits.items()}}
    fused = precision_fusion(network, fit, ["mk"], np.ones(COUNT, bool), levels, "dki")
    low, high = fused.quantiles["dki_mk"][0.05], fused.quantiles["dki_mk"][0.95]
    inside = (low < true[:, 0]) & (true[:, 0] < high)
    assert inside.mean() > 0.88


def test_noisy_and_failed_fits_do_not_count():
    _, network, fit = fits(0.0)
    assert reliable_params(fit, "dki") == ["mk", "rk"]
    assert fit.std is not None
    loud = Fit(COLUMNS, fit.values, 5 * fit.std, fit.flags)
    assert reliable_params(loud, "dki") == []
    failed = Fit(COLUMNS, fit.values, fit.std, np.ones(COUNT, np.uint8))
    assert reliable_params(failed, "dki") == []
    fused = precision_fusion(network, failed, ["mk"], np.ones(COUNT, bool), {}, "dki")
    assert not fused.where.any()
    np.testing.assert_array_equal(fused.fit.values, network.values)


NODDI = {"ndi": slice(0, 1), "odi": slice(1, 2), "fwf": slice(2, 3)}


def shrunk(offs: tuple[float, float]) -> tuple[np.ndarray, Fit, Fit, np.ndarray]:
    """True values, a network and a fit of a sample, both of which are off as a whole."""
    rng = np.random.default_rng(1)
    true = rng.uniform(0.2, 0.7, (COUNT, 3)).astype(np.float32)
    made = []
    for error, off in zip((0.03, 0.06), offs):
        values = true + off + error * rng.standard_normal(true.shape)
        std = np.full_like(true, error if off == 0 else 0.08)
        made.append((values.astype(np.float32), std))
    sample = np.sort(rng.choice(COUNT, 2000, replace=False))
    network = Fit(NODDI, *made[0], np.zeros(COUNT, np.uint8))
    fit = Fit(NODDI, made[1][0][sample], made[1][1][sample], np.zeros(2000, np.uint8))
    return true, network, fit, sample


def test_two_biases_are_weighed_and_noise_stays_out():
    true, network, fit, sample = shrunk((-0.06, 0.08))
    spread = (network["ndi"] - true[:, 0]).std()
    limits = {"noddi_ndi": {0.5: network["ndi"].copy()}}
    use = np.ones(COUNT, bool)
    use[:100] = False
    before = network.values.copy()
    fused = shrink_to_fit(network, fit, sample, use, limits)
    np.testing.assert_array_equal(fused.where, use)
    np.testing.assert_array_equal(fused.fit.values[:100], before[:100])
    np.testing.assert_array_equal(network.values, before)
    error = fused.fit["ndi"][100:] - true[100:, 0]
    assert abs(error.mean()) < 0.03 and error.std() < 1.05 * spread
    np.testing.assert_allclose(fused.quantiles["noddi_ndi"][0.5], fused.fit["ndi"], atol=1e-6)
    std = fused.fit.std_of("ndi")
    assert (std[100:] < 0.08).all() and (std[:100] == np.float32(0.08)).all()
    assert (np.abs(error) < 1.645 * std[100:]).mean() > 0.9


def test_too_few_voxels_shrink_nothing():
    _, network, fit, sample = shrunk((-0.06, 0.08))
    few = Fit(
        NODDI, fit.values[:200], fit.std[:200] if fit.std is not None else None, fit.flags[:200]
    )
    fused = shrink_to_fit(network, few, sample[:200], np.ones(COUNT, bool), {})
    assert not fused.where.any()
    np.testing.assert_array_equal(fused.fit.values, network.values)


def test_the_fit_is_off_by_about_what_is_said():
    """The constants are of 16 heads of the training's subject; here the embedded head with 12 draws of
    its constants, so only the size can be held."""
    scheme_, biases = scheme("bench96"), []
    tissue = source_anatomy(None, 0).tissue()
    tissue = tissue[torch.arange(0, len(tissue), len(tissue) // 400)]
    for seed in range(12):
        some = with_truth(shift_subject_parameters(tissue, np.random.default_rng(seed)))
        fit = CLASSICAL["noddi"].run(
            signal(some.tissue, scheme_).numpy().astype(np.float32), scheme_,
            sigma=np.full(len(some), 0.003), std=True,
        )  # fmt: skip
        true = some.metrics.numpy()[
            :, [METRICS.index(name) for name in (*MODEL_ERROR, "noddi_fwf")]
        ]
        inside = (fit.flags == 0) & (true[:, 2] < 0.8)
        found = np.stack([fit[name.partition("_")[2]] for name in MODEL_ERROR], 1)
        biases.append((found - true[:, :2])[inside].mean(0))
    found = np.sqrt(np.square(biases).mean(0))
    for value, said in zip(found, MODEL_ERROR.values(), strict=True):
        assert 0.4 * said < value < 2.0 * said
