"""Tissue fractions, by which streamlines stop: from the diffusion tensor, or from a segmentation.

White matter is where streamlines may run, grey matter where they must end, fluid where they must not go
(anatomically constrained tracking, Smith et al., NeuroImage 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.grid import box_of, head_scale
from fornix.core.maps import Maps
from fornix.io import read_volume
from fornix.models.tissue_scale import diffusivity_scale
from fornix.numerics.threshold import otsu


@dataclass(frozen=True)
class TissueFractions:
    """Fractions of each voxel, in [0, 1] with a sum of at most 1.

    Attributes:
        wm: (X, Y, Z) white matter.
        gm: (X, Y, Z) grey matter.
        csf: (X, Y, Z) fluid.
        notes: What a user should know of how they were had, a line each.
    """

    wm: NDArray[np.float32]
    gm: NDArray[np.float32]
    csf: NDArray[np.float32]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TensorEvidence:
    """What the tensor says of tissue, smoothed over a voxel, 0 outside of the brain.

    Attributes:
        fa: (X, Y, Z) fractional anisotropy.
        threshold: FA above which solid tissue is white matter, the scan's own: FA is biased by noise, and
            its level differs by protocol.
        csf: (X, Y, Z) fluid, in [0, 1].
    """

    fa: NDArray[np.float32]
    threshold: float
    csf: NDArray[np.float32]

    def white(self, threshold: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """How likely solid tissue is white matter, (X, Y, Z) in [0, 1], by a threshold of FA."""
        return sigmoid(self.fa - threshold, 0.0, 0.02)


def tensor_evidence(dwi: DWI, maps: Maps) -> TensorEvidence:
    """Anisotropy and fluid of a scan.

    Fluid rises where the mean diffusivity passes 1.5e-3 mm²/s (less ex vivo).

    Args:
        dwi: The scan, of which only mask and grid are used.
        maps: With dti_fa, and dti_md in mm²/s.
    """
    brain = dwi.brain()
    md, fa = maps["dti_md"].data, maps["dti_fa"].data
    md = md * 1e3 / diffusivity_scale(md, brain)
    solid = brain & (md < 1.3) & (fa > 0)
    threshold = np.clip(otsu(fa[solid]), 0.15, 0.3) if solid.any() else 0.2
    csf = smoothed(sigmoid(md, 1.5, 0.12), brain)
    return TensorEvidence(smoothed(fa, brain), float(threshold), csf)


def tissue_fractions(dwi: DWI, maps: Maps) -> TissueFractions:
    """Tissue fractions from the diffusion tensor alone.

    What is not fluid is split by FA at the scan's own threshold (Otsu).

    Args:
        dwi: The scan, of which only mask and grid are used.
        maps: With dti_fa, and dti_md in mm²/s.
    """
    brain, seen = dwi.brain(), tensor_evidence(dwi, maps)
    return split(seen.white(seen.threshold) * deep_inside(dwi), seen.csf, brain)


def deep_inside(dwi: DWI) -> NDArray[np.float64]:
    """1 further than 4 mm from the brain's edge, 0 near it, (X, Y, Z); less in smaller heads.

    Cortex lies between white matter and the brain's edge: anisotropy there is misalignment of the volumes or
    partial volume with fluid. The edge of the image is no edge of the brain.
    """
    brain = dwi.brain()
    padded = np.pad(brain, 1, mode="edge")
    depth, box = np.zeros(padded.shape), box_of(padded, (1, 1, 1))
    if padded.all():  # a crop inside the head: no edge is near
        depth[:] = np.inf
    else:
        depth[box] = ndimage.distance_transform_edt(padded[box], sampling=dwi.voxel_size)
    mm = head_scale(brain, dwi.voxel_size)
    return sigmoid(depth[1:-1, 1:-1, 1:-1], 4.0 * mm, 0.5 * mm)


def split(
    white: NDArray[np.floating], csf: NDArray[np.floating], brain: NDArray[np.bool_]
) -> TissueFractions:
    """Fractions of a brain whose fluid is known, and how likely the rest is white matter.

    Args:
        white: (X, Y, Z) in [0, 1]; it is smoothed over a voxel.
        csf: (X, Y, Z) in [0, 1].
        brain: (X, Y, Z).
    """
    wm = smoothed(white, brain) * (1 - csf)
    gm = np.where(brain, (1 - wm - csf).clip(0, 1), 0)
    wm, gm, csf = (np.asarray(v, np.float32) for v in (wm, gm, np.where(brain, csf, 0)))
    return TissueFractions(wm, gm, csf)


def smoothed(values: NDArray[np.floating], brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Means over about a voxel, of voxels of the brain alone; 0 outside of it."""
    inside = ndimage.gaussian_filter(brain.astype(np.float32), 0.6)
    blurred = ndimage.gaussian_filter((values * brain).astype(np.float32), 0.6)
    return np.where(brain, blurred / np.maximum(inside, 1e-3), 0).astype(np.float32)


def tissue_from_segmentation(path: str | Path, dwi: DWI) -> TissueFractions:
    """Tissue fractions from a segmentation of a T1 scan that is aligned with the diffusion scan.

    Any grid will do: the segmentation is averaged over the diffusion scan's voxels in world space.

    Args:
        path: A NIfTI file in one of three forms, told apart by its shape: 5 volumes as MRtrix3's 5ttgen
            writes (cortical grey, deep grey, white matter, fluid, lesion; lesions count as white
            matter, so that fibres run through), 3 volumes (white, grey, fluid), or one volume of labels
            0 to 3 as FSL FAST writes (0 outside, 1 fluid, 2 grey, 3 white).
        dwi: The diffusion scan, of which only mask and grid are used.

    Raises:
        FornixError: The file has another form or values outside [0, 1], or it covers less than half of
            the brain (not aligned). A warning is given where it covers less than nine tenths.
    """
    values, affine = read_volume(path, "tissue segmentation")
    resampled = [_resampled(v, affine, dwi) for v in _fractions(values, path)]
    brain = dwi.brain()
    covered = float((np.sum(resampled, axis=0)[brain] > 0.5).mean())
    if covered < 0.5:
        raise FornixError(
            f"{path} covers only {100 * covered:.0f}% of the brain: it is not aligned with the diffusion "
            "scan; register the T1 scan first"
        )
    if covered < 0.9:
        tell(
            f"{Path(path).name} covers {100 * covered:.0f}% of the brain; is it aligned with the scan?"
        )
    wm, gm, csf = (np.where(brain, v, 0).astype(np.float32) for v in resampled)
    return TissueFractions(wm, gm, csf)


def _fractions(values: NDArray[np.float32], path: str | Path) -> list[NDArray[np.float32]]:
    """wm, gm and csf on the segmentation's own grid."""
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim == 3:
        labels = np.unique(values)
        if not set(labels.tolist()) <= {0.0, 1.0, 2.0, 3.0} or len(labels) < 3:
            raise FornixError(
                f"{path} has one volume that is not labelled 0 outside, 1 fluid, 2 grey, 3 white; give "
                "such labels, or 3 (white, grey, fluid) or 5 (5ttgen) volumes of fractions"
            )
        return [(values == label).astype(np.float32) for label in (3, 2, 1)]
    if values.ndim != 4 or values.shape[3] not in (3, 5):
        raise FornixError(
            f"{path} has shape {values.shape}; a tissue segmentation has 1 volume of labels, 3 (white, "
            "grey, fluid) or 5 (5ttgen) volumes"
        )
    if not np.isfinite(values).all() or values.min() < -0.01 or values.max() > 1.01:
        raise FornixError(f"{path}: tissue fractions must lie in [0, 1]")
    if values.shape[3] == 3:
        return [values[..., i] for i in range(3)]
    return [values[..., 2] + values[..., 4], values[..., 0] + values[..., 1], values[..., 3]]


def _resampled(
    values: NDArray[np.float32], affine: NDArray[np.float64], dwi: DWI
) -> NDArray[np.float32]:
    """The mean over each of the scan's voxels, from a grid that may be finer."""
    if values.shape == dwi.grid and np.allclose(affine, dwi.affine, atol=1e-3):
        return np.clip(values, 0, 1)
    to_source = np.linalg.inv(affine) @ dwi.affine
    # A Gaussian of the voxel's size stands for its box where the segmentation is finer.
    width = np.linalg.norm(to_source[:3, :3], axis=1)
    smooth = ndimage.gaussian_filter(values, 0.42 * np.sqrt(np.maximum(width**2 - 1, 0)))
    resampled = ndimage.affine_transform(
        smooth, to_source[:3, :3], to_source[:3, 3], output_shape=dwi.grid, order=1
    )
    return np.clip(resampled, 0, 1)


def sigmoid(values: NDArray, centre: float, width: float) -> NDArray[np.float64]:
    """0 to 1, a half at `centre`."""
    return np.asarray(1 / (1 + np.exp(-np.clip((values - centre) / width, -30, 30))))
