"""The part of the report on what the scan is worth."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.io import derivative, read_volume
from fornix.report import figures as f
from fornix.report import quality_figures as q
from fornix.report.blocks import figure_block, file_block


def quality_section(
    folder: Path, stem: str, dwi: DWI, record: dict[str, Any], measured: DWI | None = None
) -> str:
    """Verdict, volumes, mask, reversed pair and tissues.

    Args:
        folder: With the results.
        stem: What their names begin with.
        dwi: The scan as it was fitted.
        record: What STEM_qc.json holds.
        measured: The scan before it was brought to smaller voxels, where it was.
    """
    before = dwi if measured is None else measured
    carpet = folder / derivative(stem, "carpet", desc="qc", extension=".png")
    both = (stem, f"{stem}_dir-reversed")
    pair = [folder / derivative(name, "b0", desc="unwarped") for name in both]
    verdict, outliers = record.get("Verdict", {}), record.get("OutlierSlices", [])
    parts = []
    if verdict:
        kind = "fine" if verdict["Word"] == "accept" else "warn"
        items = "".join(f"<li>{escape(r)}</li>" for r in verdict["Reasons"])
        parts.append(
            f'<div class="{kind}"><b>Verdict: {escape(verdict["Word"])}</b><ul>{items}</ul></div>'
        )
        text = (
            f"{len(outliers)} slices lost or gained signal (squares)." if outliers
            else "No slice lost or gained signal."
        )  # fmt: skip
        parts.append(
            figure_block(
                q.volumes(record), f"The raw volumes: motion, signal to noise and slices. {text}"
            )
        )
        if carpet.exists():
            parts.append(
                file_block(
                    carpet,
                    "What each raw volume differs from its prediction by: a column that stands out is a "
                    "volume to look at.",
                )
            )
        parts.append(_measures(record.get("Quality", {})))
    parts.append(
        figure_block(
            f.mask_outline(before), "The brain mask on the mean b0; left is left.", dark=True
        )
    )
    parts += [
        _pair(before, pair),
        _with_t1(before, [pair[0], folder / f"{stem}_space-dwi_T1w.nii.gz"]),
        _tissues(dwi, folder / derivative(stem, "dseg")),
    ]
    return "".join(parts)


def _pair(dwi: DWI, files: list[Path]) -> str:
    """The b0s of a reversed pair after undistortion."""
    texts = (
        "The b0, undistorted.",
        "The b0 of the reversed scan, undistorted: it should look alike.",
    )
    return _drawn(dwi, files, texts, "Reversed pair")


def _with_t1(dwi: DWI, files: list[Path]) -> str:
    """The b0 after undistortion by an estimate from a T1, and the T1."""
    texts = (
        "The b0, undistorted by a field that is an estimate from the T1.",
        "The T1 on the scan's grid: shapes should agree, also above sinuses and ears.",
    )
    return _drawn(dwi, files, texts, "T1")


def _drawn(dwi: DWI, files: list[Path], texts: tuple[str, ...], title: str) -> str:
    if not all(file.exists() for file in files):
        return ""
    brain, drawn = dwi.brain(), []
    for file, text in zip(files, texts):
        data = read_volume(file)[0]
        made = f.mosaic(data, dwi, 0, float(np.percentile(data[brain], 99)), "gray")
        drawn.append(figure_block(made, text, dark=True))
    return f"<h3>{title}</h3>" + "".join(drawn)


def _tissues(dwi: DWI, dseg: Path) -> str:
    if not dseg.exists():
        return ""
    drawn = f.mosaic(f.tissue_colours(read_volume(dseg)[0]), dwi, 0, 1)
    text = (
        "Tissues as the network sees them: cortical grey matter red, deep grey matter yellow, white matter "
        "white, fluid blue, cerebellum green, brainstem violet."
    )
    return "<h3>Tissues</h3>" + figure_block(drawn, text, dark=True)


#: Measures of the table, and what they are.
_MEASURES = {
    "snr_b0": "b0 signal over noise, median", "ndc": "neighbouring correlation",
    "qc_mot_abs": "motion from the first b0, mm", "qc_mot_rel": "motion from volume to volume, mm",
    "fd_mean": "framewise displacement, mm", "qc_outliers_tot": "slices that lost or gained signal, %",
    "spikes_tot": "slices with a spike, %", "gsr": "ghost over brain signal",
}  # fmt: skip


def _measures(found: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(text)}</td><td><code>{name}</code></td><td class=n>{found[name]:g}</td></tr>"
        for name, text in _MEASURES.items()
        if found.get(name) is not None
    )
    return f"<table><tr><th>measure</th><th>name</th><th class=n>value</th></tr>{rows}</table>"
