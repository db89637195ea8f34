"""Models per tract: random intercepts for repeated subjects, and what a group size could detect."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy import optimize, stats
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.multitest import multipletests

from fornix.analysis.design import Design
from fornix.analysis.measurements import Measurements
from fornix.core.errors import FornixError, tell


def mixed_model(
    measurements: Measurements, design: Design, groups: pd.Series, alpha: float = 0.05
) -> pd.DataFrame:
    """A linear mixed model of each tract's mean, with a random intercept per group (statsmodels, REML).

    For subjects measured again and for sites. p is corrected over tracts by Holm's method.

    Args:
        measurements: A row per row of the design.
        design: Fixed effects.
        groups: (S,) what has an intercept of its own, for example participant_id or site.
        alpha: 1 - level of the intervals.

    Returns:
        A row per tract: tractID, map, n, groups, effect, std, low, high, z, p, p_holm, reason.
    """
    means = measurements.tract_means()
    labels = np.asarray(groups.astype(str))
    if len(set(labels)) < 2 or len(set(labels)) == len(labels):
        raise FornixError(
            f"{groups.name} has {len(set(labels))} values in {len(labels)} rows; a random intercept needs "
            "groups of two rows and more"
        )
    rows, failed = [], []
    for tract, y in zip(means.tracts, means.values.T):
        known = np.isfinite(y)
        row: dict[str, object] = {"tractID": tract, "map": means.map, "n": int(known.sum())}
        rows.append(row)
        try:
            # What converges poorly is said below, by tract.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scale = float(np.std(y[known])) or 1.0
                made = MixedLM(y[known] / scale, design.matrix[known], labels[known]).fit(reml=True)
            effect = float(np.asarray(made.fe_params)[design.tested]) * scale
            error = float(np.asarray(made.bse_fe)[design.tested]) * scale
        except (np.linalg.LinAlgError, ValueError) as problem:
            row["reason"] = f"not fitted: {str(problem)[:60]}"
            failed.append(tract)
            continue
        half = stats.norm.isf(alpha / 2) * error
        row.update(
            groups=len(set(labels[known])), effect=effect, std=error, low=effect - half,
            high=effect + half, z=effect / error, p=2 * stats.norm.sf(abs(effect / error)),
            reason="" if made.converged else "did not converge",
        )  # fmt: skip
        if not made.converged:
            failed.append(tract)
    if failed:
        tell(
            f"the mixed model of {len(failed)} tracts is not to be trusted: {', '.join(failed[:4])}"
        )
    table = pd.DataFrame(rows)
    if "p" not in table:
        raise FornixError("the mixed model could be fitted to no tract; leave covariates out")
    fitted = table["p"].notna()
    table.loc[fitted, "p_holm"] = multipletests(table.loc[fitted, "p"], method="holm")[1]
    return table


def detectable(
    measurements: Measurements,
    design: Design,
    each: int,
    power: float = 0.8,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """The difference of two groups of `each` subjects that would be found, per tract.

    Two-sided t test of a node, its level shared out evenly among the tracts (Bonferroni), power from the
    noncentral t distribution; the spread is the median over nodes of the residual standard deviation.
    Support along a tract (TFCE) finds less than this; nodes beside each other that need correction too
    make it more: a guide, not a promise.

    Returns:
        A row per tract: tractID, map, spread, difference, percent (of the tract's mean), d.
    """
    spans = measurements.spans()
    df = 2 * each - design.matrix.shape[1]
    if df < 1:
        raise FornixError(f"--power {each} subjects per group are too few for this design")
    critical = stats.t.isf(alpha / len(spans) / 2, df)

    def short(shift: float) -> float:
        # The other tail adds nothing at a power that is worth planning for, and overflows.
        return float(stats.nct.sf(critical, df, shift)) - power

    shift = optimize.brentq(short, 0, 2 * critical + 5)
    d = shift * np.sqrt(2 / each)
    rows = []
    for tract, span in spans.items():
        spreads = []
        for y in measurements.values[:, span].T:
            known = np.isfinite(y)
            if known.sum() > design.matrix.shape[1]:
                q, _ = np.linalg.qr(design.matrix[known])
                rest = y[known] - q @ (q.T @ y[known])
                spreads.append(np.sqrt((rest**2).sum() / (known.sum() - q.shape[1])))
        if not spreads:
            continue
        spread, mean = float(np.median(spreads)), float(np.nanmean(measurements.values[:, span]))
        rows.append(
            {"tractID": tract, "map": measurements.map, "spread": spread, "difference": d * spread,
             "percent": 100 * d * spread / abs(mean) if mean else np.nan, "d": d}
        )  # fmt: skip
    return pd.DataFrame(rows)
