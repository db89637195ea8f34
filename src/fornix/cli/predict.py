"""`fornix predict`: the signal at gradients that were not measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.scan_options import ScanOptions, reads_scan
from fornix.core.errors import FornixError


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
    method: Annotated[
        str, typer.Option("--method", help="learned, voxelwise (networks) or encoder (no network).")
    ] = "learned",
    adapt: Annotated[
        bool | None,
        typer.Option(
            "--adapt/--no-adapt",
            help="Fit the encoder's prior (by default), or what a network takes the scan to be (not "
            "by default), to the scan first.",
        ),
    ] = None,
    *,
    scan: ScanOptions,
) -> None:
    """Predict the scan at other gradients, with a standard deviation.

    By a network on the q-space encoder's features, or by the encoder alone, a Gaussian process whose
    covariance comes from simulated tissue: any protocol in, any protocol out. Writes
    STEM_desc-predicted_dwi and STEM_desc-predictedstd_dwi.

    [bold]Example[/]

      fornix predict dwi.nii.gz --bval hcp.bval --bvec hcp.bvec -o out
    """
    from fornix.estimators.predict import predict
    from fornix.io import derivative, read_fsl, read_mrtrix, save_scan, write_image, write_sidecar
    from fornix.io.scan import load

    if grad is None and (bval is None or bvec is None):
        raise FornixError("say where to predict: --bval and --bvec, or --grad")
    scan = replace(scan, bval=scan_bval, bvec=scan_bvec)
    with scan.prepared(path, out) as (job, state):
        target = (
            read_mrtrix(grad)
            if grad is not None
            else read_fsl(bval or "", bvec or "", state.dwi.affine)
        )

        def save(made: tuple, provenance: dict) -> list[Path]:
            predicted, spread = made
            image = job.out / derivative(job.stem, "dwi", desc="predicted")
            save_scan(predicted, image)
            about = {"Units": "as the scan", "Method": spread.method, **provenance}
            write_sidecar(image, {**about, "Description": "signal predicted at other gradients"})
            error = job.out / derivative(job.stem, "dwi", desc="predictedstd")
            write_image(error, spread.std, state.dwi.affine)
            write_sidecar(
                error,
                {**about, "Description": "standard deviation of the prediction, noise left out"},
            )
            return [image, error]

        def reload() -> tuple:
            image = job.out / derivative(job.stem, "dwi", desc="predicted")
            return load(image), None

        job.step(
            "predict",
            {
                "gradients": target.to_mrtrix().round(6).tolist(),
                "method": method,
                "adapt": adapt,
            },
            lambda progress: predict(
                state.dwi,
                target,
                method=method,
                adapt=adapt,
                threads=scan.threads,
                device=scan.device,
                progress=progress,
            ),
            save,
            reload,
            lambda made: f"{made[0].gradients}",
        )
