"""One person against a reference: calibrated, and not more often unlike it than said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter1d

from fornix.analysis.design import make_design
from fornix.analysis.measurements import Measurements
from fornix.analysis.normative import normative
from fornix.analysis.tract_models import detectable, mixed_model
from fornix.core.errors import FornixError


def people(count: int, seed: int, nodes: int = 30) -> tuple[Measurements, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 60, count)
    values = gaussian_filter1d(rng.normal(size=(count, nodes)), 2) + 0.1 * age[:, None]
    names = tuple(f"{i:02d}" for i in range(count))
    made = Measurements(names, ("t",) * nodes, np.arange(nodes), values)
    return made, pd.DataFrame({"participant_id": names, "age": age})


def test_z_is_standard_normal_and_the_corrected_p_is_a_rank():
    z, low = [], 0
    for seed in range(300):
        found = normative(*reversed_arguments(people(21, seed)))
        z.append(found.z[15])
        low += found.p_fwe.min() <= 2 / 21
    assert stats.kstest(z, "norm").pvalue > 0.001
    assert np.std(z) == pytest.approx(1, abs=0.13)
    assert low / 300 == pytest.approx(2 / 21, abs=0.051)


def reversed_arguments(made: tuple[Measurements, pd.DataFrame]):
    return made[0], "00", made[1], "age"


def test_a_lesion_is_found_and_lies_outside_the_interval():
    made, table = people(30, 1)
    made.values[0, 10:15] -= 8
    found = normative(made, "00", table, "age")
    assert (found.p_fwe[10:15] <= 1 / 29).all() and (found.p_fwe[20:] > 0.05).all()
    assert (made.values[0, 10:15] < found.low[10:15]).all()


def test_unknown_people_and_too_few_are_one_line():
    made, table = people(4, 0)
    with pytest.raises(FornixError, match="no subject 99"):
        normative(made, "99", table)
    with pytest.raises(FornixError, match="too few"):
        normative(made, "00", table, "age")


def test_the_mixed_model_finds_change_within_people():
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(25), 2)
    time = np.tile([0, 1], 25)
    values = (5 * rng.normal(size=25))[who] + 1.0 * time + 0.5 * rng.normal(size=50)
    made = Measurements(tuple(map(str, who)), ("t",), np.zeros(1, int), values[:, None])
    table = pd.DataFrame({"participant_id": who, "time": time})
    found = mixed_model(made, make_design(table, "time"), table["participant_id"]).iloc[0]
    assert found["low"] < 1 < found["high"] and found["p_holm"] < 1e-4 and found["std"] < 0.3


def test_what_is_detectable_has_the_power_that_is_said():
    made, table = people(40, 0)
    table["group"] = np.arange(40) % 2
    found = detectable(made, make_design(table, "group + age"), each=30).iloc[0]
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4000, 30)) + found["d"]
    hits = stats.ttest_ind(a, rng.normal(size=(4000, 30)), axis=1).pvalue < 0.05
    assert hits.mean() == pytest.approx(0.8, abs=0.03)
