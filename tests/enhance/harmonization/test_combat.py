"""ComBat finds known site effects, keeps what people differ by, and leaves alike sites alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fornix.core.errors import FornixError
from fornix.enhance.harmonization.combat import fit_combat
from helpers.studies import made as draw

KINDS = ("sites", "features", "none")


def harmonized(made, kind="sites", **options):
    model = fit_combat(made.values, made.sites, made.design, shrinkage=kind, **options)
    return model, model.harmonized(made.values, made.design, made.sites)


def slope(values, design):
    x = np.column_stack([np.ones(len(design)), design])
    return np.linalg.lstsq(x, values, rcond=None)[0][1:]


@pytest.mark.parametrize("kind", KINDS)
def test_known_shifts_and_scales_are_found(cohort, kind: str) -> None:
    made = cohort(1, each=150)
    model, _ = harmonized(made, kind)
    found = model.gamma * model.sigma
    found = found - found.mean(0)
    assert np.sqrt(((found - made.shift) ** 2).mean()) < 0.15 * made.shift.std()
    ratio = model.delta * model.sigma**2
    assert np.corrcoef(np.log(ratio).ravel(), np.log(made.ratio).ravel())[0, 1] > 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_what_people_differ_by_is_kept(cohort, kind: str) -> None:
    made = cohort(2, each=100)
    _, after = harmonized(made, kind)
    index = np.array([int(s[1:]) for s in made.sites])
    same_people = made.values - made.shift[index]
    found, true = (slope(v, made.design).mean(1) for v in (after, same_people))
    assert found == pytest.approx(true, rel=0.06)
    assert abs(slope(made.values, made.design).mean(1)[1] - true[1]) > 0.03


def test_our_answer_is_that_of_neuroharmonize(cohort) -> None:
    harmonize = pytest.importorskip("neuroHarmonize").harmonizationLearn
    import pandas as pd

    made = cohort(3)
    model, ours = harmonized(made, "features")
    table = pd.DataFrame({"SITE": made.sites, "age": made.design[:, 0], "group": made.design[:, 1]})
    theirs, values = harmonize(made.values, table)
    assert np.allclose(ours, values, atol=1e-4)
    assert np.allclose(model.gamma, theirs["gamma_star"], atol=1e-4)
    assert np.allclose(model.delta, theirs["delta_star"], atol=1e-3)


def test_alike_sites_are_changed_less_than_their_means_are_uncertain(cohort) -> None:
    change = {kind: [] for kind in KINDS}
    for seed in range(8):
        made = cohort(seed, each=20, alike=True)
        for kind in KINDS:
            _, after = harmonized(made, kind)
            change[kind].append(np.sqrt(((after - made.values) ** 2).mean()))
    error = 1 / np.sqrt(20)
    assert np.mean(change["sites"]) < 0.5 * error < np.mean(change["none"])
    assert np.mean(change["sites"]) < np.mean(change["features"])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(KINDS), st.booleans())
def test_the_order_of_rows_columns_and_sites_makes_no_difference(
    seed: int, kind: str, robust: bool
) -> None:
    made = draw(seed, each=8, columns=5)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(made.values)), rng.permutation(5)
    _, after = harmonized(made, kind, robust=robust)
    names = [f"x{9 - int(made.sites[i][1:])}" for i in rows]
    values, design = made.values[rows][:, columns], made.design[rows]
    model = fit_combat(values, names, design, shrinkage=kind, robust=robust)
    assert np.allclose(model.harmonized(values, design, names), after[rows][:, columns], atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-4, 1e4), st.floats(-5, 5), st.sampled_from(KINDS))
def test_units_make_no_difference(seed: int, scale: float, offset: float, kind: str) -> None:
    made = draw(seed, each=8, columns=5)
    _, after = harmonized(made, kind)
    values = scale * (made.values + offset)
    model = fit_combat(values, made.sites, made.design, shrinkage=kind)
    again = model.harmonized(values, made.design, made.sites)
    assert np.allclose(again / scale - offset, after, atol=1e-6)


def test_a_reference_site_stays_as_it_is(cohort) -> None:
    made = cohort(4)
    _, after = harmonized(made, reference="s1")
    mine = np.array(made.sites) == "s1"
    assert np.allclose(after[mine], made.values[mine])
    x = np.column_stack([np.ones(len(made.design)), made.design])
    rest = after - x @ np.linalg.lstsq(x, after, rcond=None)[0]
    assert abs(rest[mine].mean() - rest[~mine].mean()) < 0.1


def test_missing_values_stay_missing_and_harm_no_others(cohort) -> None:
    made = cohort(5, each=60)
    _, whole = harmonized(made)
    holes = np.random.default_rng(0).random(made.values.shape) < 0.05
    holes[np.array(made.sites) == "s2", 3] = True  # a site that lacks a column
    values = np.where(holes, np.nan, made.values)
    model = fit_combat(values, made.sites, made.design)
    after = model.harmonized(values, made.design, made.sites)
    assert np.array_equal(np.isnan(after), holes)
    assert np.abs(after - whole)[~holes].max() < 0.6
    assert np.sqrt(np.nanmean((after - whole) ** 2)) < 0.1


def test_a_column_without_spread_stays_as_it_is(cohort) -> None:
    made = cohort(6)
    values = made.values.copy()
    values[:, 2] = 0.0007
    model = fit_combat(values, made.sites, made.design)
    assert np.allclose(model.harmonized(values, made.design, made.sites)[:, 2], 0.0007)


def test_a_new_site_is_estimated_against_the_frozen_reference(cohort) -> None:
    made = cohort(7, each=60, sites=5)
    sites = np.array(made.sites)
    old = sites != "s4"
    model = fit_combat(made.values[old], list(sites[old]), made.design[old])
    grown = model.with_site("s4", made.values[~old], made.design[~old])
    assert np.array_equal(grown.alpha, model.alpha) and np.array_equal(grown.gamma[:4], model.gamma)
    after = grown.harmonized(made.values, made.design, made.sites)
    rest = after - made.design @ slope(after, made.design)
    assert np.abs(rest[~old].mean(0) - rest[old].mean(0)).mean() < 0.2
    assert np.abs(made.shift[4]).mean() > 0.3
    known = model.harmonized(made.values[old], made.design[old], list(sites[old]))
    assert np.array_equal(after[old], known)


def test_few_scans_of_a_new_site_are_drawn_further(cohort) -> None:
    made = cohort(8, each=60, alike=True)
    sites = np.array(made.sites)
    old = sites != "s3"
    model = fit_combat(made.values[old], list(sites[old]), made.design[old])
    free = fit_combat(made.values[old], list(sites[old]), made.design[old], shrinkage="none")
    few = np.flatnonzero(~old)[:4]
    drawn = model.with_site("s3", made.values[few], made.design[few]).gamma[-1]
    believed = free.with_site("s3", made.values[few], made.design[few]).gamma[-1]
    assert np.abs(drawn).mean() < 0.5 * np.abs(believed).mean()


def test_patients_that_nobody_named_move_a_robust_fit_less(cohort) -> None:
    off = {True: [], False: []}
    for seed in range(6):
        made = cohort(seed, each=60, alike=True)
        values = made.values.copy()
        ill = np.flatnonzero(np.array(made.sites) == "s0")[:12]
        values[ill] -= 6
        for robust in off:
            model = fit_combat(values, made.sites, made.design, robust=robust)
            gap = (model.gamma[0] - model.gamma[1:].mean(0)) * model.sigma
            off[robust].append(np.abs(gap).mean())
    assert np.mean(off[True]) < 0.5 * np.mean(off[False])


def test_robust_scales_are_those_of_normal_data(cohort) -> None:
    made = cohort(9, each=200)
    plain, robust = (
        fit_combat(made.values, made.sites, made.design, robust=r) for r in (False, True)
    )
    assert np.median(robust.sigma / plain.sigma) == pytest.approx(1, abs=0.05)
    assert np.median(robust.delta / plain.delta) == pytest.approx(1, abs=0.08)


def test_travelling_heads_tell_shifts_that_people_hide(cohort) -> None:
    # Every site has other people, who differ as the sites do: only heads that travel can tell.
    rng = np.random.default_rng(3)
    shift = rng.normal(size=(3, 10))
    shift -= shift.mean(0)
    index = np.repeat(np.arange(3), 25)
    people = 1.5 * np.array([-1.0, 0.0, 1.0])[index, None] + rng.normal(size=(75, 10))
    heads = rng.normal(size=(6, 1, 10)) + shift + 0.1 * rng.normal(size=(6, 3, 10))
    values = np.concatenate([people + shift[index], heads.reshape(-1, 10)])
    sites = [f"s{j}" for j in [*index, *np.tile(np.arange(3), 6)]]
    who = [f"p{i}" for i in range(75)] + [f"t{i}" for i in np.repeat(np.arange(6), 3)]
    empty = np.zeros((len(values), 0))
    errors = {}
    for word, told in (("people", None), ("heads", who)):
        model = fit_combat(values, sites, empty, heads=told)
        found = model.gamma * model.sigma
        errors[word] = np.abs(found - found.mean(0) - shift).mean()
    assert errors["heads"] < 0.15 < 0.5 < errors["people"]


def test_variances_are_left_where_asked(cohort) -> None:
    made = cohort(10)
    model, _ = harmonized(made, scale=False)
    assert (model.delta == 1).all()
    model, _ = harmonized(made, shift_only={"s1"})
    assert (model.delta[1] == 1).all() and (model.delta[0] != 1).all()


def test_bad_input_is_one_line(cohort) -> None:
    made = cohort(11, each=5, columns=3)
    with pytest.raises(FornixError, match="one site"):
        fit_combat(made.values, ["a"] * len(made.values), made.design)
    with pytest.raises(FornixError, match="site b has one scan"):
        fit_combat(made.values, [*["a"] * (len(made.values) - 1), "b"], made.design)
    with pytest.raises(FornixError, match="reference"):
        fit_combat(made.values, made.sites, made.design, reference="x")
    with pytest.raises(FornixError, match="shrinkage"):
        fit_combat(made.values, made.sites, made.design, shrinkage="x")
    with pytest.raises(FornixError, match="keep fewer covariates"):
        fit_combat(made.values, made.sites, np.ones((len(made.values), 30)))
    with pytest.raises(FornixError, match="does not know the site z"):
        harmonized(made)[0].harmonized(made.values[:1], made.design[:1], ["z"])
    with pytest.raises(FornixError, match="no head was at two sites"):
        fit_combat(
            made.values, made.sites, made.design, heads=[str(i) for i in range(len(made.sites))]
        )


def test_a_site_without_values_disturbs_no_other(cohort) -> None:
    rng = np.random.default_rng(4)
    shift = 2 + rng.normal(size=(3, 12))
    shift[0] = 0
    values = rng.normal(size=(5, 1, 12)) + shift + 0.05 * rng.normal(size=(5, 3, 12))
    whole = np.concatenate([values.reshape(-1, 12), np.full((10, 12), np.nan)])
    sites = [f"s{j}" for j in [*np.tile(np.arange(3), 5), *[3] * 10]]
    heads = [f"t{i}" for i in [*np.repeat(np.arange(5), 3), *np.repeat(np.arange(5), 2)]]
    model = fit_combat(whole, sites, np.zeros((25, 0)), heads=heads, reference="s0", scale=False)
    found = (model.gamma * model.sigma)[:3]
    assert np.abs(found - shift).max() < 0.3
    assert (model.gamma[3] == 0).all()
