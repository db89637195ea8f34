"""`fornix enhance` and `fornix predict`: other gradients, smaller voxels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.scan_options import ScanOptions, reads_scan
from fornix.core.errors import FornixError

Method = Annotated[
    str,
    typer.Option(
        "--method",
        help="Of other gradients: learned, voxelwise (networks) or encoder (no network).",
    ),
]
Adapt = Annotated[
    bool | None,
    typer.Option(
        "--adapt/--no-adapt",
        help="Fit the encoder's prior (by default), or what a network takes the scan to be (not "
        "by default), to the scan first.",
    ),
]


@reads_scan()
def enhance_command(
    path: o.Input,
    out: o.Out,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="PROTOCOL",
            help="Gradients: a scheme such as ukb or hcp, a bval file with its bvec beside it, "
            "bval,bvec, an MRtrix table, or another scan.",
        ),
    ] = None,
    voxel_size: Annotated[
        str | None,
        typer.Option(
            "--voxel-size",
            metavar="MM",
            help="Smaller voxels, one number or three (1.25 or 1.5,1.5,2): down to a third of the measured.",
        ),
    ] = None,
    method: Method = "auto",
    adapt: Adapt = None,
    *,
    scan: ScanOptions,
) -> None:
    """Bring the scan to other gradients, to smaller voxels, or both, with a standard deviation.

    Gradients by the mixture of network, Gaussian process and tensor that the scan's own volumes ask for;
    voxels by a network that mixes the measured ones and is held to them. Writes STEM_desc-enhanced_dwi and
    STEM_desc-enhancedstd_dwi, in smaller voxels also STEM_desc-enhanced_mask.

    [bold]Examples[/]

      fornix enhance dwi.nii.gz --to ukb -o out
      fornix enhance dwi.nii.gz --to other-site_dwi.nii.gz -o out
      fornix enhance dwi.nii.gz --voxel-size 1.5 -o out
      fornix enhance dwi.nii.gz --to hcp --voxel-size 1.25 -o out
    """
    from fornix.enhance.grids import fine_grid
    from fornix.enhance.protocols import target_gradients
    from fornix.workflow.options import Options
    from fornix.workflow.stages import enhance_stage

    size = None if voxel_size is None else o.millimetres(voxel_size)
    if to is None and size is None:
        raise FornixError("say what to enhance: --to PROTOCOL, --voxel-size MM, or both")
    given = scan.load(path)
    target = None if to is None else target_gradients(to, given.affine)
    if size is not None:
        fine_grid(given, size)  # says what is wrong with it before any work
    del given
    options = Options(threads=scan.threads, device=scan.device, max_memory=scan.max_memory)
    with scan.prepared(path, out) as (job, state):
        enhance_stage(job, state, target, size, options, method=method, adapt=adapt)


@reads_scan("bval", "bvec", "grad")
def predict_command(
    path: o.Input,
    out: o.Out,
    bval: Annotated[
        Path | None, typer.Option("--bval", help="b-values to predict at (FSL).")
    ] = None,
    bvec: Annotated[
        Path | None, typer.Option("--bvec", help="b-vectors to predict at (FSL, the scan's axes).")
    ] = None,
    grad: Annotated[
        Path | None, typer.Option("--grad", help="Or an MRtrix gradient table to predict at.")
    ] = None,
    scan_bval: Annotated[
        Path | None, typer.Option("--scan-bval", help="The scan's own, if not beside it.")
    ] = None,
    scan_bvec: Annotated[
        Path | None, typer.Option("--scan-bvec", help="The scan's own, if not beside it.")
    ] = None,
    method: Method = "learned",
    adapt: Adapt = None,
    *,
    scan: ScanOptions,
) -> None:
    """Predict the scan at other gradients, with a standard deviation: `fornix enhance --to` by files.

    Any protocol in, any protocol out. Writes STEM_desc-predicted_dwi and STEM_desc-predictedstd_dwi.

    [bold]Example[/]

      fornix predict dwi.nii.gz --bval hcp.bval --bvec hcp.bvec -o out
    """
    from fornix.io import read_fsl, read_mrtrix
    from fornix.workflow.options import Options
    from fornix.workflow.stages import enhance_stage

    if grad is None and (bval is None or bvec is None):
        raise FornixError("say where to predict: --bval and --bvec, or --grad")
    scan = replace(scan, bval=scan_bval, bvec=scan_bvec)
    options = Options(threads=scan.threads, device=scan.device, max_memory=scan.max_memory)
    with scan.prepared(path, out) as (job, state):
        target = (
            read_mrtrix(grad)
            if grad is not None
            else read_fsl(bval or "", bvec or "", state.dwi.affine)
        )
        enhance_stage(
            job, state, target, None, options, method=method, adapt=adapt, step="predict",
            desc="predicted",
        )  # fmt: skip
