"""`fornix simulate`: a scan with known truth."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.show import Shown, console
from fornix.core.errors import FornixError


def _listed(word: str) -> str:
    """`--protocol help` prints the schemes and needs no folder."""
    if word != "help":
        return word
    from fornix.physics import SCHEMES, scheme

    for name in SCHEMES:
        typer.echo(f"{name:<10}{scheme(name)}")
    raise typer.Exit


def simulate_command(
    out: o.Out,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol", help="Named scheme; `help` lists them.", callback=_listed, is_eager=True
        ),
    ] = "demo",
    bval: Annotated[Path | None, typer.Option("--bval", help="b-values of your protocol.")] = None,
    bvec: Annotated[Path | None, typer.Option("--bvec", help="b-vectors of your protocol.")] = None,
    anatomy: Annotated[
        str, typer.Option("--anatomy", help="embedded, or a folder with bedpostx/ and bundles72/.")
    ] = "embedded",
    snr: Annotated[float, typer.Option("--snr", help="b0 signal over noise, white matter.")] = 30.0,
    coils: Annotated[
        int, typer.Option("--coils", help="1: Rician; more: non-central chi.", min=1)
    ] = 1,
    artefacts: Annotated[
        str, typer.Option("--artefacts", help="none, mild, typical or severe.")
    ] = "none",
    lesions: Annotated[int, typer.Option("--lesions", help="How many lesions.", min=0)] = 0,
    voxel_size: Annotated[float, typer.Option("--voxel-size", help="mm.", min=0.5)] = 2.5,
    seed: o.Seed = 0,
    threads: o.Threads = None,
    device: o.Device = "auto",
) -> None:
    """Simulate a whole-brain scan; writes the DWI and, in OUT/truth, all true maps.

    [bold]Examples[/]

      fornix simulate -o phantom --protocol dti30 --snr 20
      fornix simulate -o phantom --bval my.bval --bvec my.bvec --artefacts typical --lesions 4
    """
    from fornix.core.gradients import Gradients
    from fornix.io import derivative, read_fsl, save_maps, save_mask, save_scan, write_sidecar
    from fornix.io.files import output_folder
    from fornix.io.nifti import write_image
    from fornix.physics import simulate
    from fornix.physics.anatomy import from_subject

    if (bval is None) != (bvec is None):
        raise FornixError("give both --bval and --bvec, or a named --protocol")
    table: str | Gradients = protocol
    if bval is not None and bvec is not None:
        # In FSL's convention on the phantom's own axes, which are those of world space.
        table = read_fsl(bval, bvec, _PHANTOM_AXES)
    folder = output_folder(out)
    show, start = Shown(), time.perf_counter()
    try:
        show.begin("simulate")
        made = simulate(
            anatomy if anatomy == "embedded" else from_subject(anatomy),
            table,
            snr,
            coils=coils,
            artefacts=artefacts,
            seed=seed,
            voxel_size=voxel_size,
            lesions=lesions,
            device=device,
            threads=threads,
        )
        size = " x ".join(map(str, made.dwi.grid))
        show.end("simulate", time.perf_counter() - start, f"{size}; {made.dwi.gradients}", False)
        facts = {
            "Simulated": True, "Protocol": protocol, "Snr": snr, "Coils": coils, "Seed": seed,
            "Artefacts": artefacts, "Lesions": lesions, "Anatomy": Path(anatomy).name,
        }  # fmt: skip
        scan = folder / f"{made.dwi.stem}_dwi.nii.gz"
        save_scan(made.dwi, scan)
        write_sidecar(scan, {**made.dwi.meta, **facts})
        truth = output_folder(folder / "truth")
        save_maps(made.truth, truth, made.dwi.stem, facts)
        mask = truth / derivative(made.dwi.stem, "mask", desc="brain")
        save_mask(made.mask, made.dwi.affine, mask, facts)
        noise = truth / derivative(made.dwi.stem, "dwimap", param="noise")
        write_image(noise, made.sigma, made.dwi.affine)
        write_sidecar(noise, {"Description": "true noise level", **facts})
    finally:
        show.close()
    console.print(f"done: [bold]{scan}[/], truth in {truth}")


_PHANTOM_AXES = [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
