"""How volumes agree with each other: neighbours in q-space, and contrast over what is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.core.signals import Signals
from fornix.preprocess.geometry.volume_prediction import prediction_weights

Array = NDArray[np.float64]

#: Voxels of the brain that are asked, and those of the carpet.
_VOXELS, _CARPET = 20_000, 800


@dataclass(frozen=True, eq=False)
class Agreement:
    """Of the volumes as they were measured.

    Attributes:
        neighbour: (N,) correlation over the brain with the volume nearest in q-space of the same kind; NaN
            where it is alone.
        contrast: By b-value of the shell (0 for b0s): what directions differ by, over what is left between
            volumes and their predictions (median over voxels).
        contrast_std: Its standard deviation over voxels.
        carpet: (voxels, N) what is left over its own spread, voxels sorted from fluid to white matter.
    """

    neighbour: Array
    contrast: dict[int, float]
    contrast_std: dict[int, float]
    carpet: NDArray[np.float32]


def agreement(dwi: DWI, noise: float, seed: int = 0) -> Agreement:
    """See `Agreement`.

    The neighbouring correlation is after Yeh et al., NeuroImage 2019.

    Args:
        dwi: As it was measured, with its mask.
        noise: Standard deviation over the median b0.
        seed: Of the voxels.
    """
    table = dwi.gradients
    inside = np.flatnonzero(dwi.brain())
    rng = np.random.default_rng([seed, 43])
    inside = np.sort(rng.choice(inside, min(_VOXELS, len(inside)), replace=False))
    signals = np.nan_to_num(np.asarray(Signals(dwi, inside, np.arange(len(table)))[:]))
    weights = prediction_weights(table, noise).astype(np.float32)
    expected = signals @ weights.T
    left = signals - expected
    left[:, ~weights.any(1)] = np.nan  # alone of its kind
    contrast, spread = {}, {}
    for b, members in _shells(table):
        if len(members) < 2 or (b and len(members) < 6) or np.isnan(left[:, members]).any():
            continue
        signal = signals[:, members].mean(1) if not b else expected[:, members].std(1)
        ratio = signal / np.maximum(left[:, members].std(1), 1e-9)
        contrast[b], spread[b] = float(np.median(ratio)), float(ratio.std())
    return Agreement(_neighbours(signals, table), contrast, spread, _carpet(signals, left, table))


def _shells(table: Gradients) -> list[tuple[int, NDArray[np.int64]]]:
    """Rounded b-value and volumes of each; 0 are the b0s."""
    rounded = np.where(table.b0_mask, 0, np.maximum(np.round(table.bvals / 100) * 100, 100))
    return [(int(b), np.flatnonzero(rounded == b)) for b in np.unique(rounded)]


def _neighbours(signals: NDArray[np.float32], table: Gradients) -> Array:
    q = np.sqrt(table.b)[:, None] * table.directions
    away = np.minimum(
        np.linalg.norm(q[:, None] - q[None], axis=2), np.linalg.norm(q[:, None] + q[None], axis=2)
    )
    away[table.b0_mask[:, None] != table.b0_mask[None]] = np.inf
    np.fill_diagonal(away, np.inf)
    nearest = away.argmin(1)
    centred = signals - signals.mean(0)
    size = np.maximum(np.linalg.norm(centred, axis=0), 1e-12)
    found = np.einsum("xn,xn->n", centred, centred[:, nearest]) / (size * size[nearest])
    return np.asarray(np.where(np.isfinite(away.min(1)), found, np.nan), np.float64)


def _carpet(
    signals: NDArray[np.float32], left: NDArray[np.float32], table: Gradients
) -> NDArray[np.float32]:
    b0 = signals[:, table.b0_mask].mean(1) if table.b0_mask.any() else signals.max(1)
    weighted = signals[:, ~table.b0_mask].mean(1) if (~table.b0_mask).any() else b0
    order = np.argsort(weighted / np.maximum(b0, 1e-9))
    chosen = order[np.linspace(0, len(order) - 1, min(_CARPET, len(order))).astype(int)]
    rows = left[chosen]
    if np.isnan(rows).all():
        return np.asarray(rows, np.float32)
    middle = np.nanmedian(rows, 1, keepdims=True)
    spread = 1.4826 * np.nanmedian(np.abs(rows - middle), 1, keepdims=True)
    return np.asarray(rows / np.maximum(spread, 1e-9), np.float32)
