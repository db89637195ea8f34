"""What makes a harmonization doubtful: sites that are told by people, sites that are small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.enhance.harmonization.covariates import Covariate, design_of
from fornix.enhance.harmonization.table import ScanTable

#: Scans below which a site's estimate is mostly its people's chance.
FEW = 10
#: Scans that a new site must have, for its shift and its scale.
LEAST = 3
#: Share of a covariate's variance that lies between sites from which it is told.
_BETWEEN = 0.5


def refuse_confounded(table: ScanTable, covariates: Sequence[Covariate]) -> None:
    """An error where sites and covariates cannot be told apart.

    Args:
        table: Rows of the fit.
        covariates: What is to be kept.
    """
    sites = pd.Categorical(table.sites)
    dummies = np.eye(len(sites.categories))[sites.codes]
    before = np.linalg.matrix_rank(dummies)
    for covariate in covariates:
        columns = design_of([covariate], table.frame)
        columns = columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
        if (
            np.linalg.matrix_rank(np.column_stack([dummies, columns]), tol=1e-8)
            < before + columns.shape[1]
        ):
            raise FornixError(
                f"{covariate.name} and site cannot be told apart: {_told(table, covariate)}; fit on "
                "one group "
                f"with --fit-on, with heads that were at several sites (--travelling fit), or leave "
                f"{covariate.name} out of what is kept"
            )
    whole = np.column_stack([dummies, design_of(covariates, table.frame)])
    whole = whole / np.maximum(np.linalg.norm(whole, axis=0), 1e-300)
    if np.linalg.matrix_rank(whole, tol=1e-8) < whole.shape[1] and len(whole) > whole.shape[1]:
        raise FornixError(
            f"the covariates {', '.join(c.name for c in covariates)} tell each other; leave one out"
        )


def _told(table: ScanTable, covariate: Covariate) -> str:
    values = table.frame[covariate.name]
    if covariate.kind != "category":
        return "within each site it has one value"
    of_site = (
        values.astype(str).groupby(table.frame["site"]).agg(lambda v: "/".join(sorted(set(v))))
    )
    return "; ".join(f"{s} has {v}" for s, v in list(of_site.items())[:4])


def warnings_of(table: ScanTable, covariates: Sequence[Covariate]) -> list[str]:
    """What is to be looked at in the rows of a fit, a line each."""
    out = []
    counts = table.frame["site"].value_counts()
    few = [f"{s} ({n})" for s, n in counts.items() if n < FEW]
    if few:
        out.append(
            f"sites of fewer than {FEW} scans, whose estimates are drawn far to the others': "
            f"{', '.join(sorted(few))}"
        )
    for site, mine in table.frame.groupby("site"):
        if mine["participant_id"].nunique() == 1:
            out.append(
                f"all {len(mine)} scans of {site} are of one person "
                f"({mine['participant_id'].iloc[0]}): what is "
                "the person's is taken for the site's"
            )
    for covariate in covariates:
        share = between_sites(design_of([covariate], table.frame), table.sites)
        if share > _BETWEEN:
            out.append(
                f"{covariate.name} and site go together: {share:.0%} of its variance lies between "
                "sites, so that "
                "its effect is told from few people"
            )
    return out


def between_sites(columns: NDArray[np.float64], sites: Sequence[str]) -> float:
    """Largest share of variance of some columns (S, P) that lies between sites."""
    index = pd.Categorical(list(sites)).codes
    within = columns.copy()
    for j in np.unique(index):
        within[index == j] -= columns[index == j].mean(0)
    total = ((columns - columns.mean(0)) ** 2).sum(0)
    return float((1 - (within**2).sum(0) / np.maximum(total, 1e-300)).max(initial=0.0))


def outside_of(table: ScanTable, covariates: Sequence[Covariate]) -> list[str]:
    """Rows whose covariates lie beyond those of the fit, a line a covariate."""
    out = []
    for covariate in covariates:
        beyond = np.flatnonzero(covariate.outside(table.frame[covariate.name]))
        if len(beyond):
            some = ", ".join(
                f"{table.heads[i]} ({table.frame[covariate.name][i]:g})" for i in beyond[:4]
            )
            out.append(
                f"{covariate.name} of {len(beyond)} scans lies beyond the {covariate.low:g} to "
                f"{covariate.high:g} "
                f"of the fit, and its effect there is a guess: {some}{' …' if len(beyond) > 4 else ''}"
            )
    return out
