"""A linear model at every column of measurements at once, where some rows lack some columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096
#: Of pseudo-values: residuals beyond so many standard deviations are drawn in (Huber).
_HUBER = 1.5
#: Mean square of standard normal numbers that are drawn in so.
_HUBER_SQUARE = 0.7785
_ROUNDS = 15

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


def pseudo_values(
    design: Array, values: Array, known: NDArray[np.bool_], site: NDArray[np.int64]
) -> Array:
    """Values whose residuals are drawn in to 1.5 robust standard deviations of their site and column.

    Least squares on these is Huber's M-estimate of location and scale ("proposal 2"), so that a few patients
    do not move what is taken for the site's. Variances of them are too small by `shrunk_variance`.

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
        for j in np.unique(site):
            rows = site == j
            with np.errstate(invalid="ignore", all="ignore"):
                # Of few scans the median is too rough: all sites share one scale then.
                pool = away[rows] if rows.sum() >= 8 else away
                spread = 1.4826 * _median(np.abs(pool))
            limit = _HUBER * spread
            moved = np.clip(away[rows], -limit, limit)
            drawn[rows] = np.where(known[rows], centre[rows] + np.nan_to_num(moved), values[rows])
    return drawn


def shrunk_variance() -> float:
    """Variance of pseudo-values of normal data over that of the data."""
    return _HUBER_SQUARE


def _median(values: Array) -> Array:
    some = np.isfinite(values).any(0)
    out = np.zeros(values.shape[1])
    if some.any():
        out[some] = np.nanmedian(values[:, some], 0)
    return out
