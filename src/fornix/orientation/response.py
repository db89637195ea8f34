"""What one fibre bundle, grey matter and free water look like in this scan: the response functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core import harmonics
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError


@dataclass(frozen=True)
class Responses:
    """Response functions per b-level, in units of the scan's signal.

    levels: mean b of each level (s/mm²), the b0s first where there are any.
    volumes: which volumes belong to each level.
    white: (levels, lmax/2 + 1), Legendre coefficients a_l: one fibre at angle theta from the
        gradient gives the signal sum_l a_l P_l(cos theta).
    grey, fluid: (levels,) isotropic signals.
    voxels: how many voxels each response was taken from.
    """

    levels: tuple[float, ...]
    volumes: tuple[NDArray[np.int64], ...]
    white: NDArray[np.float64]
    grey: NDArray[np.float64]
    fluid: NDArray[np.float64]
    voxels: dict[str, int]


def estimate_responses(
    dwi: DWI, fa: NDArray, md: NDArray, v1: NDArray, lmax: int = 8, count: int = 300
) -> Responses:
    """Responses from the most typical voxels of the scan itself.

    White matter: the `count` voxels of highest FA in the eroded brain, turned so that their first
    eigenvector is z (Tournier et al., NeuroImage 2004, 2007; zonal fit over all of them at once).
    Fluid: those of highest diffusivity. Grey matter: low FA, diffusivity nearest the brain's median
    of such voxels (after Dhollander et al., ISMRM 2016, simplified).

    fa: (X, Y, Z); md: mm²/s; v1: (X, Y, Z, 3) world axes.
    """
    brain = dwi.brain() & (dwi.mean_b0() > 0)
    core = ndimage.binary_erosion(brain, iterations=2)
    if core.sum() < 50:
        core = brain
    groups = _levels(dwi)
    take = min(count, max(1, int(core.sum()) // 10))
    b0 = dwi.mean_b0()
    # Bright rims and vessels reach FA near 1: those are not fibres.
    plausible = core & (fa < 0.98) & (md > 0.2e-3) & (md < 1.5e-3)
    if not plausible.any():
        raise FornixError(
            "no voxel looks like white matter (diffusivity 0.2 to 1.5e-3 mm²/s): the response cannot "
            "be estimated; check the mask and the gradient table"
        )
    white = _extreme(np.where(plausible, fa, -1), plausible, take)
    fluid_like = core & (fa < 0.3) & (b0 > np.median(b0[core]))
    fluid = _extreme(md, fluid_like if fluid_like.any() else core, take)
    isotropic = core & (fa < 0.2) & (md < 1.2e-3) & ~fluid
    if isotropic.any():
        grey = _extreme(-np.abs(md - np.median(md[isotropic])), isotropic, take)
    else:
        grey = _extreme(
            -fa, core & ~white & ~fluid if (core & ~white & ~fluid).any() else core, take
        )
    return Responses(
        tuple(float(dwi.gradients.bvals[g].mean()) for g in groups),
        tuple(groups),
        np.stack([_zonal(dwi, g, white, v1, lmax) for g in groups]),
        np.array([np.median(dwi.data[grey][:, g]) for g in groups]),
        np.array([np.median(dwi.data[fluid][:, g]) for g in groups]),
        {"white": int(white.sum()), "grey": int(grey.sum()), "fluid": int(fluid.sum())},
    )


def _levels(dwi: DWI) -> list[NDArray[np.int64]]:
    b0 = np.flatnonzero(dwi.gradients.b0_mask)
    shells = [np.array(s.volumes) for s in dwi.gradients.shells]
    return ([b0] if len(b0) else []) + shells


def _extreme(score: NDArray, inside: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """The `count` inside voxels of highest score."""
    values = np.where(inside, score, -np.inf).ravel()
    count = min(count, int(inside.sum()))
    chosen = np.argpartition(-values, count - 1)[:count]
    out = np.zeros(values.shape, dtype=bool)
    out[chosen] = True
    return out.reshape(inside.shape)


def _zonal(
    dwi: DWI, volumes: NDArray[np.int64], voxels: NDArray[np.bool_], v1: NDArray, lmax: int
) -> NDArray[np.float64]:
    """Zonal coefficients of the response at one b, one least-squares fit over all its voxels."""
    signal = dwi.data[voxels][:, volumes].astype(np.float64)
    if dwi.gradients.bvals[volumes].mean() <= dwi.gradients.b0_threshold:
        out = np.zeros(lmax // 2 + 1)
        out[0] = np.median(signal)
        return out
    axis = v1[voxels] / np.maximum(np.linalg.norm(v1[voxels], axis=1, keepdims=True), 1e-9)
    cosine = np.abs(axis @ dwi.gradients.directions[volumes].T)
    design = harmonics.legendre(lmax, torch.from_numpy(cosine.ravel())).numpy()
    return np.asarray(np.linalg.lstsq(design, signal.ravel(), rcond=None)[0])
