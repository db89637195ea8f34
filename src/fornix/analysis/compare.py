"""Groups compared along tracts: a linear model per node, error controlled over all nodes of all tracts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from fornix.analysis._enhancement_kernels import enhanced
from fornix.analysis.design import Design
from fornix.analysis.linear_model import Fitted, fit
from fornix.analysis.measurements import Measurements
from fornix.analysis.permutations import permutations as draw
from fornix.analysis.permutations import within
from fornix.analysis.random_effects import between_variance
from fornix.core.errors import FornixError, tell

#: Statistics whose maximum over all tracts is compared: support along a tract, or a node alone.
STATISTICS = ("tfce", "mass", "max")
#: Two-sided p of a node at which a run of nodes begins, for `mass`.
_CLUSTER_P = 0.01
_TOGETHER = 500


@dataclass(frozen=True, eq=False)
class Comparison:
    """The tested column at every node.

    Attributes:
        measurements: What was compared.
        design: The model.
        effect: (V,) coefficient, in units of the map.
        std: (V,) its standard error.
        low: (V,) of the confidence interval of the node.
        high: (V,) see `low`.
        reference: (V,) mean of the values, or of the first group.
        standardised: (V,) effect over the residual standard deviation (Cohen's d for groups).
        t: (V,)
        p: (V,) of the node alone, two-sided.
        q: (V,) false discovery rate over all nodes (Benjamini & Hochberg).
        p_fwe: By statistic: (V,) corrected over all nodes of all tracts.
        count: (V,) subjects that have a value.
        statistic: The one chosen.
        thresholds: 95% point of each statistic's maximum under permutation.
        permutations: How many, the order seen included.
        exact: Whether they are all that are possible.
        weighted: Whether values were weighted by their standard deviations.
        alpha: Error rate.
    """

    measurements: Measurements
    design: Design
    effect: NDArray[np.float64]
    std: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    reference: NDArray[np.float64]
    standardised: NDArray[np.float64]
    t: NDArray[np.float64]
    p: NDArray[np.float64]
    q: NDArray[np.float64]
    p_fwe: Mapping[str, NDArray[np.float64]]
    count: NDArray[np.int64]
    statistic: str
    thresholds: Mapping[str, float]
    permutations: int
    exact: bool
    weighted: bool
    alpha: float

    @property
    def significant(self) -> NDArray[np.bool_]:
        """(V,) corrected p of the chosen statistic at or below alpha."""
        return self.p_fwe[self.statistic] <= self.alpha


def compare(
    measurements: Measurements,
    design: Design,
    *,
    weighted: bool = True,
    statistic: str = "tfce",
    permutations: int = 5000,
    blocks: ArrayLike | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Test one column of a linear model at every node, with permutation.

    Weights are 1 / (tau² + s²): s the standard deviation of a value, tau² the variance between subjects
    beyond it, by moments, smooth along the tract. The tested column, freed of the covariates, is
    exchanged between subjects, who keep their values and weights. The maximum of the statistic over all
    nodes of all tracts controls the family-wise error.
    A subject that lacks a tract is left out of that tract, by the same permutations.

    Args:
        measurements: A row per row of the design.
        design: See `make_design`.
        weighted: Use the standard deviations where there are some.
        statistic: `tfce`, `mass` or `max`; all are computed, this one decides.
        permutations: At most so many, the order seen included; all that exist where those are fewer.
        blocks: (S,) subjects are exchanged within a block only, for example a site.
        alpha: Family-wise error rate.
        seed: Of the permutations.
    """
    if statistic not in STATISTICS:
        raise FornixError(f"no statistic {statistic!r}; choose one of: {', '.join(STATISTICS)}")
    if len(design.matrix) != len(measurements.subjects):
        raise FornixError(
            f"{len(design.matrix)} rows of the design for {len(measurements.subjects)} subjects"
        )
    _check_repeats(measurements)
    group = np.zeros(len(design.matrix)) if blocks is None else np.asarray(blocks)
    block = np.unique(group, return_inverse=True)[1]
    classes = np.unique(design.matrix, axis=0, return_inverse=True)[1].ravel()
    orders, exact = draw(classes, block, permutations, seed)
    known = np.isfinite(measurements.values)
    used = weighted and measurements.std is not None
    spans = measurements.spans()
    weights = _weights(measurements, design, known) if used else None
    size = known.shape[1]
    t_all = np.zeros((len(orders), size), np.float32)
    out = {name: np.full(size, np.nan) for name in ("effect", "std", "t", "spread", "df", "mean")}
    for pattern, columns in _patterns(known):
        fitted = _fit(measurements.values, design, weights, pattern, columns)
        if fitted is None:
            continue
        for name in ("effect", "std", "t", "spread", "df"):
            out[name][columns] = getattr(fitted, name)
        out["mean"][columns] = _reference(measurements.values, design, pattern, columns)
        mine = orders if pattern.all() else within(orders, block, pattern)
        for start in range(0, len(mine), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            t_all[part, columns] = fitted.permuted(mine[part])
    if not np.isfinite(out["t"]).any():
        raise FornixError("no node has enough subjects for this design; leave covariates out")
    t_all[0] = np.nan_to_num(out["t"])  # the one seen, in full precision
    starts = np.array([*(s.start for s in spans.values()), size])
    cut = float(stats.t.isf(_CLUSTER_P / 2, max(np.nanmedian(out["df"]), 1)))
    p_fwe, thresholds = {}, {}
    for kind in STATISTICS:
        value = np.abs(enhanced(t_all, starts, kind, cut))
        top = value.max(1)
        # float32 sums in another order must not count as larger.
        above = np.searchsorted(np.sort(top), value[0] * (1 - 1e-5), side="left")
        p_fwe[kind] = np.where(np.isfinite(out["t"]), (len(top) - above) / len(top), np.nan)
        thresholds[kind] = float(np.quantile(top, 1 - alpha, method="higher"))
    p = 2 * stats.t.sf(np.abs(out["t"]), out["df"])
    q = np.full(size, np.nan)
    q[np.isfinite(p)] = stats.false_discovery_control(p[np.isfinite(p)])
    half = stats.t.isf(alpha / 2, out["df"]) * out["std"]
    with np.errstate(invalid="ignore", divide="ignore"):
        standardised = out["effect"] / out["spread"]
    return Comparison(
        measurements, design, out["effect"], out["std"], out["effect"] - half, out["effect"] + half,
        out["mean"], standardised, out["t"], p, q, p_fwe, known.sum(0), statistic, thresholds,
        len(orders), exact, used, alpha,
    )  # fmt: skip


def _check_repeats(measurements: Measurements) -> None:
    if len(set(measurements.subjects)) < len(measurements.subjects):
        raise FornixError(
            "subjects were measured more than once, and permutation needs independent rows; use a mixed "
            "model (--mixed), or choose one session"
        )


def _patterns(
    known: NDArray[np.bool_],
) -> list[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """Columns that the same subjects have, together."""
    patterns, index = np.unique(known, axis=1, return_inverse=True)
    return [(patterns[:, i], np.flatnonzero(index.ravel() == i)) for i in range(patterns.shape[1])]


def _weights(
    measurements: Measurements, design: Design, known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(S, V) 1 / (tau² + s²)."""
    assert measurements.std is not None
    std = np.where(known, measurements.std, np.nan)
    if (std < 0).any() or not np.isfinite(std).any():
        raise FornixError("standard deviations must be 0 or more, and some must be known")
    if (lacking := known & ~np.isfinite(std)).any():
        tell(
            f"{lacking.sum():,} values have no standard deviation; the median of the others stands in"
        )
        middle = np.nanmedian(np.where(np.isfinite(std).any(0), std, np.nanmedian(std)), axis=0)
        std = np.where(lacking, middle, std)
    tau = between_variance(measurements.values, std, design.nuisance, measurements.spans())
    variance = tau + std**2
    # A value without any error would outweigh all others.
    with np.errstate(invalid="ignore"):
        return 1 / np.maximum(variance, 1e-6 * np.nanmedian(variance, axis=0) + 1e-300)


def _fit(
    values: NDArray[np.float64],
    design: Design,
    weights: NDArray[np.float64] | None,
    pattern: NDArray[np.bool_],
    columns: NDArray[np.int64],
) -> Fitted | None:
    """The model among the subjects of a pattern; None where they are too few for it."""
    matrix = design.matrix[pattern]
    if len(matrix) <= matrix.shape[1] or np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        return None
    rows = np.ix_(pattern, columns)
    chosen = None if weights is None else weights[rows]
    nuisance = design.nuisance[pattern]
    return fit(values[rows], matrix[:, design.tested], nuisance, chosen)


def _reference(
    values: NDArray[np.float64],
    design: Design,
    pattern: NDArray[np.bool_],
    columns: NDArray[np.int64],
) -> NDArray[np.float64]:
    some = pattern if design.group is None else pattern & ~design.group
    return values[np.ix_(some, columns)].mean(0)
