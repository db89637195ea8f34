"""Streamlines as pictures without a renderer: nearer ones over others and brighter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fornix.core.tractogram import Tractogram
from fornix.report.canvas import DARK, figure
from fornix.report.strokes import add_strokes


@dataclass(frozen=True)
class View:
    """World axes shown across and up, the axis of depth, which way along it is nearer (1 or -1), and
    whether the picture is turned left to right.
    """

    name: str
    across: int
    up: int
    depth: int
    toward: int
    turned: bool = False


ABOVE = View("from above", 0, 1, 2, 1)
LEFT = View("from the left", 1, 2, 0, -1, turned=True)
BEHIND = View("from behind", 0, 2, 1, -1)


def draw_lines(
    ax: Any,
    tractogram: Tractogram,
    chosen: Sequence[int] | np.ndarray,
    view: View,
    width: float = 0.35,
) -> None:
    """Draw some streamlines, coloured by direction, on black axes of equal scale."""
    start, end = _thinned(tractogram.subset(np.asarray(chosen, dtype=np.int64)))
    ax.set_facecolor(DARK)
    ax.set_aspect("equal")
    ax.set_axis_off()
    if not len(start):
        return
    step = end - start
    tint = np.abs(step) / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
    height = (start + end)[:, view.depth] / 2 * view.toward
    rank = np.argsort(height)
    near = (height - height.min()) / max(float(np.ptp(height)), 1e-6)
    tint *= (0.35 + 0.65 * near[:, None]).astype(np.float32)
    shown = [view.across, view.up]
    add_strokes(ax, start[rank][:, shown], end[rank][:, shown], tint[rank], width)
    ax.autoscale_view()
    if view.turned:
        ax.invert_xaxis()


def _thinned(tractogram: Tractogram) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Starts and ends (n, 3) of the pieces between about forty points of each streamline."""
    size = np.diff(tractogram.offsets)
    every = np.maximum(1, size // 40)
    count = -(-size // every)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    points = tractogram.points[
        np.repeat(tractogram.offsets[:-1], count) + within * np.repeat(every, count)
    ]
    goes_on = np.flatnonzero(within[1:] > 0)
    return points[goes_on], points[goes_on + 1]


def streamlines(tractogram: Tractogram, most: int = 12_000, seed: int = 0) -> Figure:
    """Streamlines from above, from the left and from behind."""
    made = figure(12, 4.6, dark=True)
    chosen = np.random.default_rng(seed).permutation(len(tractogram))[:most]
    for ax, view in zip(made.subplots(1, 3), (ABOVE, LEFT, BEHIND)):
        draw_lines(ax, tractogram, chosen, view)
        ax.set_title(view.name, color="white", fontsize=9)
    return made
