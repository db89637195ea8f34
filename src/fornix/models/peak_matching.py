"""Which found direction belongs to which true one."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import blocks

_BLOCK = 16384


def match(
    found: NDArray[np.floating],
    axes: NDArray[np.floating],
    real: NDArray[np.bool_],
    limit: float = 45.0,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pair directions with true axes so that the sum of angles is least, none beyond the limit.

    Every assignment is tried, which for a few peaks is Hungarian's optimum (Kuhn, 1955) and faster.

    Args:
        found: (n, K, 3), zeros where there is none.
        axes: (n, P, 3) unit vectors
        real: (n, P) which of them exist.
        limit: Degrees; an axis without a partner costs as much. Signs do not matter.

    Returns:
        The angle of each pair in degrees (n, P), NaN where an axis was missed, and the place of its
        partner in `found` (n, P), -1 where it was missed.
    """
    count, held = found.shape[1], axes.shape[1]
    # Place `count` stands for no partner, which several axes may have.
    ways = np.array([
        way for way in product(range(count + 1), repeat=held)
        if len({w for w in way if w < count}) == sum(w < count for w in way)
    ])  # fmt: skip
    angle = np.full((len(found), held), np.nan, dtype=np.float32)
    partner = np.full((len(found), held), -1, dtype=np.int64)
    places = np.arange(held)
    for part in blocks(len(found), _BLOCK):
        apart = _angles(found[part], axes[part])
        cost = np.minimum(apart, limit)
        cost[~real[part]] = limit
        cost = np.concatenate([cost, np.full((*cost.shape[:2], 1), limit)], axis=2)
        best = ways[cost[:, places, ways].sum(2).argmin(1)]
        chosen = np.take_along_axis(cost, best[..., None], axis=2)[..., 0]
        paired = real[part] & (best < count) & (chosen < limit)
        angle[part] = np.where(paired, chosen, np.nan)
        partner[part] = np.where(paired, best, -1)
    return angle, partner


def _angles(found: NDArray[np.floating], axes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Degrees (n, P, K) between axes and found vectors; 180 where nothing was found."""
    length = np.linalg.norm(found, axis=2)
    unit = found / np.maximum(length, 1e-12)[..., None]
    cosine = np.abs(np.einsum("npc,nkc->npk", axes.astype(np.float64), unit.astype(np.float64)))
    degrees = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    return np.where(length[:, None] > 0, degrees, 180.0)
