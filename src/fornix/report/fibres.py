"""The figures of fibres: glyphs over FA, streamlines through a slice, where streamlines run."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.gradients import voxel_rotation
from fornix.core.grid import flat_voxels
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
    start, end = _segments(tractogram, most, seed)
    step = end - start
    length = np.linalg.norm(step, axis=1, keepdims=True)
    tint = (np.abs(step) / np.maximum(length, 1e-9)) ** 0.8
    inverse = np.linalg.inv(affine)
    start, end = (p @ inverse[:3, :3].T + inverse[:3, 3] for p in (start, end))
    middle, box = _middle(mask), crop(mask, 1)
    made = figure(12, 4.9, dark=True)
    for ax, view in zip(made.subplots(1, 3), _VIEWS):
        across, up, depth, _ = _VIEWS[view]
        plane = np.take(fa, middle[depth], axis=depth)
        show_slice(ax, plane, (size[across], size[up]), cmap="gray", vmin=0, vmax=1.5)
        near = np.abs((start + end)[:, depth] / 2 - middle[depth]) * size[depth] <= _SLAB
        shown = [across, up]
        add_strokes(ax, start[near][:, shown], end[near][:, shown], tint[near], 0.5, alpha=0.7)
        ax.set_xlim(box[across].start - 0.5, box[across].stop - 0.5)
        ax.set_ylim(box[up].start - 0.5, box[up].stop - 0.5)
    return made


def track_density(tractogram: Tractogram, dwi: DWI) -> NDArray[np.float32]:
    """(X, Y, Z, 3) mm of streamline in each voxel along right-left, front-back and up-down.

    Directionally encoded track density (Calamante et al., NeuroImage 2010).
    """
    x, y, z = dwi.grid
    out = np.zeros((x * y * z, 3))
    for _, points, offsets in tractogram.blocks(20_000):
        step, first = _steps(points, offsets)
        flat, inside = flat_voxels(points[first] + 0.5 * step, dwi.affine, (x, y, z))
        for axis in range(3):
            out[:, axis] += np.bincount(
                flat[inside], np.abs(step[inside, axis]), minlength=len(out)
            )
    return out.reshape(x, y, z, 3).astype(np.float32)


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


def _segments(
    tractogram: Tractogram, most: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Starts and ends (n, 3) of pieces of at most `most` streamlines, drawn."""
    chosen = tractogram
    if len(tractogram) > most:
        index = np.random.default_rng(seed).choice(len(tractogram), most, replace=False)
        chosen = tractogram.subset(np.sort(index))
    step, first = _steps(chosen.points, chosen.offsets)
    start = chosen.points[first].astype(np.float64)
    return start, start + step


def _steps(
    points: NDArray[np.float32], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Steps (n, 3) from each point to the next of the same streamline, and the first points' rows."""
    last = np.zeros(len(points), bool)
    last[offsets[1:][np.diff(offsets) > 0] - 1] = True
    first = np.flatnonzero(~last)
    return points[first + 1] - points[first], first
