"""Where streamlines may run, must end and must not go, from the diffusion scan alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.maps import Maps
from fornix.core.threshold import otsu


@dataclass(frozen=True)
class Tissue:
    """Shares of white matter, grey matter and fluid per voxel, each (X, Y, Z) in [0, 1], sum <= 1."""

    white: NDArray[np.float32]
    grey: NDArray[np.float32]
    fluid: NDArray[np.float32]


def tissue_shares(dwi: DWI, maps: Maps) -> Tissue:
    """Tissue shares from diffusivity and the fibre orientation distribution.

    maps: dti_fa, dti_md, and `wm` (share of the signal from fibres) where there is one. Fluid rises
    where the mean diffusivity passes 1.5e-3 mm²/s. What is not fluid is split by FA at the scan's own
    threshold (Otsu), smoothed over a voxel: FA is biased by noise, and its level differs by protocol.
    """
    brain = dwi.brain()
    md, fa = maps["dti_md"].data * 1e3, maps["dti_fa"].data
    fluid = _step(md, 1.5, 0.12)
    solid = brain & (md < 1.3) & (fa > 0)
    inside = ndimage.gaussian_filter(brain.astype(np.float32), 0.6)

    def smooth(values: NDArray) -> NDArray[np.float32]:
        blurred = ndimage.gaussian_filter((values * brain).astype(np.float32), 0.6)
        return np.where(brain, blurred / np.maximum(inside, 1e-3), 0).astype(np.float32)

    threshold = np.clip(otsu(fa[solid]), 0.15, 0.3) if solid.any() else 0.2
    water = smooth(fluid)
    # Cortex lies between white matter and the brain's edge: anisotropy there is misalignment of the
    # volumes or partial volume with fluid. The edge of the image is no edge of the brain.
    depth = ndimage.distance_transform_edt(np.pad(brain, 1, mode="edge"), sampling=dwi.voxel_size)
    deep = _step(depth[1:-1, 1:-1, 1:-1], 4.0, 0.5)
    white = smooth(_step(smooth(fa), float(threshold), 0.02) * deep) * (1 - water)
    grey = np.where(brain, (1 - white - water).clip(0, 1), 0)
    return Tissue(white.astype(np.float32), grey.astype(np.float32), water)


def _step(values: NDArray, centre: float, width: float) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip((values - centre) / width, -30, 30))))
