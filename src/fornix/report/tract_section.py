"""The part of the report on tracts and what was measured along them."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.io import derivative
from fornix.report import tract_figures as t
from fornix.report.blocks import figure_block
from fornix.tracts.files import load_profiles, load_tracts
from fornix.tracts.segment import DISPLACED, FoundTract, TractMaps

#: Maps whose curves are drawn: title, lower and upper end of the axis, factor.
_DRAWN = {
    "dti_fa": ("FA", 0.0, 0.9, 1.0),
    "dti_md": ("MD (10⁻³ mm²/s)", 0.4, 1.4, 1e3),
    "noddi_ndi": ("NDI", 0.2, 1.0, 1.0),
}
_FACTOR = {"dti_fa": 1.0, "dti_md": 1e3, "noddi_ndi": 1.0, "dki_mk": 1.0}
_TITLE = {"dti_fa": "FA", "dti_md": "MD (10⁻³)", "noddi_ndi": "NDI", "dki_mk": "MK"}

Profiles = dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]


def tract_section(folder: Path, stem: str, dwi: DWI) -> str:
    """Pictures, a table and curves; empty where the folder holds no tracts.

    Args:
        folder: With the results.
        stem: What their names begin with.
        dwi: The scan as it was fitted.
    """
    try:
        tracts = load_tracts(folder, stem)
    except FornixError:
        return ""
    if tracts.lattice.shape != dwi.grid:
        return ""
    path = folder / derivative(stem, "tracts", desc="profiles", extension=".tsv")
    profiles = load_profiles(path) if path.exists() else {}
    means_file = folder / derivative(stem, "tracts", desc="means", extension=".tsv")
    means = load_profiles(means_file) if means_file.exists() else {}
    parts = [_judgement(tracts)]
    for title, starts in t.GROUPS:
        names = [n for n, f in tracts.found.items() if n.startswith(starts) and f.state != "absent"]
        if names:
            drawn = t.rendered(tracts, dwi.brain(), names)
            parts.append(
                figure_block(
                    drawn,
                    f"{title}: surfaces at {t.LEVEL:.0%} probability, in the brain's outline.",
                    dark=True,
                )
            )
    parts.append(_table(tracts, means))
    for name, (title, low, high, factor) in _DRAWN.items():
        found = {
            tract: (value * factor, std * factor)
            for tract, (value, std) in profiles.get(name, {}).items()
        }
        there = [tract for tract, (value, _) in found.items() if np.isfinite(value).any()]
        if there:
            drawn = t.curves(found, low, high, there)
            text = (
                f"{title} along each tract, from its beginning (0) to its end (100), with 90% bands: noise "
                "of the map, what all voxels share, and where the tract lies."
            )
            parts.append(
                f"<details open><summary>{title} along tracts</summary>{figure_block(drawn, text)}</details>"
            )
    return "".join(parts)


def _judgement(tracts: TractMaps) -> str:
    troubled = [(n, f) for n, f in tracts.found.items() if f.state != "whole"]
    pushed = [(n, f) for n, f in tracts.found.items() if f.displacement > DISPLACED]
    if not troubled and not pushed:
        return f'<div class="fine">All {len(tracts.found)} tracts were found whole.</div>'
    items = [f"<li><b>{escape(n)}</b> is {f.state}: {escape(f.reason)}</li>" for n, f in troubled]
    items += [
        f"<li><b>{escape(n)}</b> lies up to {f.displacement:.0f} mm from where the other side's tract does: "
        "pushed aside?</li>"
        for n, f in pushed
    ]
    title = "Tracts that are cut, absent or displaced"
    return f'<div class="warn"><b>{title}</b><ul>{"".join(items)}</ul></div>'


def _table(tracts: TractMaps, means: Profiles) -> str:
    maps = [m for m in _TITLE if m in means]
    head = "".join(f"<th class=n>{_TITLE[m]}</th>" for m in maps)
    rows = []
    for name, found in tracts.found.items():
        cells = "".join(
            f"<td class=n>{_interval(means[m].get(name), _FACTOR[m])}</td>" for m in maps
        )
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{found.state}</td><td class=n>{found.presence:.2f}</td>"
            f"<td class=n>{_volume(found)}</td>{cells}</tr>"
        )
    return (
        "<h3>Tracts</h3><p class=soft>Means over the tract with 90% intervals; presence is the probability "
        "that the tract is there.</p><table><tr><th>tract</th><th>state</th><th class=n>presence</th>"
        f"<th class=n>volume, ml</th>{head}</tr>{''.join(rows)}</table>"
    )


def _volume(found: FoundTract) -> str:
    if found.state == "absent":
        return "–"
    return f"{found.volume:.1f} ± {1.645 * found.volume_std:.1f}"


def _interval(found: tuple[NDArray[np.float64], NDArray[np.float64]] | None, factor: float) -> str:
    if found is None or not np.isfinite(found[0]).all():
        return "–"
    value, std = float(found[0][0]) * factor, float(found[1][0]) * factor
    return f"{value:.3f} ± {1.645 * std:.3f}"
