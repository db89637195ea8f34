"""The receive bias field, from the mean b0, through DIPY."""

from __future__ import annotations

import numpy as np

from fornix.core.dipy_bridge import gradient_table
from fornix.core.dwi import DWI
from fornix.core.series import put_planes, room_like


def correct_bias(dwi: DWI) -> DWI:
    """The scan divided by a smooth field fitted to log(b0) in the brain; the noise map likewise.

    Ratios of volumes, and so all diffusion maps, do not change; S0 and thresholds do.
    """
    from dipy.denoise.bias_correction import bias_field_correction

    mask = dwi.brain() & (dwi.mean_b0() > 0)
    # Only the b0s say anything, and DIPY corrects what it is given in double precision.
    b0 = dwi.subset(dwi.gradients.b0_mask) if dwi.gradients.b0_mask.any() else dwi
    _, field = bias_field_correction(
        np.asarray(b0.data),
        gradient_table(b0.gradients),
        mask=mask,
        method="poly",
        return_bias_field=True,
    )
    field = np.asarray(field, dtype=np.float32)
    field = np.where(np.isfinite(field) & (field > 0.05), field, 1.0)
    field = np.clip(field / np.exp(np.log(field[mask]).mean()), 0.2, 5.0).astype(np.float32)
    sigma = None if dwi.sigma is None else (np.asarray(dwi.sigma) / field).astype(np.float32)
    out = room_like(dwi.data)
    for here, signals in dwi.slabs():
        put_planes(out, here.start, signals / field[here][..., None])
    return dwi.with_(data=out, sigma=sigma)
