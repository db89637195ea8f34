"""Scores of estimates with uncertainty against the truth. Every function takes flat arrays (n,)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from fornix_bench.suites.classical import CELLS
from fornix_bench.table import Row

Array = NDArray[np.float64]
#: A cell of the true value with fewer voxels than this is not scored.
FEWEST = 30


def errors(found: ArrayLike, true: ArrayLike) -> Row:
    """n, bias, spread, rmse and median_error of `found`; voxels that are not finite are left out.

    bias: mean of found minus true; spread: standard deviation of the difference. `missing` counts
    the voxels left out, where there are any.
    """
    apart = np.asarray(found, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    good = np.isfinite(apart)
    row: Row = {"n": int(good.sum())}
    if good.any():
        e = apart[good]
        row |= {
            "bias": float(e.mean()), "spread": float(e.std()),
            "rmse": float(np.sqrt((e**2).mean())), "median_error": float(np.median(np.abs(e))),
        }  # fmt: skip
    if not good.all():
        row["missing"] = int((~good).sum())
    return row


def angles(found: ArrayLike, true: ArrayLike) -> Array:
    """(n,) degrees between axes (n, 3), 0 to 90: the sign of an axis has no meaning."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(true, dtype=np.float64)
    cosine = np.abs((a * b).sum(-1))
    length = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine / np.maximum(length, 1e-12), 0, 1))))


def cells(param: str, found: Array, true: Array, std: Array | None = None) -> list[Row]:
    """The errors in each cell of the true value (`classical.CELLS`), with the mean std told there.

    `share` is |bias| over the spread of the estimate in the cell; the goal is to be under 0.5.
    """
    rows: list[Row] = []
    for low, high in pairwise(CELLS[param]):
        inside = (true >= low) & (true < high)
        if inside.sum() < FEWEST:
            continue
        row: Row = {"param": param, "cell": f"{low:g}–{high:g}"}
        row |= errors(found[inside], true[inside])
        if "bias" in row:
            row["share"] = abs(row["bias"]) / max(row["spread"], 1e-12)
            if std is not None:
                row["std_told"] = float(np.nanmean(std[inside]))
            rows.append(row)
    return rows


def coverage(true: Array, low: Array, high: Array) -> float:
    """Share of the voxels whose truth lies in [low, high]; an interval that is not finite does not."""
    return float(((true >= low) & (true <= high)).mean())


def spearman(a: Array, b: Array) -> float:
    """Rank correlation; nan where either is constant or there are fewer than three finite pairs."""
    good = np.isfinite(a) & np.isfinite(b)
    if good.sum() < 3:
        return float("nan")
    x, y = rankdata(a[good]), rankdata(b[good])
    if x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def sparsification(error: Array, order: Array, steps: int = 50) -> tuple[Array, Array]:
    """RMSE of the voxels that are left when the share removed has the largest `order`.

    Returns (share removed (steps,), RMSE over the RMSE of all (steps,)); the share ends below 1.
    """
    good = np.isfinite(error) & np.isfinite(order)
    ranked = error[good][np.argsort(order[good], kind="stable")] ** 2
    removed = np.arange(steps) / steps
    left = np.maximum(np.round(len(ranked) * (1 - removed)).astype(int), 1)
    curve = np.sqrt(np.cumsum(ranked)[left - 1] / left)
    return removed, curve / max(curve[0], 1e-300)


def ause(error: Array, std: Array, steps: int = 50) -> float:
    """Area between the sparsification curve by `std` and the oracle's, by |error|; 0 is perfect.

    In units of the RMSE of all voxels (Ilg et al., ECCV 2018).
    """
    removed, ours = sparsification(error, std, steps)
    _, oracle = sparsification(error, np.abs(error), steps)
    return float(np.trapezoid(ours - oracle, removed))


def auroc(score: ArrayLike, positive: ArrayLike) -> float:
    """Chance that a positive scores above a negative, ties counting half; nan without either."""
    values, label = np.asarray(score, dtype=np.float64), np.asarray(positive, dtype=bool)
    good = np.isfinite(values)
    values, label = values[good], label[good]
    ones, zeros = int(label.sum()), int((~label).sum())
    if not ones or not zeros:
        return float("nan")
    total = rankdata(values)[label].sum()
    return float((total - ones * (ones + 1) / 2) / (ones * zeros))
