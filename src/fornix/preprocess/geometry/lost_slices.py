"""Slices that lost or gained signal as a whole, against what the other volumes predict for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: A slice is off where it differs from its prediction by more than DEVIATIONS deviations, and these are
#: never taken for smaller than this share of its signal: less harms no estimate.
DEVIATIONS, _LEAST = 4.0, 0.02
#: Slices nearer to a place than this have a share in what is read there.
_BLEND = 1.2
#: Places that tell of a slice.
_FEWEST = 30
#: Times that slices beside lost ones are judged anew.
_PASSES = 6


def lost_slices(
    signal: NDArray[np.float32], target: NDArray[np.float32], at: NDArray[np.float32], slices: int
) -> tuple[Array, NDArray[np.bool_]]:
    """Which slices are off, the worst first.

    What is read between two slices holds a part of each. So a slice beside a lost one is judged by places
    that lie on its other side; one between two lost ones is judged by all that it has.

    Args:
        signal: (N, n) of each volume at the places; not finite where nothing was measured.
        target: (N, n) its prediction; all zero where there is none.
        at: (N, n) where the places lie along the slice axis of each volume, in slices.
        slices: Number of slices.

    Returns:
        (N, slices) deviations by which a slice's signal is above its prediction, 0 where too little is
        known, and (N, slices) bool which are off.
    """
    usable = np.isfinite(signal) & np.asarray(target).any(axis=1, keepdims=True)
    off = np.nan_to_num([_changes(*v, slices) for v in zip(signal, target, at, usable)])
    spread = 1.4826 * np.median(np.abs(off - np.median(off, 0)), 0)
    spread = np.maximum(np.maximum(spread, np.median(spread)), _LEAST)
    score = off / spread
    lost = np.zeros(score.shape, dtype=bool)
    for v in np.flatnonzero((np.abs(score) > DEVIATIONS).any(1)):
        for _ in range(_PASSES):
            found = _worst(np.abs(score[v]), lost[v])
            if not found.any():
                break
            lost[v] |= found
            free = usable[v] & ~_beside(at[v], lost[v])
            again = _changes(signal[v], target[v], at[v], free, slices) / spread
            score[v] = np.where(lost[v] | np.isnan(again), score[v], again)
    return score, lost


def _changes(
    signal: NDArray[np.float32], target: NDArray[np.float32], at: NDArray[np.float32],
    usable: NDArray[np.bool_], slices: int,
) -> Array:  # fmt: skip
    """(slices,) the change of each slice as a share of its signal, beyond the whole volume's; NaN unknown."""
    where = np.clip(np.rint(at[usable]), 0, slices - 1).astype(np.int64)
    expected = target[usable]
    count = np.bincount(where, minlength=slices)
    level = np.bincount(where, np.abs(expected), minlength=slices)
    change = np.bincount(where, signal[usable] - expected, minlength=slices)
    known = count >= _FEWEST
    if not known.any():
        return np.full(slices, np.nan)
    share = change / np.maximum(level, 1e-9)
    return np.asarray(np.where(known, share - np.median(share[known]), np.nan))


def _worst(size: Array, lost: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Slices that are off and no less than those beside them that are still judged."""
    open_ = np.where(lost, 0.0, size)
    padded = np.r_[0.0, open_, 0.0]
    return (open_ > DEVIATIONS) & (open_ >= np.maximum(padded[:-2], padded[2:]))


def _beside(at: NDArray[np.float32], lost: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Places that a lost slice has a share in."""
    bad = np.flatnonzero(lost)
    return (np.abs(at[:, None] - bad) < _BLEND).any(1)
