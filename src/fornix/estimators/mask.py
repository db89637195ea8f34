"""The stage: the brain mask, by threshold or by network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.grid import head_scale
from fornix.core.methods import Deferred, Method, MethodTable
from fornix.preprocess.mask import (
    LEAST_BACKGROUND,
    background,
    everything,
    median_otsu,
    shells,
)


def brain_mask(dwi: DWI, *, method: str = "shells") -> DWI:
    """The scan with its brain mask set. method: an entry of MASK_METHODS."""
    mask = np.array(MASK_METHODS[method].run(dwi))
    for voxels, signals in dwi.inside(mask):
        mask.reshape(-1)[voxels] = np.any(signals, axis=1)
    notes = dwi.notes
    if not mask.any():
        raise FornixError(
            f"no brain was found by {method!r}; give a mask with --mask, or try "
            "another method (fornix mask --method)"
        )
    if doubt := _doubt(mask, dwi):
        notes = (*notes, tell(doubt))
    return dwi.with_(mask=mask, notes=notes)


def _doubt(mask: NDArray[np.bool_], dwi: DWI) -> str:
    """What is unlikely about a mask, in a line; empty where nothing is."""
    litres = mask.sum() * abs(np.linalg.det(dwi.affine[:3, :3])) / 1e6
    whole = (np.array(dwi.grid) * dwi.voxel_size > 80).all()
    human = head_scale(mask, dwi.voxel_size) == 1.0
    if whole and human and not 0.5 < litres < 2.2:
        return f"the brain mask holds {litres:.2f} litres; look at it in the report, or give --mask"
    if mask.mean() < 0.03:
        return (
            f"the brain mask holds only {100 * mask.mean():.1f}% of the image; look at it in the report, or "
            "give --mask"
        )
    dark = background(dwi.mean_b0())
    if dark.mean() >= LEAST_BACKGROUND and (mask & dark).sum() > 0.5 * dark.sum():
        return (
            f"the brain mask fills {100 * mask.mean():.0f}% of the image, its dark background with it; look "
            "at it in the report, or give --mask"
        )
    return ""


MASK_METHODS = MethodTable(
    "mask",
    [
        Method("shells", shells, "Otsu on b0 and diffusion-weighted mean together, largest part"),
        Method(
            "network",
            Deferred("fornix.nets.network_mask:network_mask"),
            "the tissue network and shells together, without thin strips of scalp",
            weights="tissue",
        ),
        Method("median_otsu", median_otsu, "DIPY's median_otsu on the mean b0", peer="DIPY"),
        Method("everything", everything, "every voxel with signal; for crops and phantoms"),
    ],
)
