"""Brain masks by thresholds on the diffusion scan, and the morphology that they need, in mm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.grid import box_of, head_scale
from fornix.numerics.threshold import otsu
from fornix.preprocess._reach import within

#: Share of an image that is dark where it shows more than the inside of a head.
LEAST_BACKGROUND = 0.05


def background(b0: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a b0 is dark, (X, Y, Z)."""
    return np.asarray(b0 < 0.15 * np.percentile(b0, 90))


def shells(dwi: DWI) -> NDArray[np.bool_]:
    """Otsu's threshold on the diffusion-weighted mean, largest part, closed over the fluid inside.

    Scalp, fat and eyes fade with diffusion weighting while brain tissue stays: the weighted mean
    separates them better than the b0. Cerebrospinal fluid fades too but is enclosed, or bright at
    b0 beside tissue: closing, filling and one conditional dilation bring it back.
    """
    b0, weighted = np.clip(dwi.mean_b0(), 0, None), np.clip(dwi.mean_dwi(), 0, None)
    # Above b = 1000 deep tissue sinks into the noise: take the contrast of b = 1000 (log-linear).
    b = dwi.gradients.bvals[~dwi.gradients.b0_mask]
    share = min(1.0, 1000.0 / float(b.mean())) if len(b) else 0.0
    bright = b0 ** (1 - share) * weighted**share
    scale = np.percentile(bright, 99)
    if scale <= 0:
        return b0 > 0
    bright = np.clip(bright / scale, 0, 1)
    # A crop inside the head has no background to tell from: keep all that has signal.
    if background(b0).mean() < LEAST_BACKGROUND:
        return bright > 0.05
    # Lengths suit a human head; a mouse's is seen as one through a lens.
    mm = _lens(bright, dwi)
    smooth = ndimage.gaussian_filter(bright, 1.5 * mm / dwi.voxel_size)
    threshold = _cut(smooth)
    core = largest(opened(smooth > threshold, dwi, 5.0 * mm))
    if not core.any():
        return core
    brain = closed(core, dwi, 8.0 * mm)
    fluid = b0 > 0.5 * np.median(b0[brain])
    brain = brain | (grown(brain, dwi, 3.0 * mm) & (fluid | (smooth > 0.7 * threshold)))
    # Smoothing carries the edge outwards: near it, a voxel must be bright itself.
    dark = (b0 < 0.3 * np.median(b0[brain])) & (bright < 0.3 * np.median(bright[brain]))
    return largest(brain & ~(dark & ~shrunk(brain, dwi, 5.0 * mm)))


def _lens(bright: NDArray[np.float32], dwi: DWI) -> float:
    """`head_scale` of what is bright, on every second voxel of large grids."""
    every = np.array([2 if n >= 48 else 1 for n in dwi.grid])
    coarse = bright[:: every[0], :: every[1], :: every[2]]
    return head_scale(largest(coarse > _cut(coarse)), dwi.voxel_size * every)


def _cut(values: NDArray[np.float32]) -> float:
    """Below Otsu's threshold, where brains are dim at their edge, but never in the noise around them.

    Where the background is flat, its criterion is: any threshold between the two classes is as good, and
    the lowest lies in the noise.
    """
    found = otsu(values)
    below, above = values[values <= found], values[values > found]
    if not len(below) or not len(above):
        return 0.75 * found
    ground, tissue = float(np.median(below)), float(np.median(above))
    return max(0.75 * found, ground + 0.15 * (tissue - ground))


def grown(mask: NDArray[np.bool_], dwi: DWI, radius_mm: float) -> NDArray[np.bool_]:
    """The mask and what lies within a radius of it."""
    x, y, z = (int(n) + 1 for n in np.ceil(radius_mm / dwi.voxel_size))
    out = np.zeros(mask.shape, dtype=bool)
    if not mask.any():
        return out
    box = box_of(mask, (x, y, z))  # further away nothing is reached
    out[box] = within(mask[box], radius_mm, dwi.voxel_size)
    return out


def shrunk(mask: NDArray[np.bool_], dwi: DWI, radius_mm: float) -> NDArray[np.bool_]:
    """What lies deeper in the mask than a radius; the image's edge is no edge of it."""
    box = box_of(mask, (1, 1, 1))  # the nearest voxel outside the mask lies no further
    out = np.zeros(mask.shape, dtype=bool)
    out[box] = mask[box] & ~within(~mask[box], radius_mm, dwi.voxel_size)
    return out


def opened(mask: NDArray[np.bool_], dwi: DWI, radius_mm: float) -> NDArray[np.bool_]:
    """The largest part that is wider than two radii, with what of the mask is near it."""
    return grown(largest(shrunk(mask, dwi, radius_mm)), dwi, radius_mm) & mask


def closed(mask: NDArray[np.bool_], dwi: DWI, radius_mm: float) -> NDArray[np.bool_]:
    """The mask with holes, and with gaps narrower than two radii, filled."""
    box = box_of(mask, (0, 0, 0))  # closing fills what lies between parts, never beyond them
    pad = int(np.ceil(radius_mm / dwi.voxel_size.min())) + 1
    padded = np.pad(mask[box], pad)
    kept = shrunk(grown(padded, dwi, radius_mm), dwi, radius_mm)
    kept = ndimage.binary_fill_holes(kept | padded)
    for axis in range(3):  # holes that open to the outside in 3-D but not in a plane
        for plane in np.moveaxis(kept, axis, 0):
            plane[:] = ndimage.binary_fill_holes(plane)
    out = np.zeros(mask.shape, dtype=bool)
    out[box] = kept[pad:-pad, pad:-pad, pad:-pad]
    return out


def median_otsu(dwi: DWI) -> NDArray[np.bool_]:
    """DIPY's median filter and Otsu threshold on the mean b0."""
    from dipy.segment.mask import median_otsu as dipy_median_otsu

    radius = 4 if min(dwi.grid) > 9 else 1
    return np.asarray(
        dipy_median_otsu(dwi.mean_b0(), median_radius=radius, numpass=4)[1], dtype=bool
    )


def everything(dwi: DWI) -> NDArray[np.bool_]:
    """Every voxel with signal in all volumes."""
    found = np.empty(dwi.grid, dtype=bool)
    for here, signals in dwi.slabs():
        found[here] = np.all(signals > 0, axis=3)
    return found


def largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Its largest connected part."""
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()
