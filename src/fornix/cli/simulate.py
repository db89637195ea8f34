"""`fornix simulate`: a scan with known truth."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from fornix.cli import options as o
from fornix.cli.show import Shown, console
from fornix.core.errors import FornixError
from fornix.core.maps import Map, Maps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fornix.physics import Bundle, Phantom


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
    bundles: Annotated[
        Path | None,
        typer.Option(
            "--bundles", help="Fibres of a folder of trk, tck or trx; truth for `fornix score`."
        ),
    ] = None,
    deform: Annotated[
        float, typer.Option("--deform", help="With --bundles: RMS displacement, mm.", min=0)
    ] = 3.0,
    thin: Annotated[
        float,
        typer.Option("--thin", help="With --bundles: least share of streamlines kept.", max=1.0),
    ] = 0.5,
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
      fornix simulate -o phantom --bundles bundles72 --protocol dti30 --snr 20
    """
    from fornix.core.gradients import Gradients
    from fornix.io import derivative, read_fsl, save_maps, save_mask, save_scan, write_sidecar
    from fornix.io.files import output_folder
    from fornix.io.nifti import write_image
    from fornix.physics import simulate
    from fornix.physics.anatomy import Anatomy, from_subject
    from fornix.physics.bundles import from_bundles
    from fornix.tractography.scoring.truth import write_truth

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
        head: str | Anatomy = "embedded"
        if bundles is not None:
            around = None if anatomy == "embedded" else anatomy
            head = from_bundles(
                bundles, anatomy=around, seed=seed, voxel_size=voxel_size, thin=(thin, 1.0),
                amplitude=deform,
            )  # fmt: skip
        elif anatomy != "embedded":
            head = from_subject(anatomy)
        made = simulate(
            head,
            protocol=table,
            snr=snr,
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
        if bundles is not None:
            facts |= {"Bundles": bundles.name, "DeformMm": deform, "Thin": thin}
            save_maps(_fibre_truth(made), truth, made.dwi.stem, facts)
            write_truth(_bundles_of(made), made.dwi.affine, truth)
        noise = truth / derivative(made.dwi.stem, "dwimap", param="noise")
        write_image(noise, made.sigma, made.dwi.affine)
        write_sidecar(noise, {"Description": "true noise level", **facts})
    finally:
        show.close()
    console.print(f"done: {scan}, truth in {truth}", markup=False)


def _bundles_of(made: Phantom) -> Mapping[str, Bundle]:
    return {} if made.anatomy is None else made.anatomy.bundles


def _fibre_truth(made: Phantom) -> Maps:
    """Axes, fractions and dispersion of the populations, tissue, and how many bundles pass."""
    head = made.anatomy
    assert head is not None
    count = np.sum([b.mask for b in head.bundles.values()], axis=0, dtype=np.float32)
    tissue = np.stack([head.wm, head.gm, head.csf], -1)
    told = {
        "mu": (head.mu.reshape(*head.grid, 9), "axes of three fibre populations, world axes"),
        "fraction": (head.fraction, "their shares of the neural tissue, in the order of mu"),
        "odi": (head.odi, "their orientation dispersion index, in the order of mu"),
        "tissue": (tissue, "volume fractions of white matter, grey matter and fluid"),
        "bundles": (count, "how many bundles pass through the voxel"),
    }
    return Maps(
        {
            name: Map(
                "",
                name,
                np.asarray(values, np.float32),
                head.affine,
                method="truth",
                description=f"true {text}",
            )
            for name, (values, text) in told.items()
        }
    )


_PHANTOM_AXES = [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
