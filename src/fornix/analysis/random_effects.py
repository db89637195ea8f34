"""Weights of subjects: how sure each value is, and how far subjects differ beyond that."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

#: Share of a tract's nodes over which variances are smoothed (standard deviation of the kernel).
_SMOOTH = 0.1
_STEPS, _ENOUGH = 30, 1e-3


def between_variance(
    values: NDArray[np.float64],
    std: NDArray[np.float64],
    nuisance: NDArray[np.float64],
    spans: Mapping[str, slice],
) -> NDArray[np.float64]:
    """Variance between subjects beyond that of the measurement, smooth along each tract.

    It is where the weighted residuals are as large as they should be: the sum of r² / (tau² + s²) equals
    the degrees of freedom (Paule & Mandel 1982; DerSimonian & Kacker, Contemporary Clinical Trials 2007),
    on the average over neighbouring nodes. Moments without weights would hang on the few subjects who
    moved most. The model is the one without the tested column, so tau² is the same for every permutation.

    Args:
        values: (S, V); NaN where unknown.
        std: (S, V) of the measurement.
        nuisance: (S, J) columns of the model that are not tested.
        spans: Columns of each tract.

    Returns:
        (V,) tau².
    """
    known = np.isfinite(values) & np.isfinite(std)
    y = np.where(known, values, 0)
    s2 = np.where(known, std, 1) ** 2
    df = np.maximum(known.sum(0) - nuisance.shape[1], 1)
    middle = np.where(known, s2, np.nan)
    scale = np.nanmedian(np.where(known.any(0), middle, np.nanmedian(middle)), axis=0)
    tau = 1e-3 * scale
    # Newton from below: the sum falls and is convex in tau², so no step goes too far.
    for _ in range(_STEPS):
        w = known / (tau + np.maximum(s2, 1e-6 * scale + 1e-300))
        normal = np.einsum("sj,sv,sk->vjk", nuisance, w, nuisance, optimize=True)
        right = (w * y).T @ nuisance
        beta = np.einsum("vjk,vk->vj", np.linalg.pinv(normal, hermitian=True), right)
        squares = w * (y - nuisance @ beta.T) ** 2
        excess = smooth_along(squares.sum(0) - df, spans)
        step = excess / np.maximum(smooth_along((w * squares).sum(0), spans), 1e-300)
        new = np.maximum(tau + step, 0)
        done = np.abs(new - tau) <= _ENOUGH * (new + scale)
        tau = new
        if done.all():
            break
    return tau


def smooth_along(values: NDArray[np.float64], spans: Mapping[str, slice]) -> NDArray[np.float64]:
    """Values smoothed along each tract: neighbours vary alike, and one node tells little."""
    out = np.empty_like(values)
    for span in spans.values():
        part = values[span]
        if len(part) == 1:
            out[span] = part
            continue
        out[span] = gaussian_filter1d(part, max(_SMOOTH * len(part), 1e-3), mode="nearest")
    return out
