"""The report: one HTML page that holds everything and opens offline."""

from __future__ import annotations

import platform
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.maps import Map, Maps
from fornix.core.tractogram import Tractogram
from fornix.core.version import __version__
from fornix.io.files import atomic
from fornix.io.sidecar import command_line
from fornix.report import fibres
from fornix.report import figures as f
from fornix.report.blocks import figure_block
from fornix.report.enhancement_section import enhancement_section
from fornix.report.lines import streamlines
from fornix.report.quality_section import quality_section
from fornix.report.tract_section import tract_section

STYLE = """
:root{--ink:#1c2733;--soft:#5b6b7b;--line:#e3e8ee;--accent:#2f6f9f}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
color:var(--ink);margin:0;background:#f5f7fa}
main{max-width:1120px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:26px;margin:0 0 2px} h2{font-size:19px;margin:36px 0 10px}
h3{font-size:15px;margin:18px 0 6px;color:var(--soft);font-weight:600}
p{margin:6px 0 10px;max-width:80ch} .soft{color:var(--soft)}
figure{margin:0 0 14px;background:#fff;border:1px solid var(--line);border-radius:8px;overflow:hidden}
figure.dark{background:#0d1117} figure img{display:block;width:100%;height:auto}
figcaption{padding:8px 14px;font-size:13px;color:var(--soft);background:#fff;border-top:1px solid var(--line)}
.warn{background:#fff6e0;border:1px solid #f0d48a;border-radius:8px;padding:10px 16px;margin:14px 0}
.fine{background:#ecf7ee;border:1px solid #b9dfc0;border-radius:8px;padding:10px 16px;margin:14px 0}
.warn ul{margin:4px 0;padding-left:20px}
table{border-collapse:collapse;background:#fff;border:1px solid var(--line);border-radius:8px;width:100%;
font-size:14px} td,th{padding:6px 12px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
nav a{margin-right:14px;color:var(--accent);text-decoration:none;font-size:14px}
code{font:13px ui-monospace,Menlo,Consolas,monospace;word-break:break-all}
"""

_EXPLAIN = {
    "dti_fa": "Fractional anisotropy: 0 where water diffuses alike in all directions, near 1 along one.",
    "dti_md": "Mean diffusivity: fluid is bright, tissue near 0.8.",
    "dki_mk": "Mean kurtosis: how far diffusion departs from Gaussian; higher in white matter.",
    "noddi_ndi": "Neurite density index: intra-neurite share of the tissue.",
    "noddi_odi": "Orientation dispersion: low in coherent bundles, high in grey matter.",
    "noddi_fwf": "Free-water fraction.",
    "ood": "How unlike the networks' training data a voxel is: at 3, one training voxel in a thousand is "
    "as extreme.",
}


def write_report(
    folder: str | Path,
    stem: str,
    dwi: DWI,
    maps: Maps,
    tractogram: Tractogram | None,
    record: dict[str, Any],
    truth: Maps | None = None,
    measured: DWI | None = None,
) -> Path:
    """Write STEM_report.html in the folder and return its path.

    Args:
        folder: Where it is written.
        stem: What the file's name begins with.
        dwi: The scan.
        maps: Of the scan.
        tractogram: Of the scan, or None.
        record: What STEM_qc.json holds (facts, SNR, outliers, warnings, steps).
        truth: True maps of a simulated scan; they stand beside the estimates.
        measured: The scan before it was enhanced, where it was.
    """
    parts = [
        _head(stem, record),
        _section("protocol", "Protocol", _protocol(dwi, record)),
        _section(
            "quality",
            "Quality",
            quality_section(Path(folder), stem, dwi, record, measured),
        ),
    ]
    if measured is not None:
        told = record.get("Steps", {}).get("enhance", {}).get("Summary", "")
        parts.append(
            _section("enhancement", "Smaller voxels", enhancement_section(measured, dwi, told))
        )
    parts.append(_section("maps", "Maps", _maps(dwi, maps, truth)))
    if "peaks" in maps:
        parts.append(_section("fibres", "Fibres", _fibres(dwi, maps, tractogram)))
    if tracts := tract_section(Path(folder), stem, dwi):
        parts.append(_section("tracts", "Tracts", tracts))
    parts.append(_section("numbers", "Numbers", _numbers(dwi, maps, truth)))
    parts.append(_section("made", "How it was made", _made(record)))
    body = "\n".join(parts)
    path = Path(folder) / f"{stem}_report.html"
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(stem)} · Fornix</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def _head(stem: str, record: dict[str, Any]) -> str:
    warnings = record.get("Warnings", [])
    if warnings:
        items = "".join(f"<li>{escape(w)}</li>" for w in warnings)
        box = f'<div class="warn"><b>Look at these first</b><ul>{items}</ul></div>'
    else:
        box = '<div class="fine">No warnings.</div>'
    links = "".join(
        f'<a href="#{i}">{t}</a>'
        for i, t in [
            ("protocol", "Protocol"), ("quality", "Quality"), ("maps", "Maps"), ("fibres", "Fibres"),
            ("tracts", "Tracts"),
            ("numbers", "Numbers"), ("made", "How it was made"),
        ]
    )  # fmt: skip
    return f'<h1>{escape(stem)}</h1><p class="soft">Fornix {__version__}</p><nav>{links}</nav>{box}'


def _section(anchor: str, title: str, body: str) -> str:
    return f'<section id="{anchor}"><h2>{title}</h2>{body}</section>'


def _protocol(dwi: DWI, record: dict[str, Any]) -> str:
    facts = record.get("Scan", {})
    rows = [
        ("grid", f"{dwi.grid} voxels of {tuple(float(v) for v in dwi.voxel_size.round(3))} mm, "
         f"axes {facts.get('Axes', '')}"),
        ("volumes", str(dwi.gradients)),
        ("gradient table", (facts.get("GradientCheck") or {}).get("Summary", "not checked")),
    ]  # fmt: skip
    for model, reason in facts.get("CanEstimate", {}).items():
        rows.append(
            (model, "can be estimated" if not reason else f"not from this protocol: {reason}")
        )
    table = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in rows)
    drawn = figure_block(
        f.protocol(dwi.gradients), "Measured directions (each axis drawn twice) and b-values."
    )
    return f"<table>{table}</table><h3></h3>{drawn}"


def _maps(dwi: DWI, maps: Maps, truth: Maps | None) -> str:
    out = []
    brain = dwi.brain()

    def add(title: str, data: np.ndarray, low: float, high: float, colours: str, text: str) -> None:
        drawn = f.mosaic(data, dwi, low, high, colours)
        out.append(f"<h3>{title}</h3>" + figure_block(drawn, text, dark=True))

    b0, weighted = dwi.mean_b0(), dwi.mean_dwi()
    add("b0", b0, 0, float(np.percentile(b0[brain], 99)), "gray", "Mean of the b0 volumes.")
    if weighted.any():
        top = float(np.percentile(weighted[brain], 99.5))
        add("Diffusion-weighted mean", weighted, 0, top, "gray", "Mean of all weighted volumes.")
    for name in f.LOOKS:
        if name not in maps or name not in _EXPLAIN:
            continue
        title, low, high, colours = f.LOOKS[name]
        made = maps[name]
        caption = f"{_EXPLAIN[name]} Method: {made.method}.{_b_values(made)}{_parts(made)}"
        if truth is not None and name in truth:
            drawn = f.compared(made.data, truth[name].data, dwi, low, high, colours)
            out.append(
                f"<h3>{title}: estimate and truth</h3>" + figure_block(drawn, caption, dark=True)
            )
        else:
            add(title, made.data, low, high, colours, caption)
        if name == "dti_fa" and "dti_v1" in maps:
            add(
                "Colour FA", f.colour_fa(maps), 0, 1, "gray",
                "Direction times FA: red left-right, green front-back, blue up-down (world axes).",
            )  # fmt: skip
        if made.std is not None and name in ("dti_fa", "dki_mk", "noddi_ndi"):
            high = float(np.percentile(made.std[brain], 95)) or 1.0
            add(
                f"{title.split(' (')[0]}: standard deviation", made.std, 0, high, "cividis",
                "How uncertain the map is: for a network calibrated on simulated voxels of known "
                f"truth, for a fit by propagation of the noise level.{_shared(made)}",
            )  # fmt: skip
    return "".join(out)


def _b_values(made: Map) -> str:
    """Which b-values a tensor stands for: maps of different ones cannot be compared."""
    if "ReferenceBValue" in made.details:
        b = made.details["ReferenceBValue"]
        return f" Describes the signal near b = {b:.0f} s/mm², whatever was measured."
    if "BValues" in made.details:
        used = ", ".join(str(b) for b in made.details["BValues"])
        return f" Fitted to b = {used} s/mm²."
    return ""


def _parts(made: Map) -> str:
    """What a learned estimate is put together of, and what each part alone says."""
    share = made.details.get("FitShare")
    if share is None:
        return ""
    return (
        f" Put together of {1 - share:.0%} network and {share:.0%} classical fit (medians over the brain: "
        f"the network alone says {made.details['NetworkMedian']:g}, the fit {made.details['FitMedian']:g})."
    )


def _shared(made: Map) -> str:
    """How far averages over a region help."""
    share = made.details.get("SharedShare")
    if share is None:
        return ""
    return f" The voxels of a region share {share:.0%} of it: their mean is not known better than that."


def _fibres(dwi: DWI, maps: Maps, tractogram: Tractogram | None) -> str:
    drawn = figure_block(
        f.sticks(dwi, maps),
        "Peaks of the fibre orientation distributions over FA, axial and coronal.",
        dark=True,
    )
    if "fod" in maps:
        drawn = (
            figure_block(
                fibres.fod_glyphs(dwi, maps),
                "Fibre orientation distributions over FA, axial and coronal (from behind), coloured by "
                "direction: red left-right, green front-back, blue up-down.",
                dark=True,
            )
            + drawn
        )
    if tractogram is None or not len(tractogram):
        return drawn
    shown = min(len(tractogram), 12_000)
    density = fibres.density_colours(fibres.track_density(tractogram, dwi))
    return "".join(
        [
            drawn,
            figure_block(
                streamlines(tractogram),
                f"{shown:,} of {len(tractogram):,} streamlines, coloured by direction; nearer is "
                "brighter.",
                dark=True,
            ),
            figure_block(
                fibres.streamline_slices(tractogram, dwi, maps),
                "What runs within 2.5 mm of an axial, a coronal and a sagittal slice, over FA.",
                dark=True,
            ),
            "<h3>Track density</h3>",
            figure_block(
                f.mosaic(density, dwi, 0, 1),
                "Where streamlines run: brightness is their density, colour their direction.",
                dark=True,
            ),
        ]
    )


def _numbers(dwi: DWI, maps: Maps, truth: Maps | None) -> str:
    brain = dwi.brain()
    head = "<tr><th>map</th><th class=n>5%</th><th class=n>median</th><th class=n>95%</th>"
    head += "<th class=n>median sd</th>" + (
        "<th class=n>RMSE to truth</th><th class=n>bias</th>" if truth else ""
    )
    rows = []
    for name, made in maps.items():
        if made.data.ndim != 3 or made.param in ("s0", "source"):
            continue
        values = made.data[brain]
        low, middle, high = np.percentile(values, [5, 50, 95])
        sd = f"{np.median(made.std[brain]):.3g}" if made.std is not None else ""
        cells = [f"{low:.3g}", f"{middle:.3g}", f"{high:.3g}", sd]
        if truth is not None:
            cells += _against(values, truth, name, brain)
        label = f"{name.replace('_', ' ').upper()}{'' if made.units == '1' else f' ({made.units})'}"
        rows.append(
            f"<tr><td>{escape(label)}</td>"
            + "".join(f"<td class=n>{c}</td>" for c in cells)
            + "</tr>"
        )
    drawn = f.histograms(dwi, maps)
    picture_of = "" if drawn is None else figure_block(
        drawn, "Values in the mask; green: the middle range of healthy adults at 3 T, not a diagnosis."
    )  # fmt: skip
    return f"{picture_of}<table>{head}</tr>{''.join(rows)}</table>"


def _against(values: np.ndarray, truth: Maps, name: str, brain: np.ndarray) -> list[str]:
    if name not in truth:
        return ["", ""]
    difference = values - truth[name].data[brain]
    return [f"{np.sqrt((difference**2).mean()):.3g}", f"{difference.mean():+.3g}"]


def _made(record: dict[str, Any]) -> str:
    steps = "".join(
        f"<tr><td>{escape(name)}</td><td class=n>{s['Seconds']:.1f} s</td>"
        f"<td>{escape(str(s['Summary']))}</td></tr>"
        for name, s in record.get("Steps", {}).items()
    )
    libraries = ", ".join(
        f"{n} {_version(n)}" for n in ("numpy", "scipy", "torch", "dipy", "nibabel")
    )
    inputs = record.get("Inputs", {})
    return (
        f"<table><tr><th>step</th><th class=n>time</th><th>result</th></tr>{steps}</table>"
        f"<p><code>{escape(command_line())}</code></p>"
        f'<p class="soft">Fornix {__version__}, Python {platform.python_version()}, {libraries}. '
        f"Input {escape(str(inputs.get('Scan', '')))}, sha256 "
        f"<code>{escape(str(inputs.get('ScanSha256', '')))}</code>.</p>"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
