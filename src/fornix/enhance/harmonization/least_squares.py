"""A linear model at every column of measurements at once, where some rows lack some columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_BLOCK = 4096
#: Standard deviations beyond which a residual is drawn in while the rest is looked for, and then left out.
_HUBER, _FAR = 1.5, 3.0
_ROUNDS = 15
#: Scans of a site that tell a spread of their own.
_ENOUGH = 8

Array = NDArray[np.float64]


def solve(design: Array, values: Array, known: NDArray[np.bool_]) -> Array:
    """Coefficients (P, V) of ordinary least squares over the rows that have a value.

    Args:
        design: (S, P).
        values: (S, V); anything where unknown.
        known: (S, V).
    """
    out = np.empty((design.shape[1], values.shape[1]))
    whole = known.all(0)
    if whole.any():
        out[:, whole] = np.linalg.lstsq(design, values[:, whole], rcond=None)[0]
    rest = np.flatnonzero(~whole)
    for start in range(0, len(rest), _BLOCK):
        part = rest[start : start + _BLOCK]
        w = known[:, part].astype(float)
        normal = np.einsum("sp,sv,sq->vpq", design, w, design, optimize=True)
        right = (np.where(known[:, part], values[:, part], 0).T @ design)[:, :, None]
        # A site without values at a column has a coefficient of nothing, and gets 0.
        out[:, part] = (np.linalg.pinv(normal, hermitian=True) @ right)[:, :, 0].T
    return out


def inliers(
    design: Array, values: Array, known: NDArray[np.bool_], site: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(S, V) known values that lie with the others of their site.

    Left out are values beyond 3 robust standard deviations of their site and column, and all of a row whose
    mean over the columns is: a patient may be unlike in no column by much and in all of them a little. What
    is expected comes from Huber's M-estimate.

    Huber, Robust Statistics, 1981, chapter 7.

    Args:
        design: (S, P).
        values: (S, V).
        known: (S, V).
        site: (S,) number of each row's site.
    """
    drawn = values.copy()
    for _ in range(_ROUNDS):
        centre = design @ solve(design, drawn, known)
        away = np.where(known, values - centre, np.nan)
        spread = _spread(away, site)
        moved = np.clip(np.nan_to_num(away), -_HUBER * spread, _HUBER * spread)
        drawn = np.where(known, centre + moved, values)
    z = np.divide(away, spread, out=np.full_like(away, np.nan), where=spread > 0)
    level = np.where(known, np.nan_to_num(z), 0).sum(1) / np.maximum(np.isfinite(z).sum(1), 1)
    for j in np.unique(site):
        level[site == j] -= np.median(level[site == j])
    far = np.abs(level) > _FAR * _spread(level[:, None], site)[:, 0]
    return known & ~(np.abs(np.nan_to_num(z)) > _FAR) & ~far[:, None]


def kept_variance() -> float:
    """Variance of normal values within 3 standard deviations, over that of all."""
    return 1 - 2 * _FAR * float(stats.norm.pdf(_FAR)) / float(2 * stats.norm.cdf(_FAR) - 1)


def _spread(away: Array, site: NDArray[np.int64]) -> Array:
    """(S, V) robust standard deviation of each row's site; of few scans, where a median is rough, of all."""
    out = np.empty_like(away)
    every = _median(np.abs(away))
    for j in np.unique(site):
        rows = site == j
        out[rows] = 1.4826 * (_median(np.abs(away[rows])) if rows.sum() >= _ENOUGH else every)
    return out


def _median(values: Array) -> Array:
    some = np.isfinite(values).any(0)
    out = np.zeros(values.shape[1])
    if some.any():
        out[some] = np.nanmedian(values[:, some], 0)
    return out
