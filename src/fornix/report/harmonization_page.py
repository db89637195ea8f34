"""The page of a harmonization: what sites added, what was taken out, what of people was kept."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fornix.enhance.harmonization.effects import heads_table, kept_table, site_table
from fornix.enhance.harmonization.harmonize import Harmonized
from fornix.report.blocks import figure_block
from fornix.report.canvas import ACCENT, INK, figure
from fornix.report.comparison_page import table_html, write_simple_page

_MARK = "#c2603a"
#: Maps that are drawn, at most.
_DRAWN = 8
#: Share of columns at which chance alone lets sites differ.
_CHANCE = 0.05


def write_harmonization_page(path: Path, found: Harmonized, fitted: bool) -> Path:
    """Write the page.

    Args:
        path: The file.
        found: The study before and after.
        fitted: Whether the model was fitted to these very scans.
    """
    sites, kept, heads = site_table(found), kept_table(found), heads_table(found)
    warned = "".join(f'<div class="warn">{escape(note)}</div>' for note in found.notes)
    body = "<h2>Sites</h2>" + figure_block(
        _sites(sites),
        "Percent above the mean of all scans, covariates allowed for, with 95% intervals: before "
        "(orange) and "
        "after (blue). What is left after is drawn in less where a site has few scans.",
    )
    body += table_html(_short(sites))
    if len(kept):
        body += "<h2>What was kept</h2>" + figure_block(
            _kept(kept),
            "Effect of each covariate in percent with its 95% interval: as measured (orange), with "
            "sites in the "
            "model (grey), harmonized (blue).",
        )
        body += table_html(kept)
    if len(heads):
        body += (
            "<h2>Heads at several sites</h2><p>Standard deviation of one head's values between "
            "sites, and between "
            "its scans at one site, percent of the value, over all columns.</p>" + table_html(heads)
        )
    return write_simple_page(
        path, "Harmonization", warned + _answer(sites), _text(found, fitted), body
    )


def _answer(sites: pd.DataFrame) -> str:
    per_map = sites.groupby("map", sort=False).agg(
        before=("before", lambda v: np.abs(v).max()), after=("after", lambda v: np.abs(v).max()),
        columns=("columns_before", "first"), left=("columns_after", "first"),
    )  # fmt: skip
    differ = per_map[per_map["columns"] > 2 * _CHANCE]
    if not len(differ):
        said = "Sites do not differ beyond chance in any map: little or nothing was changed."
        return f'<div class="fine">{said}</div>'
    told = "; ".join(
        f"{name}: up to {row['before']:.1f}% before, {row['after']:.1f}% after; sites differ at "
        f"{row['columns']:.0%} of the columns before, {row['left']:.0%} after"
        for name, row in differ.iterrows()
    )
    head = f"Sites differ in {len(differ)} of {len(per_map)} maps."
    return f'<div class="fine"><b>{head}</b> {escape(told)}.</div>'


def _text(found: Harmonized, fitted: bool) -> str:
    model = found.model
    combat = next(iter(model.maps.values())).combat
    kept = ", ".join(f"{c.name} ({c.kind})" for c in model.covariates) or "nothing"
    how = {
        "sites": "estimates drawn to what sites are like (columns to their site, sites to none)",
        "features": "empirical Bayes over the columns of each site, as published",
        "none": "every estimate believed",
    }[combat.shrinkage]
    text = (
        f"{len(found.table)} scans of {len(set(found.table.sites))} sites; {found.before.level} of "
        f"{len(found.before.maps)} maps. ComBat: {how}. Kept: {escape(kept)}. Model {model.label}. "
        "Columns at "
        "which sites differ: by an F test at 5%, so that 5% are chance."
    )
    if found.new_sites:
        text += f" Estimated from these scans, the reference unchanged: {escape(', '.join(found.new_sites))}."
    if fitted:
        text += (
            " After is told from the scans that the model was fitted to, and flatters it; scans "
            "that it has not "
            "seen tell more."
        )
    return text


def _short(sites: pd.DataFrame) -> pd.DataFrame:
    return sites.assign(
        columns_before=[f"{v:.0%}" for v in sites["columns_before"]],
        columns_after=[f"{v:.0%}" for v in sites["columns_after"]],
    )


def _sites(table: pd.DataFrame) -> Figure:
    words = [("before", _MARK, 0.14), ("after", ACCENT, -0.14)]
    return _intervals(table.rename(columns=lambda c: c.replace("_", " ")), "site", words)


def _kept(table: pd.DataFrame) -> Figure:
    words = [
        ("measured", _MARK, 0.2), ("site as covariate", "#8a949e", 0.0), ("harmonized", ACCENT, -0.2)
    ]  # fmt: skip
    return _intervals(table, "effect of", words)


def _intervals(table: pd.DataFrame, rows: str, words: list[tuple[str, str, float]]) -> Figure:
    """A panel a map: each row's values with their intervals, a colour and a shift for each kind of value."""
    maps, names = list(table["map"].unique())[:_DRAWN], list(table[rows].unique())
    place = {name: -i for i, name in enumerate(names)}
    made = figure(2.0 + 2.2 * len(maps), 1.2 + 0.17 * len(words) * len(names))
    for k, name in enumerate(maps):
        ax = made.add_subplot(1, len(maps), k + 1)
        mine = table[table["map"] == name]
        for word, colour, shift in words:
            y = [place[row] + shift for row in mine[rows]]
            half = (mine[f"{word} high"] - mine[f"{word} low"]) / 2
            ax.errorbar(mine[word], y, xerr=half, fmt="o", ms=3, lw=1, color=colour)
        _axis(ax, name, names, first=k == 0)
    return made


def _axis(ax: Any, title: str, names: list[str], first: bool) -> None:
    ax.axvline(0, color=INK, lw=0.6)
    ax.set_title(title, fontsize=8)
    ax.set_yticks([-i for i in range(len(names))], names if first else [""] * len(names))
    ax.tick_params(labelsize=7)
    ax.set_xlabel("percent", fontsize=7)
    ax.spines[["top", "right"]].set_visible(False)
