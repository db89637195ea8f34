"""`fornix run`: the whole job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.scan_options import ScanOptions, reads_scan
from fornix.cli.show import Shown, console


@reads_scan()
def run_command(
    path: o.Input,
    out: o.Out,
    preprocess: Annotated[
        str,
        typer.Option(
            "--preprocess",
            help="none; fast: denoising; full: denoising, Gibbs, motion, eddy, field, bias.",
        ),
    ] = "full",
    reversed_scan: o.Reversed = None,
    t1: o.T1Scan = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and why, and stop.")
    ] = False,
    enhance: Annotated[
        float | None,
        typer.Option(
            "--enhance",
            metavar="MM",
            help="Bring the scan to voxels of this edge before maps, orientations and tracking.",
        ),
    ] = None,
    phase_encoding: o.PhaseEncodingOption = None,
    readout_time: o.ReadoutTime = None,
    models: Annotated[
        str, typer.Option("--models", help="auto, or some of dti,dki,noddi.")
    ] = "auto",
    method: Annotated[str, o.method_option("dti", "dki", "noddi")] = "auto",
    quantiles: o.Quantiles = "",
    adapt: o.Adapt = False,
    reference_b: o.ReferenceB = None,
    min_peak_prob: o.MinPeakProb = None,
    fod_method: Annotated[
        str, typer.Option("--fod-method", help="Method for orientations.")
    ] = "auto",
    track_method: Annotated[
        str, typer.Option("--track-method", help="Method for tractography.")
    ] = "auto",
    streamlines: Annotated[
        int,
        typer.Option("--streamlines", help="Streamlines to keep; 0 leaves tracking out.", min=0),
    ] = 100_000,
    tractogram: Annotated[str, typer.Option("--tractogram", help="trx, tck or trk.")] = "trx",
    tracts: Annotated[
        bool,
        typer.Option("--tracts/--no-tracts", help="Tracts and profiles along them."),
    ] = True,
    truth: Annotated[
        Path | None,
        typer.Option("--truth", help="Folder of true maps to stand beside the estimates."),
    ] = None,
    *,
    scan: ScanOptions,
) -> None:
    """The whole job: checks, noise, mask, maps with errors, fibre orientation, tractogram, report.

    Safe to stop and run again: finished steps are reused if inputs, options and version are the same.

    [bold]Examples[/]

      fornix run sub-01_dwi.nii.gz -o out
      fornix run dwi_dir-AP.nii.gz --reversed dwi_dir-PA.nii.gz -o out --dry-run
      fornix run dwi.nii.gz -o out --preprocess fast --threads 8
      fornix run dwi.nii.gz -o out --enhance 1.5
      fornix run dwi.nii.gz --bval x.bval --bvec x.bvec -o out --models dti,dki --streamlines 0
    """
    from fornix.pipeline import run
    from fornix.workflow.contents import contents
    from fornix.workflow.options import Options
    from fornix.workflow.plan import plan
    from fornix.workflow.stages import acquisition_of

    o.check_tractogram(tractogram)
    options = Options(
        preprocess=preprocess,
        enhance=enhance,
        phase_encoding=phase_encoding,
        readout_time=readout_time,
        sigma=scan.sigma,
        models=o.models_of(models),
        method=method,
        quantiles=o.levels(quantiles),
        adapt=adapt,
        reference_b=reference_b,
        min_peak_prob=min_peak_prob,
        fod_method=fod_method,
        track_method=track_method,
        streamlines=streamlines,
        tractogram_format=tractogram,
        tracts=tracts,
        seed=scan.seed,
        threads=scan.threads,
        device=scan.device,
        max_memory=scan.max_memory,
    )
    show, start = Shown(), time.perf_counter()
    if dry_run:
        dwi = scan.load(path)
        show.plan(plan(dwi, options, acquisition_of(dwi, options, reversed_scan, t1)))
        return
    try:
        result = run(
            path,
            out,
            options,
            bval=scan.bval,
            bvec=scan.bvec,
            grad=scan.grad,
            mask=scan.mask,
            b0_threshold=scan.b0_threshold,
            exclude=scan.excluded,
            truth=truth,
            reversed_scan=reversed_scan,
            t1=t1,
            show=show,
        )
    finally:
        show.close()
    console.print(f"in {result.folder}:", markup=False)
    lines = contents(result.folder, result.dwi.stem)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        console.print(f"  {name:<{width}}  {text}", markup=False)
    seconds = time.perf_counter() - start
    console.print(f"done in {seconds:.0f} s: open {result.report}", markup=False, soft_wrap=True)
