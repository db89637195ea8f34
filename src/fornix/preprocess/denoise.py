"""Denoising of the measured volumes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.methods import Deferred, Method, MethodTable


def denoise(
    dwi: DWI, *, method: str = "mppca", threads: int | None = None, device: str = "auto"
) -> DWI:
    """The denoised scan, with the noise level `sigma` set where the method estimates it.

    Args:
        dwi: The scan.
        method: An entry of DENOISE_METHODS. Denoise before anything that interpolates.
        threads: None leaves numba's and torch's numbers as they are.
        device: `auto`, `cpu` or `cuda`.
    """
    with use_threads(threads):
        return DENOISE_METHODS[method].run(dwi, device=device)


def patch2self(dwi: DWI, device: str = "auto") -> DWI:
    """DIPY's Patch2Self: each volume predicted from the others (Fadnavis et al., NeurIPS 2020)."""
    from dipy.denoise.patch2self import patch2self as dipy_patch2self

    if len(dwi.gradients) < 10:
        raise FornixError(
            f"Patch2Self needs 10 volumes or more, this scan has {len(dwi.gradients)}; use mppca"
        )
    many_b0 = int(dwi.gradients.b0_mask.sum()) > 1
    # DIPY sketches with numpy's global generator: seeded here, and put back as it was.
    state = np.random.get_state()
    np.random.seed(0)
    try:
        clean = dipy_patch2self(
            np.asarray(dwi.data),
            dwi.gradients.bvals.copy(),
            b0_threshold=dwi.gradients.b0_threshold,
            b0_denoising=many_b0,
            clip_negative_vals=False,
            shift_intensity=True,
        )
    finally:
        np.random.set_state(state)
    return dwi.with_(data=np.asarray(clean, dtype=np.float32))


def mppca_dipy(dwi: DWI, device: str = "auto") -> DWI:
    """DIPY's MP-PCA, one patch per voxel: slow, the reference for ours."""
    from dipy.denoise.localpca import mppca as dipy_mppca

    clean, sigma = dipy_mppca(np.asarray(dwi.data), mask=dwi.mask, return_sigma=True)
    sigma = np.asarray(sigma, dtype=np.float32)
    level: NDArray[np.float32] = np.where(sigma > 0, sigma, np.median(sigma[sigma > 0]))
    return dwi.with_(data=np.asarray(clean, dtype=np.float32), sigma=level)


DENOISE_METHODS = MethodTable(
    "denoise",
    [
        Method(
            "mppca",
            Deferred("fornix.preprocess.mppca:mppca"),
            "Marchenko-Pastur PCA, batched",
            "Veraart et al., NeuroImage 2016",
            min_volumes=5,
        ),
        Method(
            "qspace",
            Deferred("fornix.preprocess.qspace_denoise:qspace"),
            "Wiener filter on principal components and cosines, Rician bias removed",
            "after Lebrun et al., SIAM Journal on Imaging Sciences 2013",
            min_volumes=7,
        ),
        Method(
            "patch2self",
            patch2self,
            "self-supervised, DIPY",
            "Fadnavis et al., NeurIPS 2020",
            peer="DIPY",
            min_volumes=10,
        ),
        Method(
            "mppca-dipy",
            mppca_dipy,
            "MP-PCA of DIPY (slow)",
            "Veraart et al., NeuroImage 2016",
            peer="DIPY",
        ),
    ],
)
