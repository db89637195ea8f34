"""The page of a comparison: what differs, where, by how much, how sure, in plain words."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from fornix.analysis.compare import Comparison
from fornix.analysis.normative import Deviation
from fornix.analysis.result_tables import summary_table
from fornix.core.version import __version__
from fornix.io.files import atomic
from fornix.io.sidecar import command_line
from fornix.report.blocks import figure_block
from fornix.report.comparison_figures import effect_along, person_along
from fornix.report.page import STYLE

#: Tracts that are drawn, the clearest first.
_DRAWN = 24
_HOW = {
    "tfce": "support along the tract (TFCE)",
    "mass": "mass of a run of nodes",
    "max": "t of a single node",
}


def write_comparison_page(path: Path, found: Comparison, more: dict[str, pd.DataFrame]) -> Path:
    """Write the page of a group comparison; more: further tables by title."""
    made, table = found.measurements, summary_table(found)
    name = found.design.names[found.design.tested]
    clear = table[table["p_fwe"] <= found.alpha]
    spans = made.spans()
    if len(clear):
        told = "; ".join(
            f"{t.tractID}: {'lower' if t.effect < 0 else 'higher'} by {abs(t.percent):.1f}% at nodes "
            f"{t.nodes}"
            for t in clear.sort_values("p_fwe").itertuples()
        )
        box = f'<div class="warn"><b>{made.map} differs with {escape(name)}</b> in {len(clear)} of '
        box += f"{len(spans)} tracts. {escape(told)}.</div>"
    else:
        box = f'<div class="fine">No tract differs with {escape(name)} beyond chance. This does not show '
        box += "that they are alike: see the intervals.</div>"
    kind = "all possible" if found.exact else f"{found.permutations:,}"
    weights = "weighted by how sure each is" if found.weighted else "all weighted alike"
    text = (
        f"{len(made.subjects)} subjects; model: {escape(', '.join(found.design.names))}. Values are "
        f"{weights}. Corrected p: how often chance alone would give as much anywhere in the {len(spans)} "
        f"tracts, by {kind} permutations of the {_HOW[found.statistic]}. Intervals are those of one "
        "node alone."
    )
    order = table.sort_values("p_fwe")["tractID"]
    figures = "".join(
        f"<h3>{escape(t)}</h3>"
        + figure_block(
            effect_along(found, t),
            "Above: mean and standard deviation. Below: effect; dots mark nodes beyond chance.",
        )
        for t in order[:_DRAWN]
        if spans[t].stop - spans[t].start > 1
    )
    body = f"<h2>Tracts</h2>{table_html(table)}" + "".join(
        f"<h2>{escape(title)}</h2>{table_html(t)}" for title, t in more.items()
    )
    title = f"{made.map} with {name}"
    return write_simple_page(path, title, box, text, body + f"<h2>Along the tracts</h2>{figures}")


def write_person_page(path: Path, person: str, found: Deviation) -> Path:
    """Write the page of one person against a reference."""
    made, rows = found.measurements, []
    for tract, span in made.spans().items():
        p, z = found.p_fwe[span], found.z[span]
        known = np.isfinite(z)
        worst = z[known][np.abs(z[known]).argmax()] if known.any() else np.nan
        reason = made.reasons.get((made.subjects[0], tract), "")
        rows.append(
            {"tractID": tract, "largest z": worst,
             "p_fwe": p[known].min() if known.any() else np.nan,
             "nodes beyond 5%": int((p <= 0.05).sum()), "reason": reason}
        )  # fmt: skip
    table = pd.DataFrame(rows).sort_values("p_fwe")
    clear = table[table["p_fwe"] <= 0.05]
    if len(clear):
        box = (
            f'<div class="warn">Unlike the reference: {escape(", ".join(clear["tractID"]))}.</div>'
        )
    else:
        box = '<div class="fine">No tract is beyond what the reference shows.</div>'
    text = (
        f"{escape(person)} against {found.reference} others. z is calibrated for the size of the reference. "
        f"The corrected p is a rank among them, {1 / (found.reference + 1):.3f} at least."
    )
    spans = made.spans()
    figures = "".join(
        f"<h3>{escape(t)}</h3>"
        + figure_block(person_along(found, t), "The person over the 95% interval expected.")
        for t in table["tractID"][:_DRAWN]
        if spans[t].stop - spans[t].start > 1
    )
    return write_simple_page(
        path, f"{person}: {made.map}", box, text, f"{table_html(table)}{figures}"
    )


def table_html(table: pd.DataFrame) -> str:
    """A table of numbers and words as HTML."""
    cells = [
        "".join(
            f"<td class=n>{v:.3g}</td>" if isinstance(v, float) and v == v
            else f"<td>{escape('–' if isinstance(v, float) else str(v))}</td>"
            for v in row
        )
        for row in table.itertuples(index=False)
    ]  # fmt: skip
    head = "".join(f"<th>{escape(str(c))}</th>" for c in table)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{c}</tr>' for c in cells)}</table>"


def write_simple_page(path: Path, title: str, box: str, text: str, body: str) -> Path:
    """Write a page: its title, a box with the answer, a paragraph, and what follows, all HTML."""
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)} · Fornix</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="soft">Fornix {__version__}; not for diagnosis</p>{box}'
        f"<p>{text}</p>{body}<p><code>{escape(command_line())}</code></p></main></body></html>\n"
    )
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path
