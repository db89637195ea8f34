"""Smaller voxels than were measured: deconvolved, corrected by a network, and held to what was measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from fornix.core.compute import pick_device
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.enhance.grids import fine_grid
from fornix.enhance.measured import Carried, Measured, hold_to_measured, volume_of
from fornix.enhance.result import Enhanced, room
from fornix.nets import weights
from fornix.nets.enhancement_net import EnhancementNet

NAME = "enhance"
Progress = Callable[[int, int], None]


def sharpen(
    dwi: DWI,
    voxel_size: ArrayLike,
    *,
    carried: Carried | None = None,
    denoised: DWI | None = None,
    network: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> Enhanced:
    """The scan in smaller voxels.

    Args:
        dwi: The scan, not denoised, with mask, noise level and at least one b0.
        voxel_size: mm, one number or three along the voxel axes.
        carried: What is brought to small voxels in place of the scan's own volumes; the scan tells how.
        denoised: The same scan denoised already; None denoises it here where its volumes are enough.
        network: Correct what deconvolution gives; without it the standard deviation is the network's too.
        device: `auto`, `cpu` or `cuda`.
        progress: Called with (volumes done, volumes in all).

    Raises:
        FornixError: No b0, no noise level, no mask, or voxels that cannot be had from the measured ones.
    """
    fine = fine_grid(dwi, voxel_size)
    if dwi.sigma is None:
        raise FornixError(
            "the noise level is not known; call estimate_noise first, or give --sigma"
        )
    if not dwi.gradients.b0_mask.any() or dwi.gradients.b0_mask.all():
        raise FornixError(
            "enhancement in space needs a b0 and weighted volumes; this scan has only one kind of them"
        )
    if dwi.mask is None:
        raise FornixError("enhancement in space needs a brain mask; call brain_mask first")
    where = pick_device(device)
    shipped = weights.load(NAME)
    net = weights.fill(EnhancementNet.like(shipped.about["recipe"]), shipped).to(where)
    scales = shipped.groups["calibration"]["scale"].tolist()
    job = Measured.of(dwi, fine, carried, denoised)
    shape = (*fine.shape, len(job.shells))
    out, std = room(shape), room(shape)
    job.fill(net, out, std, scales if network else None, where, progress)
    details = {**job.facts(fine), **hold_to_measured(job, out, std)}
    source = dwi if carried is None else carried.dwi
    weighted = np.flatnonzero(job.shells > 0)
    level = np.zeros(fine.shape, np.float32)
    for v in weighted:
        level += volume_of(std, int(v)) ** 2 / len(weighted)
    made = source.with_(
        data=out, affine=fine.affine, mask=job.whole_mask, sigma=np.sqrt(level), stem=dwi.stem,
        meta=_meta(dwi),
    )  # fmt: skip
    return Enhanced(made, std, f"deconvolution and network ({shipped.label})", details)


def _meta(dwi: DWI) -> dict[str, object]:
    """The sidecar without what held for the measured voxels."""
    gone = ("SliceThickness", "AcquisitionMatrixPE", "ReconMatrixPE", "BaseResolution")
    return {k: v for k, v in dwi.meta.items() if k not in gone}
