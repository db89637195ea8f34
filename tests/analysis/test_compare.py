"""Comparisons along tracts: against statsmodels, by hand, and their error under the null."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from statsmodels.regression.linear_model import WLS

from fornix.analysis._enhancement_kernels import enhanced
from fornix.analysis.compare import STATISTICS, compare
from fornix.analysis.design import make_design
from fornix.analysis.linear_model import fit
from fornix.analysis.permutations import permutations, within
from fornix.analysis.random_effects import between_variance
from fornix.core.errors import FornixError, FornixWarning


@pytest.mark.parametrize("weighted", [False, True])
def test_estimates_are_those_of_statsmodels(small_cohort, weighted: bool):
    made, table = small_cohort()
    design = make_design(table, "group + age")
    weights = 1 / made.std**2 if weighted else None
    found = fit(made.values, design.matrix[:, design.tested], design.nuisance, weights)
    for v in (0, 17, 60):
        w = np.ones(len(table)) if weights is None else weights[:, v]
        peer = WLS(made.values[:, v], design.matrix, w).fit()
        at = design.tested
        assert found.effect[v] == pytest.approx(peer.params[at])
        assert found.std[v] == pytest.approx(peer.bse[at])
        assert found.t[v] == pytest.approx(peer.tvalues[at])


@pytest.mark.parametrize("weighted", [False, True])
def test_permuted_statistics_are_those_of_data_made_anew(small_cohort, weighted: bool):
    made, table = small_cohort()
    design = make_design(table, "group + age")
    x, z = design.matrix[:, design.tested], design.nuisance
    weights = 1 / made.std**2 if weighted else None
    found = fit(made.values, x, z, weights)
    orders = np.stack([np.random.default_rng(i).permutation(len(x)) for i in range(5)]).astype(
        np.int32
    )
    t = found.permuted(orders)
    free = x - z @ np.linalg.lstsq(z, x, rcond=None)[0]
    for order, row in zip(orders, t):
        assert np.allclose(fit(made.values, free[order], z, weights).t, row, atol=2e-3)


def test_tfce_and_mass_by_hand():
    t = np.array([[0, 1.05, 2.05, 2.05, 0, -3, 0.55, 4.05]], np.float32)
    starts = np.array([0, 5, 8])
    mass = enhanced(t, starts, "mass", 0.9)[0]
    assert mass == pytest.approx([0, 5.15, 5.15, 5.15, 0, -3, 0, 4.05])
    support = enhanced(t, starts, "tfce", 0)[0]
    squares = 0.1 * (np.arange(41) * 0.1) ** 2  # of the heights 0, 0.1, …, 4
    assert support[2] == pytest.approx(3**0.5 * squares[:11].sum() + 2**0.5 * squares[11:21].sum())
    assert support[7] == pytest.approx(2**0.5 * squares[:6].sum() + squares[6:].sum())
    assert support[0] == 0 and support[5] < 0


def test_an_effect_is_found_where_it_is_and_missing_tracts_are_passed_over(small_cohort):
    made, table = small_cohort(effect=6.0, each=15)
    made.values[3, 20:40] = np.nan  # a subject without the second tract
    found = compare(made, make_design(table, "group + age"), permutations=500)
    inside = np.zeros(80, bool)
    inside[6:14] = True
    assert found.significant[inside].mean() > 0.7 and not found.significant[25:].any()
    assert found.count[0] == 30 and found.count[25] == 29
    assert np.isfinite(found.t).all()
    assert abs(found.effect[8:12].mean() - 6) < 2
    covered = (found.low[inside] < 6) & (found.high[inside] > 6)
    assert covered.mean() > 0.5


def test_missing_values_do_not_change_other_tracts(small_cohort):
    made, table = small_cohort()
    design = make_design(table, "group")
    before = compare(made, design, permutations=50)
    made.values[3, 60:] = np.nan
    after = compare(made, design, permutations=50)
    assert np.allclose(before.t[:60], after.t[:60]) and not np.allclose(before.t[60:], after.t[60:])


def test_false_alarms_are_as_many_as_asked_for(small_cohort):
    """200 cohorts without an effect: 10% asked for, 3 standard errors allowed."""
    alarms = dict.fromkeys(STATISTICS, 0)
    for seed in range(200):
        made, table = small_cohort(each=10, seed=seed, tracts=3, nodes=12)
        found = compare(made, make_design(table, "group + age"), permutations=200, seed=seed)
        for name in STATISTICS:
            alarms[name] += found.p_fwe[name].min() <= 0.1
    for name, count in alarms.items():
        assert 0.1 - 0.064 < count / 200 < 0.1 + 0.064, (name, count)


def test_variance_between_subjects_is_found_though_some_moved(small_cohort):
    rng = np.random.default_rng(0)
    std = np.exp(rng.normal(size=(40, 1))) * np.ones((1, 200))
    values = 2.0 * rng.normal(size=std.shape) + std * rng.normal(size=std.shape)
    tau = between_variance(values, std, np.ones((40, 1)), {"t": slice(0, 200)})
    assert np.median(tau) == pytest.approx(4, rel=0.1)
    none = between_variance(
        std * rng.normal(size=std.shape), std, np.ones((40, 1)), {"t": slice(0, 200)}
    )
    assert np.median(none) < 0.1


def test_few_subjects_are_enumerated(small_cohort):
    made, table = small_cohort(each=4)
    with pytest.warns(FornixWarning, match="only 70 different permutations"):
        found = compare(made, make_design(table, "group"), weighted=False, permutations=1000)
    assert found.exact and found.permutations == comb(8, 4)
    # Group labels swapped throughout give the same |t|, so no p is below 2/70.
    assert np.nanmin(found.p_fwe["max"]) >= 2 / 70 - 1e-9


def test_enumerated_orders_are_all_the_groupings():
    classes = np.array([0, 1, 0, 1, 1])
    with pytest.warns(FornixWarning):
        orders, exact = permutations(classes, np.zeros(5, int), 100, 0)
    places = {tuple(classes[o]) for o in orders}
    assert (
        exact and len(orders) == len(places) == comb(5, 2) and orders[0].tolist() == [0, 1, 2, 3, 4]
    )


def test_blocks_are_kept_also_among_some():
    blocks = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    orders, exact = permutations(np.arange(8), blocks, 100, 1)
    assert not exact and (blocks[orders] == blocks).all()
    rows = np.array([1, 1, 0, 1, 1, 1, 1, 1], bool)
    some = within(orders, blocks, rows)
    assert (np.sort(some, 1) == np.arange(7)).all() and (blocks[rows][some] == blocks[rows]).all()


def test_bad_designs_are_one_line(small_cohort):
    made, table = small_cohort(each=4)
    for formula, words in {
        "group + age + I(2 * age)": "singular: I\\(2 \\* age\\)",
        "nothing": "does not fit the table",
        "C(participant_id)": "several columns",
        "1": "tests nothing",
        "age + " + " + ".join(f"I(age**{i})" for i in range(2, 9)): "8 subjects for 9 columns",
    }.items():
        with pytest.raises(FornixError, match=words):
            make_design(table, formula)
    with pytest.raises(FornixError, match="one group is empty"):
        make_design(table.assign(group="a"), "group")
    with pytest.raises(FornixError, match="missing values in age"):
        make_design(table.assign(age=[np.nan, *range(7)]), "group + age")
    with pytest.raises(FornixError, match="no statistic"):
        compare(made, make_design(table, "group"), statistic="best")
