"""Which voxels are typical of one fibre bundle, grey matter and free water."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.models.tissue_scale import diffusivity_scale
from fornix.numerics.threshold import otsu_exact

#: Shares of the refined tissue that are used, as in Dhollander et al.
_GREY_SHARE, _FLUID_SHARE = 0.02, 0.10
_LEAST = 10


@dataclass(frozen=True, eq=False)
class ResponseVoxels:
    """Voxel masks (X, Y, Z): `wm` is all refined white matter, the others the chosen voxels."""

    wm: NDArray[np.bool_]
    gm: NDArray[np.bool_]
    csf: NDArray[np.bool_]


def response_voxels(dwi: DWI, fa: NDArray, md: NDArray) -> ResponseVoxels:
    """The unsupervised selection of Dhollander et al. (ISMRM 2016), by how fast the signal decays.

    The decay is ln(mean b0 / mean shell), averaged over the shells by their volumes. White matter
    is FA above 0.2 without the voxels that decay like fluid; the rest is split by Otsu's threshold
    of the decay; each part keeps the voxels on the safe side of a second threshold, of which those
    nearest the median (grey) and the fastest (fluid) are taken.

    Args:
        dwi: The scan.
        fa: (X, Y, Z)
        md: mm²/s, guards against noise that looks like tissue.

    Raises:
        FornixError: Where no voxel looks like white matter.
    """
    decay = _decay(dwi)
    brain = dwi.brain() & np.isfinite(decay) & (dwi.mean_b0() > 0)
    core = ndimage.binary_erosion(brain, iterations=3)
    safe = core if core.sum() >= 500 else brain
    # Bright rims and vessels reach FA near 1: those are not fibres.
    slow = diffusivity_scale(md, brain)
    white = safe & (fa > 0.2) & (fa < 0.98) & (md > 0.2e-3 * slow) & (md < 1.5e-3 * slow)
    if not white.any():
        raise FornixError(
            "no voxel looks like white matter (FA above 0.2, diffusivity "
            f"{0.2 * slow:.2g} to {1.5 * slow:.2g}e-3 mm²/s): the "
            "response cannot be estimated; check the mask and the gradient table"
        )
    median = np.median(decay[white])
    spread = 1.4826 * np.median(np.abs(decay[white] - median))
    fast = white & (decay > median + 2 * spread)
    refined = white & ~fast
    rest = safe & (fa <= 0.2)
    if rest.sum() < 4 * _LEAST:  # a crop of white matter: its least anisotropic voxels stand in
        rest = _extreme(-fa, safe, max(4 * _LEAST, int(safe.sum()) // 20))
        refined &= ~rest if (refined & ~rest).any() else True
    border = np.median(decay[rest]) + otsu_exact(
        (decay[rest] - np.median(decay[rest]))[decay[rest] > np.median(decay[rest])]
    )
    fluid, grey = rest & (decay > border), rest & (decay <= border)
    if not grey.any():
        grey = rest
    if not fluid.any():
        fluid = _extreme(decay, rest, _LEAST)
    return ResponseVoxels(
        refined, _grey(decay, grey), _fluid(decay, fluid | (fast & (decay > border)))
    )


def _grey(decay: NDArray, crude: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of crude grey matter, without the tails that hold fluid and white matter: nearest the median."""
    median = np.median(decay[crude])
    away = decay - median
    upper, lower = away[crude & (away > 0)], -away[crude & (away <= 0)]
    kept = crude & (away < otsu_exact(upper)) & (-away < otsu_exact(lower))
    if kept.sum() < _LEAST:
        kept = crude
    count = max(_LEAST, round(_GREY_SHARE * int(kept.sum())))
    return _extreme(-np.abs(decay - np.median(decay[kept])), kept, count)


def _fluid(decay: NDArray, crude: NDArray[np.bool_]) -> NDArray[np.bool_]:
    least = decay[crude].min()
    kept = crude & (decay - least > otsu_exact(decay[crude] - least))
    if kept.sum() < _LEAST:
        kept = crude
    return _extreme(decay, kept, max(_LEAST, round(_FLUID_SHARE * int(kept.sum()))))


def _decay(dwi: DWI) -> NDArray[np.float64]:
    """ln(mean of the lowest level / mean of a shell) in the brain, weighted by volumes, NaN where
    undefined.
    """
    brain = dwi.brain()
    shells = [np.array(s.volumes) for s in dwi.gradients.shells]
    if not dwi.gradients.b0_mask.any():
        shells = shells[1:] or shells
    zero = dwi.mean_b0().astype(np.float64)
    total, weight = np.zeros(dwi.grid), 0
    with np.errstate(divide="ignore", invalid="ignore"):
        for volumes in shells:
            mean = np.full(dwi.grid, np.nan)
            for voxels, signals in dwi.inside(brain, volumes):
                ordered = np.asfortranarray(np.clip(signals, 0, None))
                mean.reshape(-1)[voxels] = ordered.mean(axis=1, dtype=np.float64)
            total += len(volumes) * np.log(zero / mean)
            weight += len(volumes)
    return np.minimum(np.where(np.isfinite(total), total / max(weight, 1), np.nan), 10)


def _extreme(score: NDArray, inside: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """The `count` inside voxels of highest score."""
    values = np.where(inside, score, -np.inf).ravel()
    count = min(count, int(inside.sum()))
    out = np.zeros(values.shape, dtype=bool)
    out[np.argpartition(-values, count - 1)[:count]] = True
    return out.reshape(inside.shape)
