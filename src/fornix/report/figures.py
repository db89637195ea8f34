"""The figures of the report, one function each; every one returns a matplotlib figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients, voxel_rotation
from fornix.core.maps import Maps
from fornix.report.canvas import (
    ACCENT,
    INK,
    crop,
    figure,
    show_slice,
    side_by_side,
    slice_numbers,
    to_ras,
)

#: What healthy adult white and grey matter show at 3 T, for the histograms: not a diagnosis.
REFERENCE = {
    "dti_fa": (0.10, 0.60, "FA, whole brain"),
    "dti_md": (0.65e-3, 1.10e-3, "MD, mm²/s"),
    "dki_mk": (0.60, 1.30, "MK"),
    "noddi_ndi": (0.35, 0.70, "NDI"),
    "noddi_odi": (0.10, 0.60, "ODI"),
    "noddi_fwf": (0.00, 0.20, "FWF"),
}

#: How each map is shown: title, lowest and highest value, colour map.
LOOKS = {
    "dti_fa": ("FA", 0.0, 0.9, "gray"),
    "dti_md": ("MD (10⁻³ mm²/s)", 0.0, 2.5e-3, "magma"),
    "dti_ad": ("AD (10⁻³ mm²/s)", 0.0, 2.5e-3, "magma"),
    "dti_rd": ("RD (10⁻³ mm²/s)", 0.0, 2.0e-3, "magma"),
    "dki_mk": ("MK", 0.0, 1.8, "viridis"),
    "dki_ak": ("AK", 0.0, 1.5, "viridis"),
    "dki_rk": ("RK", 0.0, 2.5, "viridis"),
    "dki_kfa": ("KFA", 0.0, 1.0, "gray"),
    "noddi_ndi": ("NDI", 0.0, 1.0, "inferno"),
    "noddi_odi": ("ODI", 0.0, 1.0, "cividis"),
    "noddi_fwf": ("FWF", 0.0, 1.0, "bone"),
    "ood": ("Out-of-distribution score (−log10 p)", 0.0, 5.0, "magma"),
}


def protocol(gradients: Gradients) -> Figure:
    """Directions on the sphere by shell, and b by volume."""
    made = figure(9, 3.6)
    left, right = made.subplots(1, 2, width_ratios=[1, 1.7], subplot_kw=None)
    left.remove()
    ball = made.add_subplot(1, 2, 1, projection="3d")
    phi, theta = np.mgrid[0 : 2 * np.pi : 25j, 0 : np.pi : 13j]
    ball.plot_wireframe(
        np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta),
        color="#d5dde5", linewidth=0.4,
    )  # fmt: skip
    shells = gradients.shells
    colours = [
        hsv_to_rgb((0.58 - 0.55 * i / max(len(shells), 1), 0.75, 0.75)) for i in range(len(shells))
    ]
    for shell, colour in zip(shells, colours):
        u = gradients.directions[list(shell.volumes)]
        both = np.concatenate([u, -u])
        ball.scatter(*both.T, s=9, color=[colour], depthshade=True)
        right.scatter(
            list(shell.volumes), gradients.bvals[list(shell.volumes)], s=14, color=[colour],
            label=f"b={shell.b:.0f}: {len(shell)}" if len(shells) <= 6 else None,
        )  # fmt: skip
    b0 = np.flatnonzero(gradients.b0_mask)
    right.scatter(b0, gradients.bvals[b0], s=14, color="black", label=f"b0: {len(b0)}")
    ball.set_box_aspect((1, 1, 1), zoom=1.35)
    ball.set_axis_off()
    right.set(xlabel="volume", ylabel="b (s/mm²)", ylim=(-0.05 * gradients.bvals.max() - 20, None))
    right.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    _bare(right)
    return made


def mask_outline(dwi: DWI, count: int = 10) -> Figure:
    """The mask's outline on the mean b0."""
    image, affine = to_ras(dwi.mean_b0(), dwi.affine)
    mask, _ = to_ras(dwi.brain(), dwi.affine)
    size = np.linalg.norm(affine[:3, :3], axis=0)
    top = np.percentile(image[mask], 99) if mask.any() else image.max()
    made = figure(11, 4.6, dark=True)
    ax = made.subplots()
    shown = slice_numbers(mask, count)
    plane, brain = side_by_side(image, shown, rows=2), side_by_side(mask * 1.0, shown, rows=2)
    show_slice(ax, plane, (size[0], size[1]), cmap="gray", vmin=0, vmax=max(top, 1e-9))
    if (brain == 1).any() and (brain == 0).any() and min(brain.shape) > 1:
        ax.contour(brain.T, levels=[0.5], colors="#ff5a4e", linewidths=0.9)
    return made


def mosaic(
    data: NDArray, dwi: DWI, low: float, high: float, colours: str = "gray", count: int = 8
) -> Figure:
    """Axial slices of one map inside the mask, with its colour bar (none for RGB maps)."""
    made = figure(12, 1.9 if count <= 8 else 3.6, dark=True)
    ax = made.subplots()
    image, mask, size = _prepared(data, dwi)
    plane = side_by_side(image, slice_numbers(mask, count))
    drawn = show_slice(ax, plane, (size[0], size[1]), cmap=colours, vmin=low, vmax=high)
    if image.ndim == 3:
        _colourbar(made, drawn, [ax], low, high)
    return made


def compared(
    estimate: NDArray,
    truth: NDArray,
    dwi: DWI,
    low: float,
    high: float,
    colours: str,
    count: int = 7,
) -> Figure:
    """Estimate, truth and their difference, one row each."""
    made = figure(12, 5.4, dark=True)
    plots = made.subplots(3, 1)
    spread = 0.4 * (high - low)
    rows = [(estimate, "estimate"), (truth, "truth"), (estimate - truth, "difference")]
    for ax, (data, label) in zip(plots, rows):
        image, mask, size = _prepared(data, dwi)
        signed = label == "difference"
        drawn = show_slice(
            ax,
            side_by_side(image, slice_numbers(mask, count)),
            (size[0], size[1]),
            cmap="RdBu_r" if signed else colours,
            vmin=-spread if signed else low,
            vmax=spread if signed else high,
        )
        ax.text(
            -0.01, 0.5, label, color="white", rotation=90, va="center", ha="right", fontsize=9,
            transform=ax.transAxes,
        )  # fmt: skip
        _colourbar(made, drawn, [ax], -spread if signed else low, spread if signed else high)
    return made


def colour_fa(maps: Maps) -> NDArray[np.float32]:
    """|world direction| times FA as RGB: red right-left, green front-back, blue up-down."""
    fa = np.clip(maps["dti_fa"].data, 0, 1)
    rgb: NDArray[np.float32] = np.abs(maps["dti_v1"].data) * fa[..., None]
    return np.clip(rgb * 1.3, 0, 1)


#: Background, then the tissues in the order of their labels.
_TISSUES = np.array(
    [[0, 0, 0], [0.9, 0.3, 0.3], [1, 0.85, 0.2], [0.95, 0.95, 0.95], [0.2, 0.4, 1], [0.3, 0.8, 0.4],
     [0.8, 0.4, 0.9]], np.float32,
)  # fmt: skip


def tissue_colours(labels: NDArray[Any]) -> NDArray[np.float32]:
    """(X, Y, Z, 3) of labels 0 to 6 as `fornix mask` writes them."""
    return _TISSUES[np.clip(labels, 0, len(_TISSUES) - 1).astype(int)]


def sticks(dwi: DWI, maps: Maps) -> Figure:
    """Peaks as sticks over FA: an axial and a coronal slice through the middle of the brain."""
    background = maps["dti_fa"].data if "dti_fa" in maps else dwi.mean_b0()
    fa, affine = to_ras(background, dwi.affine)
    mask, _ = to_ras(dwi.brain(), dwi.affine)
    peaks, _ = to_ras(maps["peaks"].data, dwi.affine)
    peaks = peaks.reshape(*peaks.shape[:3], -1, 3)
    size = np.linalg.norm(affine[:3, :3], axis=0)
    # World vectors to the turned image's own axes, so that sticks lie right on oblique scans too.
    turn = voxel_rotation(affine)
    typical = np.percentile(np.linalg.norm(peaks[mask][:, 0] @ turn, axis=-1), 90) or 1.0
    box = crop(mask, 1)
    made = figure(12, 6.2, dark=True)
    plots = made.subplots(1, 2)
    middle = [(b.start + b.stop) // 2 for b in box]
    for ax, (axis, at) in zip(
        plots, [(2, middle[2] + (box[2].stop - box[2].start) // 12), (1, middle[1])]
    ):
        keep = [a for a in range(3) if a != axis]
        plane = np.take(fa, at, axis=axis)
        show_slice(ax, plane, (size[keep[0]], size[keep[1]]), cmap="gray", vmin=0, vmax=1.4)
        here = np.take(peaks, at, axis=axis) @ turn
        inside = np.take(mask, at, axis=axis) & (plane > 0.12)
        lines, colours = [], []
        for i, j in np.argwhere(inside):
            for vector in here[i, j]:
                length = np.linalg.norm(vector)
                if length < 0.1 * typical:
                    continue
                unit = vector / length
                half = 0.48 * min(length / typical, 1.0)
                # In voxel units of the picture, shortened on the longer edge.
                scale = min(size[keep[0]], size[keep[1]])
                dx = half * unit[keep[0]] * scale / size[keep[0]]
                dy = half * unit[keep[1]] * scale / size[keep[1]]
                lines.append([(i - dx, j - dy), (i + dx, j + dy)])
                colours.append(np.abs(turn @ unit) ** 0.8)
        ax.add_collection(LineCollection(lines, colors=colours, linewidths=1.3))
        # A window of 100 mm about the middle: larger, and single voxels could not be seen.
        for edge, set_limits in zip(keep, (ax.set_xlim, ax.set_ylim)):
            half_width = min(50 / size[edge], (box[edge].stop - box[edge].start) / 2)
            set_limits(middle[edge] - half_width - 0.5, middle[edge] + half_width + 0.5)
    return made


def histograms(dwi: DWI, maps: Maps) -> Figure | None:
    """Distributions in the mask, with the range of healthy adults shaded."""
    names = [n for n in REFERENCE if n in maps]
    if not names:
        return None
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    made = figure(10, 2.3 * rows)
    axes = np.atleast_1d(made.subplots(rows, columns)).ravel()
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    for ax, name in zip(axes, names):
        low, high, label = REFERENCE[name]
        values = maps[name].data[dwi.brain()]
        top = LOOKS[name][2]
        ax.hist(np.clip(values, 0, top), bins=80, range=(0, top), color=ACCENT, density=True)
        ax.axvspan(low, high, color="#7fb77e", alpha=0.25, lw=0)
        ax.axvline(float(np.median(values)), color=INK, lw=1)
        ax.set_title(f"{label}: median {np.median(values):.3g}", fontsize=9)
        ax.set_yticks([])
        _bare(ax)
    return made


def _prepared(data: NDArray, dwi: DWI) -> tuple[NDArray, NDArray, NDArray]:
    """The map in anatomical order, blank outside the mask and cut to it."""
    brain = dwi.brain()
    image, affine = to_ras(
        np.where(brain if data.ndim == 3 else brain[..., None], data, 0), dwi.affine
    )
    mask, _ = to_ras(brain, dwi.affine)
    box = crop(mask)
    return image[box], mask[box], np.linalg.norm(affine[:3, :3], axis=0)


def _colourbar(made: Figure, drawn: Any, axes: list[Any], low: float, high: float) -> None:
    bar = made.colorbar(
        drawn, ax=axes, shrink=0.85, pad=0.01, fraction=0.02, ticks=[low, (low + high) / 2, high]
    )
    small = abs(high) < 0.02
    bar.ax.set_yticklabels(
        [f"{v * (1e3 if small else 1):.3g}" for v in (low, (low + high) / 2, high)],
        color="white",
        fontsize=8,
    )
    bar.outline.set_visible(False)


def _bare(ax: Any) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=8)
