"""The stage that measures the raw scan and says whether to accept it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.errors import tell
from fornix.io import derivative, read_sidecar, write_sidecar
from fornix.io.files import atomic
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.geometry.alignment import Aligned
from fornix.preprocess.quality import LIMITS, Quality, Verdict, measure_quality, verdict_of
from fornix.report.quality_figures import carpet
from fornix.workflow.job import Job

_COLUMNS = {
    "volume": "number in the file, from 0",
    "b": "s/mm2",
    "snr": "median over the brain of signal over noise level, raw volume",
    "neighbour_correlation": "over the brain, with the nearest volume in q-space",
    "motion_abs": "mm, from the first b0, root mean square over a ball of 50 mm",
    "motion_rel": "mm, from the volume before, likewise",
    "framewise_displacement": "mm, sum of the changes since the volume before, turns at 50 mm",
    "outlier_slices": "slices that lost or gained signal",
    "residual": "scale of what is left between volume and prediction, over its mean",
    "spike_slices": "slices with a spike in k-space",
}


def quality_stage(
    job: Job, state_of_raw: DWI, acquisition: Acquisition | None, aligned: Aligned | None = None
) -> Verdict:
    """STEM_desc-qc_ tables and carpet plot of the raw scan, and the verdict.

    Args:
        job: The scan's job; its record must hold the check.
        state_of_raw: The scan as it was measured, with mask and noise level.
        acquisition: What is known of how it was taken.
        aligned: Poses and lost slices where they are known already.
    """
    names = {
        part: job.out / derivative(job.stem, suffix, desc="qc", extension=end)
        for part, suffix, end in (
            ("volumes", "timeseries", ".tsv"), ("slices", "slices", ".tsv"),
            ("summary", "summary", ".tsv"), ("carpet", "carpet", ".png"),
        )
    }  # fmt: skip
    facts = job.record.fact("Scan", {}) or {}
    check = facts.get("GradientCheck") or {}
    wrong = [str(check.get("Summary", ""))] if check.get("Fits") is False else []
    doubts = [str(text) for text in job.record.fact("Findings", [])]
    known = None if acquisition is None else acquisition.encoding
    before = job.key  # what is measured changes no later result

    def compute(progress: Any) -> dict[str, Any]:
        made = measure_quality(state_of_raw, acquisition, aligned)
        verdict = verdict_of(made.summary, wrong, doubts)
        return {"quality": made, "facts": _facts(made, verdict)}

    def save(made: dict[str, Any], provenance: dict[str, Any]) -> list[Path]:
        found: Quality = made["quality"]
        _write_table(names["volumes"], found.volumes)
        slices = {f"slice_{k}": found.slices[:, k].round(2) for k in range(found.slices.shape[1])}
        _write_table(names["slices"], slices)
        _write_table(names["summary"], {k: [v] for k, v in _flat(found.summary).items()})
        with atomic(names["carpet"]) as temporary:
            carpet(found.carpet, state_of_raw.gradients, found.lost).savefig(
                temporary, format="png"
            )
        for part, path in names.items():
            about: dict[str, Any] = {"Description": _WHAT[part], **provenance}
            if part == "volumes":
                about |= {"Columns": {k: _COLUMNS[k] for k in found.volumes}}
            if part == "summary":
                about |= {"Facts": made["facts"], "Limits": [asdict(v) for v in LIMITS]}
            write_sidecar(path, about)
        return list(names.values())

    made = job.step(
        "quality",
        {"wrong": wrong, "doubts": doubts, "encoding": None if known is None else str(known)},
        compute,
        save,
        lambda: {"facts": read_sidecar(names["summary"])["Facts"]},
        lambda made: _line(made["facts"]["Verdict"]),
        lambda made: _warnings(made["facts"]["Verdict"], [*wrong, *doubts]),
    )
    job.record.steps["quality"].facts = made["facts"]
    job.write_record()
    job.key = before
    found = made["facts"]["Verdict"]
    verdict = Verdict(found["Word"], found["Score"], tuple(found["Reasons"]))
    for line in _warnings(found, [*wrong, *doubts]):
        tell(line)
    return verdict


_WHAT = {
    "volumes": "Quality of each volume of the raw scan",
    "slices": "Deviations of each slice's signal (columns) of each volume (rows) from its prediction",
    "summary": "Quality of the raw scan, named as in eddy_quad and MRIQC where they measure the same",
    "carpet": "What each volume differs from its prediction by, voxels sorted from fluid to white matter",
}


def _facts(made: Quality, verdict: Verdict) -> dict[str, Any]:
    plain = {k: ({str(b): x for b, x in v.items()} if isinstance(v, Mapping) else v)
             for k, v in made.summary.items()}  # fmt: skip
    return {
        "Verdict": {"Word": verdict.word, "Score": verdict.score, "Reasons": list(verdict.reasons)},
        "Quality": plain,
        "VolumeQuality": {k: list(v) for k, v in made.volumes.items()},
        "OutlierScores": made.slices.round(2).tolist(),
        "OutlierSlices": [[int(v), int(s)] for v, s in np.argwhere(made.lost)],
    }


def _line(verdict: Mapping[str, Any]) -> str:
    reasons = "; ".join(verdict["Reasons"])
    return str(verdict["Word"]) + (f": {reasons}" if reasons else "")


def _warnings(verdict: Mapping[str, Any], said: Sequence[str]) -> list[str]:
    """What the verdict adds to what was said before."""
    reasons = [r for r in verdict["Reasons"] if r not in said]
    return [f"quality: {verdict['Word']}, as {'; '.join(reasons)}"] if reasons else []


def _flat(summary: Mapping[str, object]) -> dict[str, object]:
    """Lists and shells spread over columns of their own."""
    out: dict[str, object] = {}
    for name, value in summary.items():
        if isinstance(value, Mapping):
            out |= {f"{name}_b{b}": v for b, v in value.items()}
        elif isinstance(value, list) and name != "data_unique_bvals":
            out |= {f"{name}_{i}": v for i, v in enumerate(value)}
        else:
            out[name] = ",".join(map(str, value)) if isinstance(value, list) else value
    return out


def _write_table(path: Path, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
    rows = (
        "\t".join("n/a" if v is None else str(v) for v in row) for row in zip(*columns.values())
    )
    with atomic(path) as temporary:
        temporary.write_text("\n".join(["\t".join(columns), *rows]) + "\n")
