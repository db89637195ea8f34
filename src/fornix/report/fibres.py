"""The figures of fibres: glyphs over FA, streamlines through a slice, where streamlines run."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numba import njit
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.gradients import voxel_rotation
from fornix.core.maps import Maps
from fornix.core.tractogram import Tractogram
from fornix.report.canvas import crop, figure, show_slice, to_ras
from fornix.report.glyphs import draw_glyphs
from fornix.report.strokes import add_strokes

#: Axes of the anatomical grid (right, front, up) that a view shows across and up, and the third, with
#: the sign of the direction toward the eye: right is right, from behind and from above.
_VIEWS = {"axial": (0, 1, 2, 1.0), "coronal": (0, 2, 1, -1.0), "sagittal": (1, 2, 0, 1.0)}
#: Edge of the window of glyphs, mm; slab of streamlines about a slice, mm.
_WINDOW, _SLAB = 58.0, 2.5
_MOST_LINES = 60_000


def fod_glyphs(dwi: DWI, maps: Maps) -> Figure:
    """Glyphs of the FOD over FA in an axial and a coronal window about the brain's middle."""
    fod, affine = to_ras(maps["fod"].data, dwi.affine)
    fa, mask = _ground(dwi, maps)
    size = np.linalg.norm(affine[:3, :3], axis=0)
    turn = voxel_rotation(affine)
    middle = _middle(mask)
    made = figure(12, 6.2, dark=True)
    for ax, view in zip(made.subplots(1, 2), ("axial", "coronal")):
        across, up, depth, toward = _VIEWS[view]
        window = [slice(None)] * 3
        for axis in (across, up):
            half = int(min(_WINDOW / size[axis], fa.shape[axis]) / 2)
            low = int(np.clip(middle[axis] - half, 0, max(fa.shape[axis] - 2 * half, 0)))
            window[axis] = slice(low, low + max(2 * half, 1))
        here = tuple(middle[a] if a == depth else window[a] for a in range(3))
        # Rows of the frame: right, up and toward the eye, in world axes.
        frame = np.stack([turn[:, across], turn[:, up], toward * turn[:, depth]])
        shown = mask[here] & (fa[here] > 0.1) & np.isfinite(fod[here]).all(-1)
        picture = draw_glyphs(fod[here], 0.45 * np.clip(fa[here], 0, 1), shown, frame)
        show_slice(ax, picture, (size[across], size[up]))
    return made


def streamline_slices(
    tractogram: Tractogram, dwi: DWI, maps: Maps, most: int = _MOST_LINES, seed: int = 0
) -> Figure:
    """The pieces of streamlines within a few mm of three slices, coloured by direction, over FA."""
    fa, mask = _ground(dwi, maps)
    affine = to_ras(dwi.brain(), dwi.affine)[1]
    size = np.linalg.norm(affine[:3, :3], axis=0)
    points, first = _some_of(tractogram, most, seed)
    inverse = np.linalg.inv(affine).astype(np.float32)
    voxel = points @ inverse[:3, :3].T + inverse[:3, 3]
    middle, box = _middle(mask), crop(mask, 1)
    made = figure(12, 4.9, dark=True)
    for ax, view in zip(made.subplots(1, 3), _VIEWS):
        across, up, depth, _ = _VIEWS[view]
        plane = np.take(fa, middle[depth], axis=depth)
        show_slice(ax, plane, (size[across], size[up]), cmap="gray", vmin=0, vmax=1.5)
        away = (voxel[first, depth] + voxel[first + 1, depth]) / 2 - middle[depth]
        near = first[np.abs(away) * size[depth] <= _SLAB]
        step = points[near + 1] - points[near]
        tint = (np.abs(step) / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)) ** 0.8
        shown = [across, up]
        add_strokes(ax, voxel[near][:, shown], voxel[near + 1][:, shown], tint, 0.5, alpha=0.7)
        ax.set_xlim(box[across].start - 0.5, box[across].stop - 0.5)
        ax.set_ylim(box[up].start - 0.5, box[up].stop - 0.5)
    return made


def track_density(tractogram: Tractogram, dwi: DWI) -> NDArray[np.float32]:
    """(X, Y, Z, 3) mm of streamline in each voxel along right-left, front-back and up-down.

    Directionally encoded track density (Calamante et al., NeuroImage 2010).
    """
    out = np.zeros((*dwi.grid, 3))
    inverse = np.linalg.inv(dwi.affine)
    for _, points, offsets in tractogram.blocks(20_000):
        _add_density(points, offsets, inverse, out)
    return out.astype(np.float32)


def density_colours(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Track density (X, Y, Z, 3) as RGB, 0 to 1: hue is direction, brightness the density's root."""
    total = np.linalg.norm(density, axis=-1)
    top = np.percentile(total[total > 0], 98) if (total > 0).any() else 1.0
    bright = np.sqrt(np.clip(total / top, 0, 1))
    made = density / np.maximum(density.max(-1, keepdims=True), 1e-9) * bright[..., None]
    return np.asarray(made, dtype=np.float32)


def _ground(dwi: DWI, maps: Maps) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """FA in anatomical order, blank outside the mask, and the mask."""
    brain = dwi.brain()
    image = maps["dti_fa"].data if "dti_fa" in maps else dwi.mean_b0() / max(dwi.mean_b0().max(), 1)
    return to_ras(np.where(brain, image, 0), dwi.affine)[0], to_ras(brain, dwi.affine)[0]


def _middle(mask: NDArray[np.bool_]) -> list[int]:
    """The middle of the brain's box, a little above it, where the callosum's body lies."""
    box = crop(mask, 0)
    middle = [(b.start + b.stop) // 2 for b in box]
    middle[2] = min(middle[2] + (box[2].stop - box[2].start) // 12, mask.shape[2] - 1)
    return middle


def _some_of(
    tractogram: Tractogram, most: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points (P, 3) of at most `most` streamlines, drawn, and the rows that another one follows."""
    chosen = tractogram
    if len(tractogram) > most:
        index = np.random.default_rng(seed).choice(len(tractogram), most, replace=False)
        chosen = tractogram.subset(np.sort(index))
    last = np.zeros(len(chosen.points), bool)
    last[chosen.offsets[1:][np.diff(chosen.offsets) > 0] - 1] = True
    return chosen.points, np.flatnonzero(~last)


@njit(cache=True, nogil=True)
def _add_density(
    points: np.ndarray, offsets: np.ndarray, to_voxel: np.ndarray, out: np.ndarray
) -> None:
    """Add the length of each step along the three axes to the voxel (X, Y, Z, 3) of its middle."""
    half = np.float32(0.5)
    voxel = np.empty(3, np.int64)
    for line in range(len(offsets) - 1):
        for p in range(offsets[line], offsets[line + 1] - 1):
            inside = True
            for i in range(3):
                place = to_voxel[i, 3]
                for k in range(3):
                    place += to_voxel[i, k] * (
                        points[p, k] + half * (points[p + 1, k] - points[p, k])
                    )
                voxel[i] = int(np.rint(place))
                inside = inside and 0 <= voxel[i] < out.shape[i]
            if inside:
                for k in range(3):
                    out[voxel[0], voxel[1], voxel[2], k] += abs(points[p + 1, k] - points[p, k])
