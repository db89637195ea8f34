"""Slices that lost signal: each slice of each volume against what the other volumes predict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.preprocess.signal_designs import signal_designs


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
    total, size = _slice_sums(dwi, mask, axis)
    for design, index in signal_designs(dwi.gradients, lmax=2):
        if len(index) < 8 or dwi.gradients.b0_mask[index[0]]:
            continue
        hat = design @ np.linalg.pinv(design)
        leverage = np.clip(np.diag(hat), 0, 0.95)
        # Leave-one-out: what the fit to the other volumes predicts for this one. It is linear, so that
        # sums over a slice tell all.
        values = total[index]
        predicted = (hat @ values - leverage[:, None] * values) / (1 - leverage[:, None])
        change = (values - predicted) / np.maximum(size[index], 1e-9)
        scores[np.ix_(index, np.flatnonzero(usable))] = change[:, usable]
        block = scores[np.ix_(index, np.flatnonzero(usable))]
        centre = np.median(block)
        # Small slices vary more: each has its own spread where that is wider than the scan's.
        spread = np.maximum(1.4826 * np.median(np.abs(block - centre), axis=0), 0.005)
        spread = np.maximum(spread, np.median(spread))
        scores[np.ix_(index, np.flatnonzero(usable))] = (block - centre) / spread
    return scores


def _slice_sums(
    dwi: DWI, mask: NDArray[np.bool_], axis: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of the signals in the mask, and of their sizes, by volume and slice: (N, slices) each."""
    total = np.zeros((mask.shape[axis], len(dwi.gradients)))
    size = np.zeros_like(total)
    for voxels, signals in dwi.inside(mask):
        place = np.unravel_index(voxels, mask.shape)[axis]
        order = np.argsort(place, kind="stable")
        edges = np.searchsorted(place[order], np.arange(len(total) + 1))
        for s in np.flatnonzero(np.diff(edges)):
            chosen = signals[order[edges[s] : edges[s + 1]]]
            total[s] += chosen.sum(0, dtype=np.float64)
            size[s] += np.abs(chosen).sum(0, dtype=np.float64)
    return total.T, size.T


def outlier_slices(scores: NDArray, threshold: float = 6.0) -> list[tuple[int, int]]:
    """(volume, slice) pairs whose signal lies off the prediction by more than the threshold, robust z.

    Darker is lost signal (motion, dropout), brighter a spike or a ghost.
    """
    return [(int(v), int(s)) for v, s in np.argwhere(np.abs(scores) > threshold)]
