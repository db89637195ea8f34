"""Constrained spherical deconvolution: fibre orientation distributions from the scan's own responses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.dipy_bridge import gradient_table
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.signals import Signals
from fornix.models.deconvolution.interior_point import deconvolve_nonnegative
from fornix.models.deconvolution.penalised import deconvolve_penalised
from fornix.models.deconvolution.response import Responses
from fornix.numerics import harmonics
from fornix.numerics.zonal import convolution


def msmt(
    dwi: DWI, responses: Responses, lmax: int, device: str = "auto"
) -> dict[str, NDArray[np.float32]]:
    """Multi-tissue deconvolution (Jeurissen et al., NeuroImage 2014); the answer of `msmt_csd`.

    Three tissues where the scan has three or more b-levels, counting the b0s; white matter and
    fluid where it has two. Returns `fod` (X, Y, Z, coefficients) and the signal fractions
    `wm`, `gm`, `csf` (X, Y, Z) that are there. Compiled for the processor, whatever the device.
    """
    tissues = [("csf", responses.csf)]
    if len(responses.levels) >= 3:
        tissues.append(("gm", responses.gm))
    if len(responses.levels) < 2:
        raise FornixError("multi-tissue deconvolution needs a b0 or a second shell; use csd")
    design = _design(dwi, responses, lmax, [signal for _, signal in tissues])
    found = deconvolve_nonnegative(Signals(dwi, np.flatnonzero(dwi.brain())), design, lmax)
    count = harmonics.n_coefficients(lmax)
    # A fraction is the tissue's share, each response having been scaled to one whole voxel of it.
    parts = {name: np.clip(found[:, count + i], 0, None) for i, (name, _) in enumerate(tissues)}
    fod = found[:, :count]
    parts["wm"] = np.clip(fod[:, 0] * np.sqrt(4 * np.pi), 0, None)
    total = np.maximum(sum(parts.values()), 1e-9)
    out = {name: dwi.unmask(share / total) for name, share in parts.items()}
    return {"fod": dwi.unmask(fod), **out}


def csd(
    dwi: DWI, responses: Responses, lmax: int, device: str = "auto"
) -> dict[str, NDArray[np.float32]]:
    """Single-tissue, single-shell deconvolution (Tournier et al., NeuroImage 2007); as `csd`.

    Uses the shell of highest b. Negative amplitudes are penalised, as there, not forbidden.
    Compiled for the processor, whatever the device.
    """
    if dwi.gradients.continuous_b:
        raise FornixError(
            f"csd needs a shell of one b-value, this scan has {dwi.gradients}; use msmt or learned"
        )
    volumes = responses.volumes[-1]
    design = convolution(dwi.gradients.directions[volumes], responses.wm[-1], lmax)
    mean = float(responses.wm[-1, 0] * np.sqrt(4 * np.pi))
    signals = Signals(dwi, np.flatnonzero(dwi.brain()), volumes)
    fod = deconvolve_penalised(signals, design, lmax, mean)
    return {"fod": dwi.unmask(fod)}


def csd_dipy(
    dwi: DWI, responses: Responses, lmax: int, device: str = "auto"
) -> dict[str, NDArray[np.float32]]:
    """The reference: DIPY's CSD with DIPY's own tensor response from the same voxels' shape."""
    from dipy.reconst.csdeconv import AxSymShResponse, ConstrainedSphericalDeconvModel

    shell = dwi.subset(responses.volumes[-1])
    ells = np.arange(0, lmax + 1, 2)
    zonal = responses.wm[-1] * np.sqrt(4 * np.pi / (2 * ells + 1))
    response = AxSymShResponse(float(responses.wm[0, 0]), zonal)
    model = ConstrainedSphericalDeconvModel(
        gradient_table(shell.gradients), response, sh_order_max=lmax
    )
    fit = model.fit(np.asarray(shell.data), mask=dwi.brain())
    coefficients = np.nan_to_num(fit.shm_coeff) @ harmonics.from_dipy_matrix(lmax).T
    return {"fod": coefficients.astype(np.float32)}


def _design(
    dwi: DWI, responses: Responses, lmax: int, isotropic: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """(N, coefficients + tissues): what each coefficient contributes to each volume."""
    count = harmonics.n_coefficients(lmax)
    design = np.zeros((len(dwi.gradients), count + len(isotropic)))
    for level, volumes in enumerate(responses.volumes):
        directions = dwi.gradients.directions[volumes]
        design[volumes, :count] = convolution(directions, responses.wm[level], lmax)
        for tissue, signal in enumerate(isotropic):
            design[volumes, count + tissue] = signal[level]
    return design
