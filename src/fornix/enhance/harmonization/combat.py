"""ComBat: sites' shifts and scales out of many columns at once, what people differ by kept.

y = alpha + X beta + sigma (gamma_site + sqrt(delta_site) e): what is kept is alpha + X beta and e.

Johnson, Li, Rabinovic, Biostatistics 8 (2007) 118; Fortin et al., NeuroImage 161 (2017) 149 (diffusion);
Pomponio et al., NeuroImage 208 (2020) 116450 (non-linear age); Da-ano et al., Scientific Reports 10 (2020)
10248 and Radua et al., NeuroImage 218 (2020) 116956 (missing values, robust variants).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.enhance.harmonization import travelling
from fornix.enhance.harmonization.least_squares import inliers, kept_variance, solve
from fornix.enhance.harmonization.shrinkage import (
    SHRINKAGES,
    Prior,
    SiteSummary,
    by_features,
    by_sites,
    prior_of,
    summarise,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Combat:
    """What every site adds to every column, frozen.

    Attributes:
        sites: (J,) names.
        counts: (J,) scans that each was estimated from.
        alpha: (V,) value of the mean person at the reference.
        beta: (P, V) effects that are kept.
        beta_std: (P, V) their standard errors.
        sigma: (V,) pooled standard deviation between people, at the reference.
        gamma: (J, V) shift of each site over sigma.
        delta: (J, V) variance of each site over sigma².
        prior: How sites differ.
        shrinkage: See `SHRINKAGES`; `none` believes every estimate.
        scale: Whether variances are made alike.
    """

    sites: tuple[str, ...]
    counts: NDArray[np.int64]
    alpha: Array
    beta: Array
    beta_std: Array
    sigma: Array
    gamma: Array
    delta: Array
    prior: Prior
    shrinkage: str = "sites"
    scale: bool = True

    def __repr__(self) -> str:
        return f"Combat({len(self.sites)} sites, {len(self.alpha)} columns, {len(self.beta)} effects kept)"

    def expected(self, design: Array) -> Array:
        """(S, V) what is expected of such persons at the reference."""
        return np.asarray(self.alpha + design @ self.beta)

    def harmonized(self, values: Array, design: Array, sites: Sequence[str]) -> Array:
        """Values (S, V) as the reference would have measured them.

        Args:
            values: (S, V); NaN stays NaN.
            design: (S, P) of the covariates.
            sites: (S,) each a known one.
        """
        index = self._index(sites)
        centre = self.expected(design)
        rest = values - centre - self.sigma * self.gamma[index]
        return np.asarray(centre + rest / np.sqrt(self.delta[index]))

    def factor(self, sites: Sequence[str]) -> Array:
        """(S, V) by which standard deviations are multiplied."""
        return np.asarray(1 / np.sqrt(self.delta[self._index(sites)]))

    def with_site(
        self, name: str, values: Array, design: Array, *, robust: bool = False, scale: bool = True
    ) -> Combat:
        """With a further site, estimated from its scans while everything else stays as it is.

        Args:
            name: Of the site.
            values: (n, V) its scans.
            design: (n, P) their covariates.
            robust: See `fit_combat`.
            scale: Whether its variance is a measure of people's.
        """
        known = np.isfinite(values)
        if robust:
            ones = np.ones((len(values), 1))
            rest = values - design @ self.beta
            known = inliers(ones, rest, known, np.zeros(len(values), np.int64))
        flat = self.sigma == 0
        rest = (values - self.expected(design)) / np.where(flat, 1.0, self.sigma)
        known = known & ~flat
        gamma, delta = _estimates(rest, known, self.shrinkage, self.prior)
        if robust:
            delta = delta / kept_variance()
        delta = np.where(flat | (not scale or not self.scale), 1.0, delta)
        return replace(
            self, sites=(*self.sites, name), counts=np.append(self.counts, len(values)),
            gamma=np.vstack([self.gamma, gamma]), delta=np.vstack([self.delta, delta]),
        )  # fmt: skip

    def _index(self, sites: Sequence[str]) -> NDArray[np.int64]:
        strange = [s for s in sites if s not in self.sites]
        if strange:
            raise FornixError(f"the model does not know the site {strange[0]}")
        return np.array([self.sites.index(s) for s in sites], np.int64)


def fit_combat(
    values: Array,
    sites: Sequence[str],
    design: Array,
    *,
    shrinkage: str = "sites",
    robust: bool = False,
    scale: bool = True,
    reference: str | None = None,
    shift_only: Collection[str] = (),
    heads: Sequence[str] | None = None,
) -> Combat:
    """Estimate what every site adds.

    Args:
        values: (S, V); NaN where there is none.
        sites: (S,) site of each row.
        design: (S, P) columns whose effect is kept, without an intercept.
        shrinkage: `sites`, `features` (ComBat as published) or `none`.
        robust: Leave out what lies far from the rest, so that a few patients do not move a site.
        scale: Make the sites' variances alike too.
        reference: Site that all are made like; the mean of all scans if absent.
        shift_only: Sites whose variance is no measure of people's and stays as it is.
        heads: (S,) who each row is of: shifts are then told from heads that were at several sites
            (travelling heads), where a site has some.

    Raises:
        FornixError: For one site, a site of one scan, a design that tells the sites, an unknown reference.
    """
    if shrinkage not in (*SHRINKAGES, "none"):
        raise FornixError(
            f"no shrinkage {shrinkage!r}; choose one of: {', '.join(SHRINKAGES)}, none"
        )
    names = tuple(sorted(set(sites)))
    index = np.array([names.index(s) for s in sites], np.int64)
    counts = np.bincount(index, minlength=len(names))
    _check(names, counts, design, index, reference)
    known = np.isfinite(values)
    dummies = np.eye(len(names))[index]
    whole = np.column_stack([dummies, design])
    if robust:
        known = inliers(whole, values, known, index)
    used = np.where(known, values, 0)
    coefficients = solve(whole, used, known)
    level, beta = coefficients[: len(names)], coefficients[len(names) :]
    of_site = np.stack([known[index == j].sum(0) for j in range(len(names))])
    rows = np.ones(len(values), bool)
    if reference is None:
        alpha = (of_site * level).sum(0) / np.maximum(of_site.sum(0), 1)
    else:
        rows = index == names.index(reference)
        alpha = level[names.index(reference)]
    away = np.where(known, used - whole @ coefficients, 0)
    total = known[rows].sum(0)
    variance = (away[rows] ** 2).sum(0) / np.maximum(total, 1) / (kept_variance() if robust else 1)
    # A column without spread tells nothing of sites: with a scale of 0 it stays as it is.
    flat = variance <= 1e-12 * alpha**2 + 1e-300
    sigma = np.sqrt(np.where(flat, 0.0, variance))
    known = known & ~flat
    rest = (used - alpha - design @ beta) / np.where(flat, 1.0, sigma)
    each = [(rest[index == j], known[index == j]) for j in range(len(names))]
    summaries = [summarise(*one) for one in each]
    if heads is not None:
        summaries = travelling.told_by_heads(
            summaries,
            (values - alpha - design @ beta) / np.where(flat, 1.0, sigma),
            known,
            index,
            heads,
            None if reference is None else names.index(reference),
        )
    prior = prior_of(summaries)
    found = [
        _estimates(*one, shrinkage, prior, summary if heads is not None else None)
        for one, summary in zip(each, summaries)
    ]
    gamma, delta = (np.stack(part) for part in zip(*found))
    if robust:
        delta = delta / kept_variance()
    kept = [not scale or name in shift_only for name in names]
    delta = np.where(np.array(kept)[:, None] | flat, 1.0, delta)
    if reference is not None:
        gamma[names.index(reference)], delta[names.index(reference)] = 0.0, 1.0
    error = _errors(whole, known, away, len(names))
    return Combat(names, counts, alpha, beta, error, sigma, gamma, delta, prior, shrinkage, scale)


def _estimates(
    rest: Array, known: NDArray[np.bool_], shrinkage: str, prior: Prior,
    summary: SiteSummary | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    if shrinkage == "sites" or summary is not None:
        return by_sites(summary or summarise(rest, known), prior)
    return by_features(rest, known, bayes=shrinkage == "features" and rest.shape[1] > 1)


def _errors(whole: Array, known: NDArray[np.bool_], away: Array, count: int) -> Array:
    """Standard errors of the effects that are kept, as if every column were whole."""
    inverse = np.linalg.pinv(whole.T @ whole)
    df = np.maximum(known.sum(0) - whole.shape[1], 1)
    return np.asarray(np.sqrt(np.diag(inverse)[count:, None] * (away**2).sum(0) / df))


def _check(
    names: tuple[str, ...], counts: NDArray[np.int64], design: Array, index: NDArray[np.int64],
    reference: str | None,
) -> None:  # fmt: skip
    if len(names) < 2:
        raise FornixError(f"all scans are of one site ({names[0]}): there is nothing to harmonize")
    if reference is not None and reference not in names:
        raise FornixError(f"no scan is of the reference {reference}; sites are: {', '.join(names)}")
    if (counts < 2).any():
        alone = [n for n, c in zip(names, counts) if c < 2]
        raise FornixError(
            f"site {alone[0]} has one scan: what is the site's and what the person's cannot be told; leave "
            "it out"
        )
    whole = np.column_stack([np.eye(len(names))[index], design])
    if len(whole) <= whole.shape[1]:
        raise FornixError(
            f"{len(whole)} scans for {len(names)} sites and {design.shape[1]} columns of "
            "covariates; at least "
            f"{whole.shape[1] + 1} are needed: keep fewer covariates"
        )
