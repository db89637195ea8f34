"""The stage that makes a raw scan clean: denoising and corrections."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixWarning, tell
from fornix.core.gradients import Gradients
from fornix.io import (
    derivative,
    load,
    read_fsl,
    read_mask,
    save_mask,
    save_scan,
    sidecar_path,
    write_sidecar,
)
from fornix.io.files import refuse_input
from fornix.preprocess import DENOISE_METHODS, denoise
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.correct import corrected
from fornix.preprocess.geometry.correction import Corrected
from fornix.preprocess.history import done_twice
from fornix.preprocess.undenoised import corrected_undenoised
from fornix.workflow.job import Job
from fornix.workflow.options import Options
from fornix.workflow.stages.geometry_files import load_geometry, save_geometry
from fornix.workflow.state import State


def preprocess_stage(
    job: Job,
    state: State,
    denoiser: str,
    corrections: Sequence[str],
    options: Options,
    step: str = "preprocess",
    acquisition: Acquisition | None = None,
) -> None:
    """STEM_desc-preproc_dwi with its table, and what was found of motion and field.

    The noise level stays that of the raw scan. With a reversed partner or a T1 STEM_desc-brain_mask is the
    brain after undistortion; the raw scan's is STEM_desc-raw_mask then.
    """
    if not denoiser and not corrections:
        return
    path = job.out / derivative(job.stem, "dwi", desc="preproc")
    mask_path = job.out / derivative(job.stem, "mask", desc="brain")
    undistorts = acquisition is not None and acquisition.tells_field
    for output in (path, mask_path) if undistorts else (path,):
        refuse_input(output)  # before the long part
    left_out = [tell(t) for t in done_twice(state.dwi.meta, denoiser, corrections)]
    if denoiser and (why := _too_small(state.dwi, denoiser)):
        left_out.append(f"denoising was left out: {why}")
        denoiser = ""
        if not corrections:
            job.record.warn(step, left_out)
            return

    before = set(state.dwi.notes)
    kept: list[Corrected] = []

    def compute(progress: Any) -> DWI:
        dwi = state.dwi
        if denoiser:
            dwi = denoise(dwi, method=denoiser, threads=options.threads, device=options.device)
        dwi, found = corrected(
            dwi,
            methods=corrections,
            acquisition=acquisition,
            threads=options.threads,
            progress=progress,
        )
        if found is not None:
            kept.append(found)
            state.aligned = found.aligned
        # What is left after denoising is smaller but correlated: the raw level keeps errors honest.
        return dwi if state.dwi.sigma is None else dwi.with_(sigma=state.dwi.sigma)

    def save(dwi: DWI, provenance: dict[str, Any]) -> list[Path]:
        save_scan(dwi, path)
        write_sidecar(
            path,
            {**dwi.meta, "Units": "as the scan", "Denoise": denoiser, **provenance,
             "Corrections": list(corrections)},
        )  # fmt: skip
        more = [save_geometry(found, job.out, job.stem, provenance) for found in kept]
        if undistorts:
            more.append(
                [
                    save_mask(
                        dwi.brain(), dwi.affine, mask_path, {"Method": "undistorted", **provenance}
                    )
                ]
            )
        return [path, *(p for files in more for p in files)]

    def reload() -> DWI:
        table = state.dwi.gradients
        again = load(path, b0_threshold=table.b0_threshold, max_memory=options.max_memory)
        mask = read_mask(mask_path, again) if undistorts else state.dwi.mask
        return again.with_(
            mask=mask, sigma=state.dwi.sigma, stem=state.dwi.stem,
            gradients=replace(again.gradients, numbers=table.numbers),
        )  # fmt: skip

    def summary(dwi: DWI) -> str:
        return ", ".join([*([denoiser] if denoiser else []), *corrections])

    state.dwi = job.step(
        step,
        {
            "denoise": denoiser,
            "corrections": list(corrections),
            "acquisition": acquisition_facts(acquisition),
        },
        compute,
        save,
        reload,
        summary,
        lambda dwi: [*left_out, *(n for n in dwi.notes if n not in before)],
    )
    if corrections:
        state.dwi = state.dwi.with_(gradients=_as_written(path, state.dwi))


def undenoised(
    job: Job,
    state: State,
    raw: DWI,
    corrections: Sequence[str],
    acquisition: Acquisition,
    options: Options,
) -> Callable[[], DWI]:
    """Makes the scan with all corrections but denoising, once, when it is asked for.

    Networks know noise as it is measured. They estimate better from it than from a denoised scan that was
    interpolated, and their intervals hold (docs/benchmarks/preprocess.md).

    Args:
        job: Its folder holds what `preprocess_stage` found.
        state: Its scan is the corrected one.
        raw: The scan as measured, with mask and noise level.
        corrections: As in `preprocess_stage`.
        acquisition: As in `preprocess_stage`.
        options: Of the run.
    """

    @cache
    def make() -> DWI:
        # A scan that was only denoised has no such step's files, though an earlier run may have left some.
        key = job.record.steps["preprocess"].key if corrections else ""
        found = load_geometry(job.out, job.stem, raw, acquisition, key)
        geometry, lost = (None, None) if found is None else found
        with use_threads(options.threads), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FornixWarning
            )  # told when the denoised scan was corrected
            dwi = corrected_undenoised(
                raw, corrections, acquisition, geometry, lost, options.threads
            )
        return dwi.with_(mask=state.dwi.mask, gradients=state.dwi.gradients, notes=state.dwi.notes)

    return make


def _as_written(path: Path, dwi: DWI) -> Gradients:
    """The turned gradients with the digits that the file holds: a run that goes on later sees no others."""
    base, table = sidecar_path(path), dwi.gradients
    names = base.with_suffix(".bval"), base.with_suffix(".bvec")
    return replace(read_fsl(*names, dwi.affine, table.b0_threshold), numbers=table.numbers)


def acquisition_facts(acquisition: Acquisition | None) -> dict[str, Any]:
    """What a corrected scan depends on beside the scan, for the step's key."""
    if acquisition is None:
        return {}
    other, encoding = acquisition.reversed_scan, acquisition.encoding
    facts: dict[str, Any] = {"SliceAxis": acquisition.slice_axis}
    if encoding is not None:
        facts |= {"PhaseEncoding": str(encoding), "ReadoutTime": encoding.readout_time}
    if other is not None:
        facts["Reversed"] = hashlib.sha256(other.mean_b0().tobytes()).hexdigest()
    if acquisition.t1 is not None:
        parts = (acquisition.t1.data.tobytes(), acquisition.t1.affine.round(4).tobytes())
        facts["T1"] = hashlib.sha256(b"".join(parts)).hexdigest()
    return facts


def _too_small(dwi: DWI, denoiser: str) -> str:
    """Why a scan cannot be denoised so, in half a line; empty if it can."""
    count, least = len(dwi.gradients), DENOISE_METHODS[denoiser].min_volumes
    if count < least:
        return f"{count} volumes are too few for {denoiser}, which needs {least}"
    if int(np.prod(np.minimum(dwi.grid, 5))) < 8:
        return "the grid has too few voxels for a patch"
    return ""
