"""Half-field ghosts of EPI: what of the head shows up half a field of view away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.preprocess._reach import within

#: mm around the brain that is scalp, eyes and neck, not background.
_SKULL = 15.0
_FEWEST = 200


def ghost_share(dwi: DWI, axis: int) -> float:
    """Signal of the b0 where a ghost of the brain would lie, less the background's, over the brain's.

    NaN where the field of view leaves no place beside the head.

    Args:
        dwi: As it was measured, with its mask.
        axis: Phase-encoded voxel axis.
    """
    image, brain = dwi.mean_b0(), dwi.brain()
    head = within(brain, _SKULL, dwi.voxel_size)
    half = dwi.grid[axis] // 2
    ghost = np.roll(brain, half, axis) & ~head
    rest = ~np.roll(head, half, axis) & ~head
    if min(ghost.sum(), rest.sum()) < _FEWEST or not brain.any():
        return float("nan")
    level = float(np.median(image[brain]))
    return (
        float((_typical(image[ghost]) - _typical(image[rest])) / level) if level else float("nan")
    )


def _typical(values: NDArray[np.float32]) -> float:
    return float(np.median(values))
