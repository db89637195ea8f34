"""Figures of statistics along tracts."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fornix.analysis.compare import Comparison
from fornix.analysis.normative import Deviation
from fornix.report.canvas import ACCENT, INK, figure

_MARK = "#c2603a"


def effect_along(found: Comparison, tract: str) -> Figure:
    """Groups' means above, the effect with its interval below; significant nodes marked."""
    span = found.measurements.spans()[tract]
    nodes, values = found.measurements.nodes[span], found.measurements.values[:, span]
    made = figure(8, 4.4)
    top, low = made.subplots(2, 1, sharex=True)
    group = found.design.group
    if group is not None:
        name = found.design.names[found.design.tested]
        for chosen, colour, word in ((~group, ACCENT, "the others"), (group, _MARK, name)):
            mean, spread = _mean_and_spread(values[chosen])
            top.plot(nodes, mean, color=colour, lw=1.5, label=f"{word} ({chosen.sum()})")
            top.fill_between(nodes, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
        top.legend(frameon=False, fontsize=7)
    else:
        mean, spread = _mean_and_spread(values)
        top.plot(nodes, mean, color=ACCENT, lw=1.5)
        top.fill_between(nodes, mean - spread, mean + spread, color=ACCENT, alpha=0.15, lw=0)
    top.set_ylabel(found.measurements.map, fontsize=8)
    low.axhline(0, color=INK, lw=0.6)
    low.plot(nodes, found.effect[span], color=INK, lw=1.2)
    low.fill_between(nodes, found.low[span], found.high[span], color=INK, alpha=0.15, lw=0)
    marked = found.significant[span]
    low.plot(nodes[marked], found.effect[span][marked], "o", color=_MARK, ms=3)
    low.set_ylabel("effect, 95% interval", fontsize=8)
    low.set_xlabel("node", fontsize=8)
    _plain(made)
    return made


def person_along(found: Deviation, tract: str) -> Figure:
    """One person's profile over the interval expected for such a person."""
    span = found.measurements.spans()[tract]
    nodes = found.measurements.nodes[span]
    made = figure(8, 2.8)
    ax = made.subplots()
    ax.fill_between(nodes, found.low[span], found.high[span], color=ACCENT, alpha=0.2, lw=0)
    ax.plot(nodes, found.expected[span], color=ACCENT, lw=1)
    value = found.measurements.values[0, span]
    ax.plot(nodes, value, color=INK, lw=1.5)
    marked = found.p_fwe[span] <= 0.05
    ax.plot(nodes[marked], value[marked], "o", color=_MARK, ms=4)
    ax.set_ylabel(found.measurements.map, fontsize=8)
    ax.set_xlabel("node", fontsize=8)
    _plain(made)
    return made


def _mean_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(values)
    n = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / n
    spread = np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(0) / np.maximum(n - 1, 1))
    return np.where(known.any(0), mean, np.nan), spread


def _plain(made: Figure) -> None:
    for ax in made.axes:
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
