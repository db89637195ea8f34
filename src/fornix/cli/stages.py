"""The stages alone: each command loads a scan, does one stage and writes what `run` would write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.scan_options import ScanOptions, reads_scan
from fornix.core.errors import FornixError


@reads_scan()
def denoise_command(
    path: o.Input,
    out: o.Out,
    method: Annotated[str, o.method_option("denoise")] = "mppca",
    *,
    scan: ScanOptions,
) -> None:
    """Denoise the volumes; writes STEM_desc-preproc_dwi and the noise level.

    [bold]Example[/]

      fornix denoise dwi.nii.gz -o out --method mppca
    """
    from fornix.workflow import stages as p

    with scan.prepared(path, out) as (job, state):
        p.preprocess_stage(
            job,
            state,
            method,
            (),
            p.Options(threads=scan.threads, device=scan.device, max_memory=scan.max_memory),
            "denoise",
        )


@reads_scan("sigma")
def mask_command(
    path: o.Input,
    out: o.Out,
    method: Annotated[str, o.method_option("mask")] = "shells",
    *,
    scan: ScanOptions,
) -> None:
    """Find the brain and its tissues; writes STEM_desc-brain_mask, STEM_dseg and STEM_label-…_probseg.

    [bold]Example[/]

      fornix mask dwi.nii.gz -o out
    """
    from fornix.workflow import stages as p

    with scan.job(path, out) as (job, state):
        p.mask_stage(job, state, method, given=scan.mask)
        p.segmentation_stage(job, state)


@reads_scan()
def correct_command(
    path: o.Input,
    out: o.Out,
    method: Annotated[
        str, o.method_option("correct", what="Corrections in order, by comma")
    ] = "gibbs,eddy,bias",
    reversed_scan: o.Reversed = None,
    t1: o.T1Scan = None,
    phase_encoding: o.PhaseEncodingOption = None,
    readout_time: o.ReadoutTime = None,
    *,
    scan: ScanOptions,
) -> None:
    """Gibbs ringing, head motion, eddy currents and distortion (gradients turned along), bias field.

    Writes STEM_desc-preproc_dwi, STEM_desc-confounds_timeseries.tsv and, with --reversed or --t1,
    STEM_fieldmap.

    [bold]Examples[/]

      fornix correct dwi.nii.gz -o out
      fornix correct dwi_dir-AP.nii.gz --reversed dwi_dir-PA.nii.gz -o out
      fornix correct dwi.nii.gz -o out --method motion
    """
    from fornix.preprocess import CORRECT_METHODS
    from fornix.workflow import stages as p

    words = tuple(word.strip() for word in method.split(","))
    for word in words:
        CORRECT_METHODS[word]
    if (reversed_scan or t1) and not {"motion", "eddy"} & set(words):
        raise FornixError(
            "--reversed and --t1 need motion or eddy among the corrections (--method), which use the field"
        )
    settings = p.Options(
        threads=scan.threads, max_memory=scan.max_memory, phase_encoding=phase_encoding,
        readout_time=readout_time,
    )  # fmt: skip
    desc = "brain" if reversed_scan is None and t1 is None else "raw"
    with scan.prepared(path, out, desc=desc) as (job, state):
        p.preprocess_stage(
            job,
            state,
            "",
            words,
            settings,
            "correct",
            p.acquisition_of(state.dwi, settings, reversed_scan, t1),
        )


@reads_scan("sigma")
def distortion_command(
    path: o.Input,
    out: o.Out,
    reversed_scan: o.Reversed = None,
    t1: o.T1Scan = None,
    phase_encoding: o.PhaseEncodingOption = None,
    readout_time: o.ReadoutTime = None,
    *,
    scan: ScanOptions,
) -> None:
    """The susceptibility field alone: from a reversed scan, or an estimate from a T1.

    Writes STEM_fieldmap (Hz) and the b0s unwarped; `fornix correct` and `fornix run` find it themselves.

    [bold]Examples[/]

      fornix distortion dwi_dir-AP.nii.gz --reversed dwi_dir-PA.nii.gz -o out
      fornix distortion dwi.nii.gz --t1 T1w.nii.gz -o out
    """
    from fornix.workflow import stages as p

    settings = p.Options(
        threads=scan.threads, max_memory=scan.max_memory, phase_encoding=phase_encoding,
        readout_time=readout_time,
    )  # fmt: skip
    with scan.job(path, out) as (job, state):
        acquisition = p.acquisition_of(state.dwi, settings, reversed_scan, t1)
        p.field_possible(acquisition)  # says what is missing before any work
        p.mask_stage(job, state, given=scan.mask, desc="raw")
        p.field_stage(job, state, acquisition)


@reads_scan()
def qc_command(
    path: o.Input,
    out: o.Out,
    phase_encoding: o.PhaseEncodingOption = None,
    *,
    scan: ScanOptions,
) -> None:
    """What the raw scan is worth: motion, lost slices, spikes, noise; accept, look or reject.

    Writes STEM_desc-qc_ tables (volumes, slices, summary) and a carpet plot.

    [bold]Example[/]

      fornix qc dwi.nii.gz -o out
    """
    from fornix.preprocess.acquisition import Acquisition
    from fornix.workflow import stages as p

    with scan.prepared(path, out, checked=False) as (job, state):
        p.check_stage(job, state)
        p.quality_stage(job, state.dwi, Acquisition.of(state.dwi, direction=phase_encoding))


@reads_scan()
def microstructure_command(
    path: o.Input,
    out: o.Out,
    models: Annotated[
        str, typer.Option("--models", help="auto, or some of dti,dki,noddi.")
    ] = "auto",
    method: Annotated[str, o.method_option("dti", "dki", "noddi")] = "auto",
    quantiles: o.Quantiles = "",
    adapt: o.Adapt = False,
    reference_b: o.ReferenceB = None,
    *,
    scan: ScanOptions,
) -> None:
    """Tensor, kurtosis and NODDI maps, each with its standard deviation, and the trust mask.

    [bold]Examples[/]

      fornix microstructure dwi.nii.gz -o out --quantiles 0.05,0.95
      fornix microstructure dwi.nii.gz --models dti,dki,noddi --method wls --mask mask.nii.gz -o out
    """
    from fornix.workflow import stages as p

    with scan.prepared(path, out) as (job, state):
        chosen = o.models_of(models)
        settings = p.Options(
            quantiles=o.levels(quantiles), adapt=adapt, reference_b=reference_b, seed=scan.seed,
            threads=scan.threads, device=scan.device, max_memory=scan.max_memory,
        )  # fmt: skip
        p.microstructure_stage(job, state, chosen, method, settings)


@reads_scan()
def fod_command(
    path: o.Input,
    out: o.Out,
    method: Annotated[str, o.method_option("fod")] = "auto",
    adapt: o.Adapt = False,
    min_peak_prob: o.MinPeakProb = None,
    *,
    scan: ScanOptions,
) -> None:
    """Fibre orientation distributions, tissue shares and peaks.

    [bold]Examples[/]

      fornix fod dwi.nii.gz -o out --method csd
      fornix fod dwi.nii.gz -o out --method learned --adapt
      fornix fod dwi.nii.gz -o out --min-peak-prob 0.5
    """
    from fornix.estimators.fod import FOD_METHODS
    from fornix.workflow import stages as p

    if adapt and method == "auto":
        method = FOD_METHODS.default
    if adapt:
        FOD_METHODS.check(method, "adapts", "--adapt")
    if min_peak_prob is not None:
        FOD_METHODS.check(method, "peak_probabilities", "--min-peak-prob")
    with scan.prepared(path, out) as (job, state):
        options = p.Options(
            adapt=adapt,
            min_peak_prob=min_peak_prob,
            seed=scan.seed,
            threads=scan.threads,
            device=scan.device,
        )
        p.fod_stage(job, state, method, options)


@reads_scan()
def report_command(
    path: o.Input,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder that holds the results.", show_default=False)
    ],
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Folder of true maps to stand beside.")
    ] = None,
    *,
    scan: ScanOptions,
) -> None:
    """Write the report again from the results that are in OUT.

    [bold]Example[/]

      fornix report dwi.nii.gz -o out
    """
    from fornix.io import derivative, load_maps, load_tractogram
    from fornix.workflow import stages as p

    with scan.prepared(path, out, checked=False) as (job, state):
        state.maps = load_maps(job.out, job.stem)
        if not state.maps:
            raise FornixError(
                f"{out} holds no maps of {job.stem}; run `fornix microstructure` first"
            )
        reference = job.out / derivative(job.stem, "dwimap", model="dti", param="fa")
        for extension in ("trx", "tck", "trk"):
            found = job.out / f"{job.stem}_tractogram.{extension}"
            if found.exists():
                state.tractogram = load_tractogram(found, reference=reference)
        p.check_stage(job, state)
        p.report_stage(job, state, truth)
