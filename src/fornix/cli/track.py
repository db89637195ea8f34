"""`fornix track`: streamlines of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.scan_options import ScanOptions, reads_scan

_SEEDS = "Mask to start in; the white matter if absent."
_FOD = "Orientations of another tool (harmonics, MRtrix3's basis) on the scan's grid."
_SEEDING = (
    "voxel (anywhere), interface (grey meets white) or dynamic (where streamlines are still few); auto is "
    "dynamic, or voxel where --seeds or --seeds-per-voxel are given."
)
_TISSUE = "T1 segmentation aligned with the scan: 5ttgen's, 3 volumes (white, grey, fluid) or FAST labels."


@reads_scan()
def track_command(
    path: o.Input,
    out: o.Out,
    method: Annotated[str, o.method_option("track")] = "auto",
    streamlines: Annotated[
        int, typer.Option("--streamlines", help="Streamlines to keep.", min=1)
    ] = 100_000,
    tractogram: Annotated[
        str, typer.Option("--tractogram", help="trx (grows on disk), tck or trk.")
    ] = "trx",
    seeds: Annotated[Path | None, typer.Option("--seeds", help=_SEEDS)] = None,
    seeding: Annotated[str, typer.Option("--seeding", help=_SEEDING)] = "auto",
    seeds_per_voxel: Annotated[
        int | None,
        typer.Option("--seeds-per-voxel", help="So many in each voxel and no more.", min=1),
    ] = None,
    step: Annotated[
        float | None, typer.Option("--step", help="mm; half a voxel, at most 1, if absent.")
    ] = None,
    angle: Annotated[
        float | None,
        typer.Option("--angle", help="Largest turn per step, degrees; 30, or 15 for ptt."),
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Least FOD, as a share of its typical largest.")
    ] = 0.1,
    min_length: Annotated[
        float | None,
        typer.Option("--min-length", help="mm; 20 if absent, less in brains smaller than human."),
    ] = None,
    max_length: Annotated[
        float | None,
        typer.Option("--max-length", help="mm; 250 if absent, less in brains smaller than human."),
    ] = None,
    fod: Annotated[Path | None, typer.Option("--fod", help=_FOD)] = None,
    tissue: Annotated[Path | None, typer.Option("--tissue", help=_TISSUE)] = None,
    include: Annotated[
        list[Path] | None,
        typer.Option("--include-region", help="Mask to pass through; may be given again."),
    ] = None,
    avoid: Annotated[
        list[Path] | None,
        typer.Option("--exclude-region", help="Mask never to enter; may be given again."),
    ] = None,
    stop: Annotated[
        list[Path] | None,
        typer.Option("--stop-region", help="Mask to end in; may be given again."),
    ] = None,
    act_ends: Annotated[
        bool,
        typer.Option(
            "--act-ends/--no-act-ends",
            help="Keep only streamlines that end in grey matter (anatomically constrained).",
        ),
    ] = True,
    *,
    scan: ScanOptions,
) -> None:
    """Track streamlines from a scan; orientations in OUT of the same scan are reused.

    A trx file grows as streamlines are found; where tracking is stopped, they are in a folder
    NAME.trx.partial.

    [bold]Examples[/]

      fornix track dwi.nii.gz -o out --streamlines 20000 --tractogram tck
      fornix track dwi.nii.gz -o out --method ptt --seeding interface --tissue 5tt.nii.gz
      fornix track dwi.nii.gz -o out --include-region stem.nii.gz --exclude-region midline.nii.gz
    """
    from fornix.estimators.external_fod import read_fod
    from fornix.workflow import stages as p
    from fornix.workflow.track_options import TrackOptions

    o.check_tractogram(tractogram)
    settings = p.Options(
        seed=scan.seed,
        threads=scan.threads,
        device=scan.device,
        tractogram_format=tractogram,
        max_memory=scan.max_memory,
    )
    asked = TrackOptions(
        seeds, seeding, seeds_per_voxel, step, angle, threshold, min_length, max_length, tissue,
        tuple(include or ()), tuple(avoid or ()), tuple(stop or ()), act_ends, fod,
    )  # fmt: skip
    with scan.prepared(path, out) as (job, state):
        asked.arguments(state.dwi)  # says what is wrong before the long part
        given = None if fod is None else read_fod(fod, state.dwi)
        if given is None:  # with a given tissue the tensor is not asked
            p.orientation_stages(job, state, settings, tensor_needed=tissue is None)
        else:
            if tissue is None:
                p.microstructure_stage(job, state, ("dti",), "auto", settings)
            state.maps = state.maps.merged(given)
        p.track_stage(job, state, method, streamlines, settings, asked)
