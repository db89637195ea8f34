"""The receive bias field, from the mean b0, through DIPY."""

from __future__ import annotations

import numpy as np

from fornix.core.dipy_bridge import gradient_table
from fornix.core.dwi import DWI


def correct_bias(dwi: DWI) -> DWI:
    """The scan divided by a smooth field fitted to log(b0) in the brain; the noise map likewise.

    Ratios of volumes, and so all diffusion maps, do not change; S0 and thresholds do.
    """
    from dipy.denoise.bias_correction import bias_field_correction

    mask = dwi.brain() & (dwi.mean_b0() > 0)
    _, field = bias_field_correction(
        np.asarray(dwi.data),
        gradient_table(dwi.gradients),
        mask=mask,
        method="poly",
        return_bias_field=True,
    )
    field = np.asarray(field, dtype=np.float32)
    field = np.where(np.isfinite(field) & (field > 0.05), field, 1.0)
    field = np.clip(field / np.exp(np.log(field[mask]).mean()), 0.2, 5.0).astype(np.float32)
    sigma = None if dwi.sigma is None else (np.asarray(dwi.sigma) / field).astype(np.float32)
    return dwi.with_(data=np.asarray(dwi.data) / field[..., None], sigma=sigma)
