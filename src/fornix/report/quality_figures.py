"""Figures of a scan's quality: what each volume and slice is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fornix.core.gradients import Gradients
from fornix.report.canvas import ACCENT, INK, figure

#: Rows of the b-value strip above the carpet.
_STRIP = 0.25


def volumes(record: Mapping[str, Any]) -> Figure:
    """Motion, signal to noise and neighbouring correlation by volume, and slices against prediction."""
    table = record.get("VolumeQuality", {})
    scores = np.array(record.get("OutlierScores") or [[0.0]])
    made = figure(10, 6.2)
    grid = made.subplots(4, 1, sharex=True, height_ratios=[1, 1, 1, 2.2])
    at = np.arange(len(scores))
    _line(grid[0], at, table.get("motion_abs"), "motion (mm)", "from the first b0", ACCENT)
    _line(grid[0], at, table.get("motion_rel"), "motion (mm)", "from the volume before", "#c2603a")
    if grid[0].lines:
        grid[0].legend(frameon=False, fontsize=7, ncols=2, loc="upper left")
    _line(grid[1], at, table.get("snr"), "signal / noise", "", ACCENT)
    grid[1].set_ylim(0, None)
    _line(grid[2], at, table.get("neighbour_correlation"), "neighbour r", "", ACCENT)
    drawn = grid[3].imshow(
        scores.T,
        origin="lower",
        aspect="auto",
        cmap="RdBu",
        vmin=-8,
        vmax=8,
        interpolation="nearest",
    )
    grid[3].set_ylabel("slice", fontsize=8)
    grid[3].set_xlabel("volume", fontsize=8)
    for v, s in record.get("OutlierSlices", []):
        grid[3].plot(v, s, marker="s", markersize=3, markerfacecolor="none", markeredgecolor=INK)
    bar = made.colorbar(drawn, ax=grid[3], shrink=0.9, pad=0.01)
    bar.set_label("deviations from prediction", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    grid[3].xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in grid:
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    return made


def _line(ax: Any, at: NDArray[Any], values: Any, label: str, name: str, colour: str) -> None:
    ax.set_ylabel(label, fontsize=8)
    if values is None:
        ax.text(0.01, 0.5, "not known", transform=ax.transAxes, fontsize=8, color=INK)
        return
    numbers = np.array([np.nan if v is None else v for v in values], float)
    ax.plot(at, numbers, color=colour, lw=1, marker=".", ms=3, label=name)


def carpet(rows: NDArray[np.float32], gradients: Gradients, lost: NDArray[np.bool_]) -> Figure:
    """What each volume differs from its prediction by, voxel by voxel.

    Args:
        rows: (voxels, N) in deviations of each voxel.
        gradients: Of the N volumes.
        lost: (N, slices) slices that lost or gained signal.
    """
    made = figure(10, 4)
    top, middle, main = made.subplots(3, 1, sharex=True, height_ratios=[_STRIP, 0.5, 3])
    count = len(gradients)
    strip = top.imshow(
        gradients.bvals[None], aspect="auto", cmap="viridis", interpolation="nearest",
        extent=(-0.5, count - 0.5, 0, 1),
    )  # fmt: skip
    top.set_yticks([])
    top.set_ylabel("b", fontsize=8, rotation=0, labelpad=8)
    middle.bar(np.arange(count), 100 * lost.mean(1), width=0.9, color="#c2603a")
    middle.set_ylabel("% slices\noff", fontsize=7)
    middle.set_ylim(0, max(1.0, 105 * float(lost.mean(1).max(initial=0))))
    shown = main.imshow(
        rows, aspect="auto", cmap="gray", vmin=-3, vmax=3, interpolation="nearest",
        extent=(-0.5, count - 0.5, 0, 1),
    )  # fmt: skip
    main.set_yticks([0.05, 0.95], ["white\nmatter", "fluid"][::1])
    main.set_xlabel("volume", fontsize=8)
    made.colorbar(strip, ax=top, pad=0.01, aspect=4).ax.tick_params(labelsize=6)
    bar = made.colorbar(shown, ax=main, pad=0.01)
    bar.set_label("deviations", fontsize=7)
    main.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (top, middle, main, bar.ax):
        ax.tick_params(labelsize=7)
    return made
