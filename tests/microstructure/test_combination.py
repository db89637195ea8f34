"""The combination of a network with the fit: better than either, whichever of the two is off."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.microstructure.combination import combine, rich
from fornix.microstructure.fit import Fit

COLUMNS = {"mk": slice(0, 1), "rk": slice(1, 2)}
COUNT = 20_000


def fits(lean: float, seed: int = 0) -> tuple[np.ndarray, Fit, Fit]:
    """True values, a network with error 0.05 and a lean that it does not know of, a fit with 0.08."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.4, 1.4, (COUNT, 2)).astype(np.float32)
    made = []
    for error, off in ((0.05, lean), (0.08, 0.0)):
        values = true + off + error * rng.standard_normal(true.shape)
        std = np.full_like(true, error)
        made.append(Fit(COLUMNS, values.astype(np.float32), std, np.zeros(COUNT, np.uint8)))
    return true, made[0], made[1]


def rmse(fit: Fit, true: np.ndarray) -> float:
    return float(np.sqrt(((fit["mk"] - true[:, 0]) ** 2).mean()))


@pytest.mark.parametrize("lean", [0.0, 0.05, 0.1, 0.3, -0.3])
def test_it_is_no_worse_than_either(lean):
    true, network, fit = fits(lean)
    before, of_fit = rmse(network, true), rmse(fit, true)
    done = combine(network, fit, ["mk"], np.ones(COUNT, bool), {}, "dki")
    assert done.all()
    assert rmse(network, true) < 1.02 * min(before, of_fit)
    z = (network["mk"] - true[:, 0]) / network.std_of("mk")
    assert (np.abs(z) < 1.96).mean() > 0.94


def test_other_parameters_and_voxels_are_left_alone():
    _, network, fit = fits(0.2)
    values = network.values.copy()
    use = np.zeros(COUNT, bool)
    use[: COUNT // 2] = True
    done = combine(network, fit, ["mk"], use, {}, "dki")
    np.testing.assert_array_equal(done, use)
    np.testing.assert_array_equal(network.values[:, 1], values[:, 1])
    np.testing.assert_array_equal(network.values[~use], values[~use])


def test_quantiles_move_along():
    true, network, fit = fits(0.3)
    limits = {q: network["mk"] + z * 0.05 for q, z in ((0.05, -1.645), (0.95, 1.645))}
    levels = {"dki_mk": {q: v.astype(np.float32) for q, v in limits.items()}}
    combine(network, fit, ["mk"], np.ones(COUNT, bool), levels, "dki")
    low, high = levels["dki_mk"][0.05], levels["dki_mk"][0.95]
    inside = (low < true[:, 0]) & (true[:, 0] < high)
    assert inside.mean() > 0.88


def test_noisy_and_failed_fits_do_not_count():
    _, network, fit = fits(0.0)
    assert rich(fit, "dki") == ["mk", "rk"]
    assert fit.std is not None
    loud = Fit(COLUMNS, fit.values, 5 * fit.std, fit.flags)
    assert rich(loud, "dki") == []
    failed = Fit(COLUMNS, fit.values, fit.std, np.ones(COUNT, np.uint8))
    assert rich(failed, "dki") == []
    values = network.values.copy()
    assert not combine(network, failed, ["mk"], np.ones(COUNT, bool), {}, "dki").any()
    np.testing.assert_array_equal(network.values, values)
