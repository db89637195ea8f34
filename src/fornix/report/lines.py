"""Streamlines as pictures without a renderer: nearer ones over others and brighter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from fornix.core.tractogram import Tractogram
from fornix.report.canvas import DARK, figure


@dataclass(frozen=True)
class View:
    """World axes shown across and up, the axis of depth, which way along it is nearer (1 or -1), and
    whether the picture is turned left to right."""

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
    segments, colours, order = [], [], []
    for index in chosen:
        line = tractogram[int(index)]
        line = line[:: max(1, len(line) // 40)]
        if len(line) < 2:
            continue
        step = np.diff(line, axis=0)
        tint = np.abs(step) / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
        pieces = np.stack([line[:-1], line[1:]], axis=1)
        segments.append(pieces[:, :, [view.across, view.up]])
        order.append(pieces[:, :, view.depth].mean(1) * view.toward)
        colours.append(tint)
    ax.set_facecolor(DARK)
    ax.set_aspect("equal")
    ax.set_axis_off()
    if not segments:
        return
    height = np.concatenate(order)
    rank = np.argsort(height)
    near = (height - height.min()) / max(float(np.ptp(height)), 1e-6)
    tint = np.concatenate(colours) * (0.35 + 0.65 * near[:, None])
    ax.add_collection(
        LineCollection(
            list(np.concatenate(segments)[rank]),
            colors=tint[rank],
            linewidths=width,
            rasterized=True,
        )
    )
    ax.autoscale_view()
    if view.turned:
        ax.invert_xaxis()


def streamlines(tractogram: Tractogram, most: int = 12_000, seed: int = 0) -> Figure:
    """Streamlines from above, from the left and from behind."""
    made = figure(12, 4.6, dark=True)
    chosen = np.random.default_rng(seed).permutation(len(tractogram))[:most]
    for ax, view in zip(made.subplots(1, 3), (ABOVE, LEFT, BEHIND)):
        draw_lines(ax, tractogram, chosen, view)
        ax.set_title(view.name, color="white", fontsize=9)
    return made
