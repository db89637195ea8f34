"""The page of one person over sessions: what changed in which tract, and how sure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fornix.report.blocks import figure_block
from fornix.report.canvas import ACCENT, INK, figure
from fornix.report.comparison_page import table_html, write_simple_page
from fornix.tracts.change import SIDE, VOLUME, Change

#: Maps that are drawn, and their titles.
_DRAWN = {"dti_fa": "FA", "dti_md": "MD", "noddi_ndi": "NDI", "dki_mk": "MK", VOLUME: "volume"}
#: Rows of the table: the clearest changes.
_ROWS = 30
_BEYOND = "#b3402e"


def write_change_page(
    path: Path, changes: Sequence[Change], sessions: Sequence[str], notes: Sequence[str] = ()
) -> Path:
    """Write the page.

    Args:
        path: The file.
        changes: Over whole tracts, one node each.
        sessions: Names of the sessions, the first first.
        notes: What is to be looked at, a line each.
    """
    known = [c for c in changes if np.isfinite(c.change[0]) and np.isfinite(c.std[0])]
    beyond = [c for c in known if _is_beyond(c)]
    warned = "".join(f'<div class="warn">{escape(note)}</div>' for note in notes)
    box = (
        f'<div class="{"warn" if len(beyond) > 0.15 * len(known) else "fine"}"><b>{len(beyond)} of '
        f"{len(known)} changes lie beyond their 90% intervals</b>; by chance alone about "
        f"{len(known) / 10:.0f} would.</div>"
    )
    text = (
        f"Against {escape(sessions[0])}. Every change is of one tract that all sessions share. The intervals "
        "hold the noise of both maps, and what these scans differ by as a whole. A change of all tracts at "
        "once is not told from a difference between the scans."
    )
    body = ""
    for later, name in enumerate(sessions[1:], start=1):
        mine = [c for c in known if c.later == later]
        drawn = [m for m in _DRAWN if any(c.map == m for c in mine)]
        if not drawn:
            continue
        caption = "Change in percent with its 90% interval; red where that leaves out 0."
        body += f"<h2>{escape(name)}</h2>{figure_block(_forest(mine, drawn), caption)}"
        body += table_html(_table(mine))
    return write_simple_page(path, "Changes between sessions", warned + box, text, body)


def _is_beyond(c: Change) -> bool:
    return bool(c.low[0] > 0 or c.high[0] < 0)


def _forest(changes: Sequence[Change], maps: Sequence[str]) -> Figure:
    tracts = list(dict.fromkeys(c.tract for c in changes))
    place = {name: -i for i, name in enumerate(tracts)}
    made = figure(3 + 2.6 * len(maps), 1.2 + 0.15 * len(tracts))
    for k, name in enumerate(maps):
        ax = made.add_subplot(1, len(maps), k + 1)
        for beyond, colour in ((False, ACCENT), (True, _BEYOND)):
            some = [c for c in changes if c.map == name and _is_beyond(c) == beyond]
            if some:
                x, y, width = np.array([(c.percent[0], place[c.tract], _half(c)) for c in some]).T
                ax.errorbar(x, y, xerr=width, fmt="o", ms=3, lw=1, color=colour)
        ax.axvline(0, color=INK, lw=0.6)
        ax.set_title(_DRAWN[name], fontsize=10, color=INK)
        ax.set_yticks(list(place.values()), tracts if k == 0 else [""] * len(tracts), fontsize=7)
        ax.set_ylim(-len(tracts), 1)
        ax.tick_params(labelsize=7)
        ax.grid(axis="y", lw=0.3)
        for edge in ("top", "right"):
            ax.spines[edge].set_visible(False)
    return made


def _half(c: Change) -> float:
    """Half of the 90% interval in percent."""
    return float(100 * SIDE * c.std[0] / max(abs(c.first[0] + c.second[0]) / 2, 1e-12))


def _table(changes: Sequence[Change]) -> pd.DataFrame:
    clearest = sorted(changes, key=lambda c: -abs(float(c.change[0] / max(c.std[0], 1e-12))))
    return pd.DataFrame(
        [
            {
                "tract": c.tract, "map": c.map, "first": float(c.first[0]), "second": float(c.second[0]),
                "change": float(c.change[0]), "low": float(c.low[0]), "high": float(c.high[0]),
                "percent": float(c.percent[0]),
            }
            for c in clearest[:_ROWS]
        ]
    )  # fmt: skip
