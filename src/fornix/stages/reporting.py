"""The last stage: the report and the record of quality."""

from __future__ import annotations

import time
from pathlib import Path

from fornix.core.errors import FornixError
from fornix.io import load_maps
from fornix.job import Job
from fornix.stages.state import State


def report_stage(job: Job, state: State, truth: str | Path | None = None) -> Path:
    """STEM_report.html and the last STEM_qc.json."""
    from fornix.report import write_report

    start = time.perf_counter()
    job.show.begin("report")
    if state.tractogram is not None:
        lengths = state.tractogram.lengths()
        job.record["Tractogram"] = {
            "Count": len(state.tractogram),
            "MeanLengthMm": round(float(lengths.mean()), 1),
        }
    job.write_record()
    true_maps = None if truth is None else load_maps(truth, _only_stem(truth))
    page = write_report(
        job.out, job.stem, state.dwi, state.maps, state.tractogram, job.record, truth=true_maps
    )
    job.show.end("report", time.perf_counter() - start, str(page), False)
    return page


def _only_stem(folder: str | Path) -> str:
    found = sorted(Path(folder).glob("*_dwimap.nii.gz"))
    if not found:
        raise FornixError(
            f"{folder} holds no true maps; give the folder that `fornix simulate` wrote"
        )
    return found[0].name.split("_model-")[0].split("_param-")[0]
