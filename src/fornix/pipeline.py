"""The main job, top to bottom: from a raw scan to maps, fibres, a tractogram and a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fornix.core.dwi import DWI
from fornix.core.maps import Maps
from fornix.core.tractogram import Tractogram
from fornix.io import load
from fornix.io.files import protected
from fornix.workflow.job import Show, Silent
from fornix.workflow.plan import plan
from fornix.workflow.stages import (
    PREPROCESS,
    Options,
    State,
    acquisition_of,
    check_stage,
    enhance_stage,
    fibre_stages,
    fibres_possible,
    mask_stage,
    microstructure_stage,
    noise_stage,
    open_job,
    preprocess_stage,
    quality_stage,
    report_stage,
    segmentation_stage,
    tract_stages,
    undenoised,
)


@dataclass(frozen=True)
class Outcome:
    """What `run` returns: the scan as it was fitted, all maps, the tractogram and the files."""

    dwi: DWI
    maps: Maps
    tractogram: Tractogram | None
    folder: Path
    report: Path
    seconds: float


def run(
    path: str | Path,
    out: str | Path,
    options: Options | None = None,
    *,
    bval: str | Path | None = None,
    bvec: str | Path | None = None,
    grad: str | Path | None = None,
    mask: str | Path | None = None,
    b0_threshold: float = 50.0,
    exclude: Sequence[int] = (),
    truth: str | Path | None = None,
    reversed_scan: str | Path | None = None,
    t1: str | Path | None = None,
    show: Show | None = None,
) -> Outcome:
    """The whole job on one scan; safe to stop and run again.

    Args:
        path: NIfTI with its bval and bvec beside it, or named.
        out: Folder for the results.
        options: What is asked of the run.
        bval: b-values (FSL), if not beside the scan.
        bvec: b-vectors (FSL), if not beside the scan.
        grad: MRtrix gradient table, in place of `bval` and `bvec`.
        mask: Brain mask on the scan's grid; estimated if absent.
        b0_threshold: A volume is a b0 if b <= this, s/mm².
        exclude: Volumes to leave out, from 0.
        truth: A folder of true maps (from `fornix simulate`) to stand beside the estimates.
        reversed_scan: A scan or b0s of the other phase direction, from which the susceptibility field is
            had.
        t1: A T1 of the same head, from which the field is estimated where there is no reversed scan.
        show: Tells what the job does; silent if absent.

    Returns:
        The results

    Raises:
        FornixError: With one line that says what to do.
    """
    options, start = options or Options(), time.perf_counter()
    scan = load(
        path,
        bval=bval,
        bvec=bvec,
        grad=grad,
        b0_threshold=b0_threshold,
        exclude=exclude,
        max_memory=options.max_memory,
    )
    denoiser, corrections = PREPROCESS[options.preprocess]
    pair = acquisition_of(scan, options, reversed_scan, t1)
    show = show or Silent()
    show.plan(plan(scan, options, pair))
    with protected(path, bval, bvec, grad, mask, reversed_scan, t1):
        job = open_job(out, path, scan, show, mask, exclude)
        state = State(scan)
        desc = "raw" if pair.tells_field else "brain"
        mask_stage(job, state, options.mask_method, given=mask, desc=desc)
        noise_stage(job, state, options.noise, options.sigma)
        check_stage(job, state)
        raw = state.dwi
        preprocess_stage(job, state, denoiser, corrections, options, acquisition=pair)
        quality_stage(job, raw, pair, state.aligned)
        measured = undenoised(job, state, raw, corrections, pair, options) if denoiser else None
        if options.enhance is not None:
            enhance_stage(job, state, None, (options.enhance,), options, source=measured)
            measured = None
        segmentation_stage(job, state)
        scan_key = job.key
        microstructure_stage(job, state, options.models, options.method, options, measured)
        maps_key = job.key
        if fibres_possible(state.dwi):
            fibre_stages(job, state, options, measured)
            if options.tracts:
                tract_stages(job, state, options, scan_key, maps_key)
        page = report_stage(job, state, truth)
    seconds = time.perf_counter() - start
    return Outcome(state.dwi, state.maps, state.tractogram, job.out, page, seconds)
