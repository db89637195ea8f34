"""How far a site's own estimates are believed: empirical Bayes over columns, and over sites.

`features` is ComBat as published: a site's shifts are drawn to their mean over the columns. That mean itself
is believed in full, though of ten people it is mostly who they are. `sites` draws it to 0 as far as sites do
not differ by more than chance, and takes the noise off before it asks how far columns differ.

Johnson, Li, Rabinovic, Biostatistics 8 (2007) 118; DerSimonian, Laird, Controlled Clinical
Trials 7 (1986) 177.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

Array = NDArray[np.float64]

SHRINKAGES = ("sites", "features")
#: Rounds of ComBat's conditional modes, at most.
_ROUNDS = 200
#: Columns from which the error of a mean over columns is told, and groups of scans that are left out in turn.
_COLUMNS, _GROUPS = 3000, 20


@dataclass(frozen=True, eq=False)
class SiteSummary:
    """What the scans of one site say, in units of the pooled standard deviation.

    Attributes:
        count: (V,) values.
        shift: (V,) mean; NaN without values.
        shift_variance: (V,) of its sampling.
        level: Mean shift over the columns.
        level_variance: Of its sampling: people, who differ in all columns together.
        spread: (V,) log variance without its bias; NaN for fewer than two values.
        spread_level: Mean of it over the columns.
        spread_level_variance: Of its sampling.
    """

    count: Array
    shift: Array
    shift_variance: Array
    level: float
    level_variance: float
    spread: Array
    spread_level: float
    spread_level_variance: float


@dataclass(frozen=True)
class Prior:
    """How much sites differ beyond chance: what a new site is expected to be like.

    Attributes:
        level: Variance between sites of their mean shift.
        shift: Variance of shifts between the columns of a site.
        spread_level: Variance between sites of their mean log variance.
        spread: Variance of log variances between the columns of a site.
    """

    level: float
    shift: float
    spread_level: float
    spread: float


def summarise(rest: Array, known: NDArray[np.bool_]) -> SiteSummary:
    """Summary of one site.

    Args:
        rest: (n, V) values less what is expected of such persons, over the pooled standard deviation.
        known: (n, V).
    """
    n = known.sum(0).astype(float)
    s = np.where(known, rest, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(n > 0, s.sum(0) / n, np.nan)
        variance = np.where(n > 1, (np.where(known, rest - shift, 0) ** 2).sum(0) / (n - 1), np.nan)
    variance = np.where(variance == 0, np.nan, variance)
    spread = np.log(variance) - _log_bias(n)
    typical = float(np.nanmean(variance)) if np.isfinite(variance).any() else 1.0
    noise = np.where(np.isfinite(variance), variance, typical) / np.maximum(n, 1)
    of_each = np.array([_mean(row[k]) for row, k in zip(s, known)])
    of_each = of_each[np.isfinite(of_each)]
    among = float(np.var(of_each, ddof=1)) if len(of_each) > 1 else typical
    return SiteSummary(
        n, shift, noise, _mean(shift), among / max(len(of_each), 1), spread, _mean(spread),
        _jackknife(rest, known) if np.isfinite(spread).any() else 0.0,
    )  # fmt: skip


def prior_of(sites: Sequence[SiteSummary]) -> Prior:
    """How sites differ, by moments: what is seen less what chance gives. Empty sites tell nothing."""
    sites = [s for s in sites if np.isfinite(s.shift).any()]
    if not sites:
        return Prior(0.0, 0.0, 0.0, 0.0)
    between = _between([s.level for s in sites], [s.level_variance for s in sites])
    spread_between = _between(
        [s.spread_level for s in sites], [s.spread_level_variance for s in sites]
    )
    return Prior(
        between, float(np.mean([_excess(s) for s in sites])),
        spread_between, float(np.mean([_spread_excess(s) for s in sites])),
    )  # fmt: skip


def by_sites(site: SiteSummary, prior: Prior) -> tuple[Array, Array]:
    """Shift and variance ratio (V,) of one site: its mean drawn to 0, its columns to that mean.

    Args:
        site: Its summary.
        prior: Of all sites.
    """
    level = site.level * _share(prior.level, site.level_variance)
    # A site that differs more between its columns than others do is believed on its own word.
    own = max(prior.shift, _excess(site))
    noise = np.maximum(site.shift_variance - site.level_variance, 0)
    gamma = level + _share_of(own, noise) * np.nan_to_num(site.shift - site.level)
    spread_level = site.spread_level * _share(prior.spread_level, site.spread_level_variance)
    more = max(prior.spread, _spread_excess(site))
    noise = np.maximum(_log_variance(site.count) - site.spread_level_variance, 0)
    log_delta = spread_level + _share_of(more, noise) * np.nan_to_num(
        site.spread - site.spread_level
    )
    return gamma, np.exp(log_delta)


def by_features(rest: Array, known: NDArray[np.bool_], bayes: bool = True) -> tuple[Array, Array]:
    """Shift and variance ratio (V,) of one site as ComBat has them.

    Args:
        rest: (n, V), see `summarise`.
        known: (n, V).
        bayes: Draw to the mean of the columns; else the site's own estimates as they are.
    """
    n = known.sum(0).astype(float)
    s = np.where(known, rest, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where(n > 0, s.sum(0) / n, np.nan)
        delta = np.where(n > 1, (np.where(known, rest - shift, 0) ** 2).sum(0) / (n - 1), np.nan)
    seen, told = np.isfinite(shift), np.isfinite(delta)
    mean = _mean(shift)
    gamma = np.where(seen, shift, mean)
    ratio = np.where(told, delta, _mean(delta) if told.any() else 1.0)
    ratio = np.where(ratio == 0, 1.0, ratio)
    if not bayes or told.sum() < 2 or np.ptp(delta[told]) == 0:
        return gamma, ratio
    among = float(np.var(shift[seen], ddof=1))
    middle, wide = float(delta[told].mean()), float(np.var(delta[told], ddof=1))
    a, b = (2 * wide + middle**2) / wide, (middle * wide + middle**3) / wide
    first, second = s.sum(0), (s**2).sum(0)
    for _ in range(_ROUNDS):
        new = (among * first + ratio * mean) / (among * n + ratio)
        squares = second - 2 * new * first + n * new**2
        new_ratio = (0.5 * squares + b) / (n / 2 + a - 1)
        moved = max(float(np.abs(new - gamma).max()), float(np.abs(new_ratio - ratio).max()))
        gamma, ratio = new, new_ratio
        if moved < 1e-9:
            break
    return gamma, ratio


def _excess(site: SiteSummary) -> float:
    """Variance of shifts between columns beyond that of sampling."""
    away = site.shift - site.level
    noise = site.shift_variance - site.level_variance
    return max(_mean(away**2 - noise), 0.0) if np.isfinite(away).sum() > 1 else 0.0


def _spread_excess(site: SiteSummary) -> float:
    away = site.spread - site.spread_level
    noise = _log_variance(site.count) - site.spread_level_variance
    return max(_mean(away**2 - noise), 0.0) if np.isfinite(away).sum() > 1 else 0.0


def _between(levels: Sequence[float], variances: Sequence[float]) -> float:
    """Variance between sites (DerSimonian & Laird)."""
    m, v = np.array(levels), np.maximum(np.array(variances), 1e-12)
    if len(m) < 2:
        return 0.0
    w = 1 / v
    middle = (w * m).sum() / w.sum()
    excess = (w * (m - middle) ** 2).sum() - (len(m) - 1)
    return float(max(excess / (w.sum() - (w**2).sum() / w.sum()), 0.0))


def _jackknife(rest: Array, known: NDArray[np.bool_]) -> float:
    """Sampling variance of the mean log variance over columns: people differ in all of them together."""
    every = max(1, rest.shape[1] // _COLUMNS)
    k = known[:, ::every].astype(float)
    s = np.where(k > 0, rest[:, ::every], 0)
    if len(s) < 3:
        return float(np.mean(_log_variance(k.sum(0))))
    count = min(_GROUPS, len(s))
    left_out = np.eye(count)[:, np.arange(len(s)) * count // len(s)]
    n, first, second = (x.sum(0) - left_out @ x for x in (k, s, s**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = (second - first**2 / n) / (n - 1)
        logs = np.where((n > 1) & (variance > 0), np.log(variance) - _log_bias(n), np.nan)
    there = np.isfinite(logs)
    means = np.where(there, logs, 0).sum(1)[there.any(1)] / there.sum(1)[there.any(1)]
    if len(means) < 2:
        return 0.0
    return float((len(means) - 1) / len(means) * ((means - means.mean()) ** 2).sum())


def _log_bias(n: Array) -> Array:
    """Mean of the log of a variance of n normal values, less the log of its truth."""
    half = np.maximum(n - 1, 1) / 2
    return np.asarray(digamma(half) - np.log(half))


def _log_variance(n: Array) -> Array:
    """Variance of the log of a variance of n normal values."""
    return np.asarray(polygamma(1, np.maximum(n - 1, 1) / 2))


def _share(signal: float, noise: float) -> float:
    return signal / (signal + noise) if signal > 0 else 0.0


def _share_of(signal: float, noise: Array) -> Array:
    return signal / (signal + noise) if signal > 0 else np.zeros_like(noise)


def _mean(values: Array) -> float:
    some = values[np.isfinite(values)]
    return float(some.mean()) if len(some) else 0.0
