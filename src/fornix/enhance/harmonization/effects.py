"""What sites added before and after, and what of people's differences was kept: tables for the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from fornix.analysis.measurements import Measurements
from fornix.enhance.harmonization.covariates import Covariate, design_of
from fornix.enhance.harmonization.harmonize import Harmonized

Array = NDArray[np.float64]

_ALPHA = 0.05


def relative_levels(made: Measurements, alpha: Array) -> Array:
    """(S,) percent by which each scan lies above the reference, mean over columns.

    Args:
        made: One map; log energies of the signal count as the signal.
        alpha: (V,) of the reference.
    """
    if made.map.startswith("rish_"):
        away = made.values - alpha
        there = np.isfinite(away)
        return np.asarray(50 * np.where(there, away, 0).sum(1) / np.maximum(there.sum(1), 1))
    ratio = np.where(np.abs(alpha) > 0, made.values / np.where(alpha == 0, 1, alpha), np.nan)
    known = np.isfinite(ratio)
    total = np.where(known, ratio, 0).sum(1)
    return np.asarray(100 * (total / np.maximum(known.sum(1), 1) - 1))


def site_table(found: Harmonized) -> pd.DataFrame:
    """A row per map and site: percent above the mean of all, before and after, with 95% intervals.

    `columns` is the share of columns (nodes, voxels) at which sites differ at 5%, covariates allowed for.
    """
    design = design_of(found.model.covariates, found.table.frame)
    names = sorted(set(found.table.sites))
    index = np.array([names.index(s) for s in found.table.sites])
    rows = []
    for name, before in found.before.maps.items():
        alpha = found.model.maps[name].combat.alpha
        combat = found.model.maps[name].combat
        both = [
            _site_effects(relative_levels(m, alpha), index, len(names), design)
            for m in (before, found.after.maps[name])
        ]
        share = [
            share_of_columns(m.values, index, design) for m in (before, found.after.maps[name])
        ]
        for j, site in enumerate(names):
            (b, be), (a, ae) = ((effect[j], error[j]) for effect, error, _ in both)
            t = both[0][2]
            rows.append(
                {
                    "map": name, "site": site, "n": int((index == j).sum()),
                    "before": b, "before_low": b - t * be, "before_high": b + t * be,
                    "after": a, "after_low": a - t * ae, "after_high": a + t * ae,
                    "spread": float(np.sqrt(np.median(combat.delta[combat.sites.index(site)]))),
                    "columns_before": share[0], "columns_after": share[1],
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def kept_table(found: Harmonized) -> pd.DataFrame:
    """A row per map and covariate: its effect in percent as measured, with sites in the model, harmonized.

    Numbers: of the difference between the upper and the lower quartile. Categories: against the first.
    """
    frame, names = found.table.frame, sorted(set(found.table.sites))
    index = np.array([names.index(s) for s in found.table.sites])
    dummies = np.eye(len(names))[index]
    covariates = found.model.covariates
    design = design_of(covariates, frame)
    rows = []
    for name, before in found.before.maps.items():
        alpha = found.model.maps[name].combat.alpha
        raw, clean = (relative_levels(m, alpha) for m in (before, found.after.maps[name]))
        for label, contrast in contrasts(covariates, frame):
            row: dict[str, object] = {"map": name, "effect of": label}
            for word, y, ground in (
                ("measured", raw, np.ones((len(raw), 1))), ("site as covariate", raw, dummies),
                ("harmonized", clean, np.ones((len(raw), 1))),
            ):  # fmt: skip
                row[word], row[f"{word} low"], row[f"{word} high"] = _contrast(
                    y, ground, design, contrast
                )
            rows.append(row)
    return pd.DataFrame(rows)


def heads_table(found: Harmonized) -> pd.DataFrame:
    """A row per map: how much values of one head vary between sites, before and after, percent.

    Empty where no head was at several sites. `within`: between scans of a head at one site, where there are.
    """
    rows = []
    for name, before in found.before.maps.items():
        alpha = found.model.maps[name].combat.alpha
        row: dict[str, object] = {"map": name}
        for word, m in (("before", before), ("after", found.after.maps[name])):
            between, within, heads = head_variation(
                _relative(m, alpha), found.table.heads, found.table.sites
            )
            row |= {
                "heads": heads,
                f"between sites {word}": 100 * between,
                f"within site {word}": 100 * within,
            }
        if row["heads"]:
            rows.append(row)
    return pd.DataFrame(rows)


def _relative(made: Measurements, alpha: Array) -> Array:
    return made.values / 2 if made.map.startswith("rish_") else made.values / alpha


def head_variation(
    values: Array, heads: Sequence[str], sites: Sequence[str]
) -> tuple[float, float, int]:
    """Root-mean-square deviation of a head's site means from each other, of its scans at a site, and heads.

    Args:
        values: (S, V), relative.
        heads: (S,)
        sites: (S,)
    """
    frame = pd.DataFrame(values)
    by = [pd.Series(list(heads), name="head"), pd.Series(list(sites), name="site")]
    means = frame.groupby(by).mean()
    counts = means.groupby(level="head").size()
    several = counts[counts > 1].index
    apart = means.loc[means.index.get_level_values("head").isin(several)]
    between = _pooled(apart, apart.index.get_level_values("head")) if len(several) else float("nan")
    labels = pd.Series([f"{h}\0{s}" for h, s in zip(heads, sites)])
    again = labels.duplicated(keep=False).to_numpy()
    within = _pooled(frame[again], labels[again]) if again.any() else float("nan")
    return between, within, len(several)


def share_of_columns(values: Array, index: NDArray[np.int64], design: Array) -> float:
    """Share of columns at which sites differ at 5% (F test, covariates allowed for)."""
    whole = np.isfinite(values).all(0)
    if not whole.any():
        return float("nan")
    y = values[:, whole]
    small = np.column_stack([np.ones(len(y)), design])
    large = np.column_stack([np.eye(index.max() + 1)[index], design])
    left = [((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum(0) for x in (small, large)]
    more = np.linalg.matrix_rank(large) - np.linalg.matrix_rank(small)
    df = len(y) - np.linalg.matrix_rank(large)
    if more < 1 or df < 1:
        return float("nan")
    f = (left[0] - left[1]) / more / np.maximum(left[1] / df, 1e-300)
    return float((stats.f.sf(f, more, df) < _ALPHA).mean())


def contrasts(covariates: Sequence[Covariate], frame: pd.DataFrame) -> list[tuple[str, Array]]:
    """What effects are told: a label, and the difference (P,) of two persons' designs."""
    out = []
    start, total = 0, sum(len(c.columns) for c in covariates)
    for c in covariates:
        if c.kind == "category":
            for k, level in enumerate(c.levels[1:]):
                out.append((f"{c.name}: {level} against {c.levels[0]}", _unit(total, start + k)))
        else:
            low, high = np.quantile(frame[c.name].to_numpy(float), [0.25, 0.75])
            ends = c.design(pd.Series([low, high]))
            difference = np.zeros(total)
            difference[start : start + len(c.columns)] = ends[1] - ends[0]
            out.append((f"{c.name}: {high:.3g} against {low:.3g}", difference))
        start += len(c.columns)
    return out


def _unit(total: int, at: int) -> Array:
    out = np.zeros(total)
    out[at] = 1
    return out


def _site_effects(
    y: Array, index: NDArray[np.int64], count: int, design: Array
) -> tuple[Array, Array, float]:
    """Effect of each site less the mean over scans, its standard error, and the t of a 95% interval."""
    x = np.column_stack([np.eye(count)[index], design])
    made = np.linalg.lstsq(x, y, rcond=None)[0]
    df = max(len(y) - x.shape[1], 1)
    variance = ((y - x @ made) ** 2).sum() / df
    weight = np.bincount(index, minlength=count) / len(index)
    matrix = np.zeros((count, x.shape[1]))
    matrix[:, :count] = np.eye(count) - weight
    inverse = np.linalg.pinv(x.T @ x)
    error = np.sqrt(np.maximum(np.diag(matrix @ inverse @ matrix.T), 0) * variance)
    return matrix @ made, error, float(stats.t.isf(_ALPHA / 2, df))


def _contrast(
    y: Array, ground: Array, design: Array, contrast: Array
) -> tuple[float, float, float]:
    x = np.column_stack([ground, design])
    whole = np.concatenate([np.zeros(ground.shape[1]), contrast])
    made = np.linalg.lstsq(x, y, rcond=None)[0]
    df = max(len(y) - x.shape[1], 1)
    variance = ((y - x @ made) ** 2).sum() / df
    error = float(np.sqrt(max(whole @ np.linalg.pinv(x.T @ x) @ whole, 0) * variance))
    effect, t = float(whole @ made), float(stats.t.isf(_ALPHA / 2, df))
    return effect, effect - t * error, effect + t * error


def _pooled(frame: pd.DataFrame, labels: Sequence[str] | pd.Index | pd.Series) -> float:
    """Root mean, over columns and labels, of the variance within a label."""
    groups = frame.groupby(np.asarray(labels))
    variance = groups.var(ddof=1).to_numpy()
    known = variance[np.isfinite(variance)]
    return float(np.sqrt(known.mean())) if known.size else float("nan")
