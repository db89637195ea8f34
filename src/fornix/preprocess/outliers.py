"""Slices that lost signal: each slice of each volume against what the other volumes predict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.numerics import harmonics


def slice_scores(dwi: DWI, axis: int = 2) -> NDArray[np.float64]:
    """(N, slices) robust z-score of each slice's mean against a leave-one-out harmonic prediction.

    Strongly negative where a slice lost signal (head motion during diffusion weighting). 0 where a
    shell has too few volumes to predict one from the others, and in slices with little brain.
    """
    mask = dwi.brain()
    other = tuple(a for a in range(3) if a != axis)
    counts = mask.sum(axis=other)
    usable = counts >= max(50, 0.02 * counts.max())
    scores = np.zeros((len(dwi.gradients), mask.shape[axis]))
    for shell in dwi.gradients.shells:
        index = np.array(shell.volumes)
        if len(index) < 8:
            continue
        design = harmonics.evaluate(2, dwi.gradients.directions[index])
        hat = design @ np.linalg.pinv(design)
        leverage = np.clip(np.diag(hat), 0, 0.95)
        for s in np.flatnonzero(usable):
            inside = np.take(mask, s, axis=axis)
            values = np.take(dwi.data, s, axis=axis)[inside][:, index].astype(np.float64)
            # Leave-one-out: what the fit to the other volumes predicts for this one.
            fitted = values @ hat.T
            predicted = (fitted - leverage * values) / (1 - leverage)
            change = (values - predicted).sum(0) / np.maximum(np.abs(values).sum(0), 1e-9)
            scores[index, s] = change
        block = scores[np.ix_(index, np.flatnonzero(usable))]
        centre = np.median(block)
        # Small slices vary more: each has its own spread where that is wider than the scan's.
        spread = np.maximum(1.4826 * np.median(np.abs(block - centre), axis=0), 0.005)
        spread = np.maximum(spread, np.median(spread))
        scores[np.ix_(index, np.flatnonzero(usable))] = (block - centre) / spread
    return scores


def outlier_slices(scores: NDArray, threshold: float = -6.0) -> list[tuple[int, int]]:
    """(volume, slice) pairs whose signal dropped beyond the threshold."""
    return [(int(v), int(s)) for v, s in np.argwhere(scores < threshold)]
