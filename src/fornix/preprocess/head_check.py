"""Volumes that show no head: lost, overwritten or pure noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.signals import Signals
from fornix.preprocess._reach import within
from fornix.preprocess.findings import VolumeFinding

#: mm around the brain that are scalp, eyes and neck.
_SKULL = 15.0
#: Voxels inside and outside of the head that are looked at, and the fewest that tell.
_VOXELS, _FEWEST = 4000, 300
#: A volume shows no head where the logarithm of brain over background is below this share of its like's.
_SHARE = 0.25
#: Contrasts below this are not told from noise: brains sink into it at high b.
_LEAST = 0.3


def volumes_without_head(dwi: DWI) -> NDArray[np.int64]:
    """Places of the volumes whose brain is no brighter than their background, (n,).

    Compared with the best quarter of the volumes of like b-value. None where there is no background, as after
    skull stripping and in crops.

    Args:
        dwi: The raw scan with its mask.
    """
    brain = dwi.brain()
    outside = np.flatnonzero(~within(brain, _SKULL, dwi.voxel_size))
    inside = np.flatnonzero(brain)
    none = np.zeros(0, np.int64)
    if min(len(inside), len(outside)) < _FEWEST:
        return none
    inside, outside = (v[:: max(1, len(v) // _VOXELS)] for v in (inside, outside))
    contrast = np.full(len(dwi.gradients), np.nan)
    bright, dark = (
        np.nan_to_num(Signals(dwi, v)[:]).mean(0, np.float64) for v in (inside, outside)
    )
    known = dark > 0
    contrast[known] = np.log(np.maximum(bright[known], 1e-9 * dark[known]) / dark[known])
    kinds = np.where(dwi.gradients.b0_mask, -1, np.round(dwi.gradients.bvals / 500))
    lost = []
    for kind in np.unique(kinds):
        members = np.flatnonzero((kinds == kind) & np.isfinite(contrast))
        if len(members) < 2:
            continue
        usual = float(np.quantile(contrast[members], 0.875))
        if usual > _LEAST:
            lost.append(members[contrast[members] < _SHARE * usual])
    return np.sort(np.concatenate(lost)) if lost else none


def check_heads(dwi: DWI) -> list[VolumeFinding]:
    """One finding that names the volumes without a head; none where all show one."""
    numbers = [int(n) for n in dwi.gradients.numbers[volumes_without_head(dwi)]]
    if not numbers:
        return []
    listed = ",".join(map(str, numbers))
    which = f"volume {listed} shows" if len(numbers) == 1 else f"volumes {listed} show"
    left = len(dwi.gradients) - len(numbers)
    text = f"{which} no head: leave out with --exclude {listed}; {left} volumes are left then"
    return [VolumeFinding(tuple(numbers), "no-head", text)]
