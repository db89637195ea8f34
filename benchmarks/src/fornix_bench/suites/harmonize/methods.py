"""Ways to harmonize a cohort of tract means, ours and others', and what a comparison of groups says then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from fornix.enhance.harmonization.combat import Combat, fit_combat
from fornix.enhance.harmonization.covariates import Covariate, design_of, make_covariates
from fornix_bench.peers.harmonization import combat_applied, combat_learned
from fornix_bench.suites.harmonize.cohort import Study

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Done:
    """A harmonized cohort.

    Attributes:
        values: (S, V).
        apply: Does the same to scans (n, V) of mean persons at known sites.
        site_in_model: Whether groups are then compared with the site as a covariate.
    """

    values: Array
    apply: Callable[[Array, list[str]], Array]
    site_in_model: bool = False


#: Of a cohort, and of scans (H, J, R, V) of travelling heads that some use.
Method = Callable[[Study, Array], Done]


def raw(study: Study, heads: Array) -> Done:
    """As measured."""
    return Done(study.values, lambda v, s: v)


def as_covariate(study: Study, heads: Array) -> Done:
    """As measured, with the site in the comparison's model; scans less the site's coefficient."""
    sites, names = list(study.table["site"]), sorted(set(study.table["site"]))
    index = np.array([names.index(s) for s in sites])
    whole = np.column_stack([np.eye(len(names))[index], _plain(study)])
    level = np.linalg.lstsq(whole, study.values, rcond=None)[0][: len(names)]
    shift = level - (np.bincount(index) / len(index)) @ level

    def apply(values: Array, at: list[str]) -> Array:
        return values - shift[[names.index(s) for s in at]]

    return Done(study.values, apply, site_in_model=True)


def neuroharmonize(study: Study, heads: Array) -> Done:
    """ComBat of neuroHarmonize: age, its square and the group kept."""
    design = _plain(study)
    model, made = combat_learned(study.values, list(study.table["site"]), design)

    def apply(values: Array, at: list[str]) -> Array:
        return combat_applied(model, values, at, np.repeat(design.mean(0)[None], len(values), 0))

    return Done(made, apply)


def ours(
    shrinkage: str = "sites",
    robust: bool = False,
    controls: bool = False,
    travelling: int = 0,
    site_in_model: bool = False,
) -> Method:
    """Our ComBat, age as a curve.

    Args:
        shrinkage: See `fit_combat`.
        robust: See `fit_combat`.
        controls: Fit to those who are no patients.
        travelling: So many heads that were at all sites, beside the cohort.
        site_in_model: Compare groups with the site as a covariate all the same.
    """

    def run(study: Study, heads: Array) -> Done:
        model, design = fitted(study, shrinkage, robust, controls, heads[:travelling])
        values = model.harmonized(study.values, design, list(study.table["site"]))
        zero = np.zeros(design.shape[1])
        return Done(
            values,
            lambda v, s: model.harmonized(v, np.repeat(zero[None], len(v), 0), s),
            site_in_model,
        )

    return run


def fitted(
    study: Study, shrinkage: str = "sites", robust: bool = False, controls: bool = False,
    heads: Array | None = None,
) -> tuple[Combat, Array]:  # fmt: skip
    """Our model of a cohort, and the design of all its rows.

    Args:
        study: The cohort.
        shrinkage: See `fit_combat`.
        robust: See `fit_combat`.
        controls: Fit to those who are no patients.
        heads: (H, J, R, V) scans of travelling heads, sites in the order of their names.
    """
    chosen = (
        (study.table["patient"] == 0).to_numpy() if controls else np.ones(len(study.table), bool)
    )
    covariates = covariates_of(study.table[chosen], controls)
    design = design_of(covariates, study.table)
    values, rows = study.values[chosen], design[chosen]
    sites, who = list(study.table["site"][chosen]), None
    if heads is not None and len(heads):
        names = sorted(set(sites))
        who = [f"p{i}" for i in range(len(values))]
        for h, j, r in np.ndindex(heads.shape[:3]):
            sites.append(names[j])
            who.append(f"t{h}")
            values = np.vstack([values, heads[h, j, r]])
        rows = np.vstack([rows, np.zeros((len(values) - len(rows), rows.shape[1]))])
    model = fit_combat(values, sites, rows, shrinkage=shrinkage, robust=robust, heads=who)
    return model, design


def covariates_of(table: pd.DataFrame, controls: bool = False) -> tuple[Covariate, ...]:
    """Age as a curve, and the group."""
    return make_covariates(table, ["age"] if controls else ["age", "patient"], ["age"])


METHODS: dict[str, Method] = {
    "raw": raw,
    "site as a covariate": as_covariate,
    "neuroHarmonize": neuroharmonize,
    "fornix, features": ours("features"),
    "fornix, sites (default)": ours(),
    "fornix, sites, then site as a covariate": ours(site_in_model=True),
    "fornix, sites, robust": ours(robust=True),
    "fornix, sites, controls only": ours(controls=True),
    "fornix, 1 travelling head": ours(travelling=1),
    "fornix, 3 travelling heads": ours(travelling=3),
}


if find_spec("neuroHarmonize") is None:
    del METHODS["neuroHarmonize"]  # the page says so


def compared(study: Study, values: Array, site_in_model: bool) -> tuple[Array, Array]:
    """Effect of the group (V,) over the mean of controls, and its p, by ordinary least squares.

    Args:
        study: The cohort.
        values: (S, V) to compare.
        site_in_model: Add a column per site.
    """
    patient = study.table["patient"].to_numpy(float)
    age = _plain(study)[:, :2]
    ground = np.ones((len(age), 1))
    if site_in_model:
        names = sorted(set(study.table["site"]))
        ground = np.eye(len(names))[[names.index(s) for s in study.table["site"]]]
    x = np.column_stack([patient, ground, age])
    made = np.linalg.lstsq(x, values, rcond=None)[0]
    df = len(x) - np.linalg.matrix_rank(x)
    variance = ((values - x @ made) ** 2).sum(0) / df
    error = np.sqrt(np.linalg.pinv(x.T @ x)[0, 0] * variance)
    return made[0] / values[patient == 0].mean(0), 2 * stats.t.sf(np.abs(made[0] / error), df)


def _plain(study: Study) -> Array:
    """(S, 3) age, its square, and the group."""
    age = (study.table["age"].to_numpy(float) - 50) / 15
    return np.column_stack([age, age**2, study.table["patient"].to_numpy(float)])
