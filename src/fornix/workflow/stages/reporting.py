"""The last stage: the report and the record of quality."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.io import load_maps
from fornix.report import write_report
from fornix.workflow.job import Job
from fornix.workflow.qc_record import StepRecord
from fornix.workflow.state import State


def report_stage(job: Job, state: State, truth: str | Path | None = None) -> Path:
    """STEM_report.html and the last STEM_qc.json."""
    start = time.perf_counter()
    job.show.begin("report")
    step = job.record.steps.setdefault("report", StepRecord())
    step.facts = {} if state.tractogram is None else _tractogram_facts(state.tractogram)
    job.write_record()
    true_maps = None if truth is None else load_maps(truth, _only_stem(truth))
    page = write_report(
        job.out,
        job.stem,
        state.dwi,
        state.maps,
        state.tractogram,
        job.record.as_dict(),
        truth=true_maps,
        measured=state.measured,
    )
    job.show.end("report", time.perf_counter() - start, str(page), False)
    return page


def _tractogram_facts(tractogram: Tractogram) -> dict[str, Any]:
    mean = float(tractogram.lengths().mean()) if len(tractogram) else 0.0
    return {"Tractogram": {"Count": len(tractogram), "MeanLengthMm": round(mean, 1)}}


def _only_stem(folder: str | Path) -> str:
    found = sorted(Path(folder).glob("*_dwimap.nii.gz"))
    if not found:
        raise FornixError(
            f"{folder} holds no true maps; give the folder that `fornix simulate` wrote"
        )
    return found[0].name.split("_model-")[0].split("_param-")[0]
