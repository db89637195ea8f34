"""What one fibre bundle, grey matter and free water look like in this scan: the response functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.signals import Signals
from fornix.models.deconvolution.response_voxels import response_voxels
from fornix.models.deconvolution.single_fibre import single_fibre_voxels
from fornix.numerics.zonal import finite, fit_zonal


@dataclass(frozen=True)
class Responses:
    """Response functions per b-level, in units of the scan's signal.

    Attributes:
        levels: Mean b of each level (s/mm²), the b0s first where there are any.
        volumes: Which volumes belong to each level.
        wm: (levels, lmax/2 + 1), Legendre coefficients a_l: one fibre at angle theta from the gradient
            gives the signal sum_l a_l P_l(cos theta).
        gm: (levels,) isotropic signals.
        csf: See `gm`.
        voxels: How many voxels each response was taken from.
    """

    levels: tuple[float, ...]
    volumes: tuple[NDArray[np.int64], ...]
    wm: NDArray[np.float64]
    gm: NDArray[np.float64]
    csf: NDArray[np.float64]
    voxels: dict[str, int]


def estimate_responses(
    dwi: DWI, fa: NDArray, md: NDArray, lmax: int = 8, count: int = 300
) -> Responses:
    """Responses from the most typical voxels of the scan itself.

    White matter: the `count` voxels most like one fibre (Tournier et al., NMR Biomed. 2013) in the
    refined white matter of Dhollander et al. (ISMRM 2016), whose grey matter and fluid are the
    other two. Small scans use a tenth of their white matter at most.

    Args:
        dwi: The scan.
        fa: (X, Y, Z)
        md: (X, Y, Z) mm²/s, both of a tensor fit.
        lmax: Highest harmonic order, even.
        count: Single-fibre voxels that give the response.

    Raises:
        FornixError: Where no voxel looks like white matter.
    """
    typical = response_voxels(dwi, fa, md)
    groups = _levels(dwi)
    # The richest angular contrast: the highest shell, or without shells the level of most volumes.
    shell = max(groups, key=len) if dwi.gradients.continuous_b else groups[-1]
    inside = np.argwhere(typical.wm)
    take = min(count, max(1, len(inside) // 10))
    white = Signals(dwi, np.flatnonzero(typical.wm))
    chosen, axes = single_fibre_voxels(
        Signals(dwi, np.flatnonzero(typical.wm), shell)[:],
        dwi.gradients.directions[shell],
        lmax,
        take,
    )
    ordered, rank = np.unique(chosen, return_inverse=True)
    fibres = white[ordered][rank]
    grey, fluid = dwi.data[typical.gm], dwi.data[typical.csf]
    return Responses(
        tuple(float(dwi.gradients.bvals[g].mean()) for g in groups),
        tuple(groups),
        np.stack([_white(dwi, g, fibres[:, g], axes, lmax) for g in groups]),
        np.array([_mean(grey[:, g]) for g in groups]),
        np.array([_mean(fluid[:, g]) for g in groups]),
        {
            "wm": len(chosen),
            "gm": int(typical.gm.sum()),
            "csf": int(typical.csf.sum()),
        },
    )


def _levels(dwi: DWI) -> list[NDArray[np.int64]]:
    b0 = np.flatnonzero(dwi.gradients.b0_mask)
    shells = [np.array(s.volumes) for s in dwi.gradients.shells]
    return ([b0] if len(b0) else []) + shells


def _mean(signals: NDArray) -> float:
    return float(finite(signals).mean(dtype=np.float64))


def _white(
    dwi: DWI, volumes: NDArray[np.int64], signals: NDArray, axes: NDArray, lmax: int
) -> NDArray[np.float64]:
    signals = finite(signals)
    if dwi.gradients.bvals[volumes].mean() <= dwi.gradients.b0_threshold:
        out = np.zeros(lmax // 2 + 1)
        out[0] = signals.mean(dtype=np.float64)
        return out
    return fit_zonal(signals, dwi.gradients.directions[volumes], axes, lmax)
