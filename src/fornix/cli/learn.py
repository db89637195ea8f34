"""`fornix train` and `fornix weights`: networks made again from nothing, and checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.show import console
from fornix.core.errors import FornixError

weights_app = typer.Typer(help="The weights that ship with the package.", no_args_is_help=True)


def train_command(
    name: Annotated[
        str,
        typer.Argument(
            help="voxelwise, context, spatial, fod, tissue, enhance, policy, plausibility, template, "
            "tracts72, hcp1065 or tracts."
        ),
    ],
    work: Annotated[
        Path, typer.Option("--work", help="Folder for checkpoint, log and plot.")
    ] = Path("runs"),
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for the weights; the package's own if absent."),
    ] = None,
    anatomy: Annotated[
        Path | None,
        typer.Option(
            "--anatomy", help="Folder of a subject's bedpostx fit; else the built-in head."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            help="Steps instead of the recipe's; 0 with --finetune calibrates anew.",
            min=0,
        ),
    ] = None,
    protocols: Annotated[
        int, typer.Option("--protocols", help="Random protocols of the calibration.", min=1)
    ] = 400,
    finetune: Annotated[
        bool,
        typer.Option("--finetune", help="Go on from the weights that ship, not from nothing."),
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            help="Voxels, patches or scans of a step instead of the recipe's: more on a GPU.",
            min=1,
        ),
    ] = None,
    keep: Annotated[
        float,
        typer.Option(
            "--keep",
            help="tissue with --finetune: share of the weights begun with in those that are saved.",
            min=0,
            max=1,
        ),
    ] = 0.0,
    device: o.Device = "auto",
    devices: Annotated[int, typer.Option("--devices", help="GPUs to use together.", min=1)] = 1,
) -> None:
    """Train a shipped network again from nothing; go on where it was if it was stopped.

    [bold]Examples[/]

      fornix train voxelwise --anatomy anatomy/
      fornix train policy --anatomy anatomy/
      fornix train context --work runs --steps 50 -o /tmp/weights --protocols 4
    """
    from fornix.nets.weights import FOLDER
    from fornix.training import tracking_recipes as tracking
    from fornix.training import tract_recipes as tracts
    from fornix.training.build import make
    from fornix.training.tasks import enhance, tissue

    if keep and not (name == tissue.NAME and finetune):
        raise FornixError("--keep goes with fornix train tissue --finetune; leave it out")
    if name in tracts.RECIPES:
        done = tracts.make(name, anatomy, steps, work, out or FOLDER, tell=_tell)
        console.print(f"done: {done}", markup=False)
        return
    if name in tracking.RECIPES:
        if finetune:
            raise FornixError(f"{name} is trained from nothing only; leave out --finetune")
        done = tracking.make(name, work, anatomy, steps, out or FOLDER, tell=_tell)
        console.print(f"done: {done}", markup=False)
        return
    if name == tissue.NAME:
        done = tissue.make(
            work, anatomy, steps, device, devices, out or FOLDER, finetune, batch, keep, tell=_tell
        )
        console.print(f"done: {done}", markup=False)
        return
    if name == enhance.NAME:
        done = enhance.make(
            work,
            anatomy,
            steps,
            device,
            out or FOLDER,
            finetune=finetune,
            batch=batch,
            tell=_tell,
        )
        console.print(f"done: {done}", markup=False)
        return
    made = make(
        name, work, anatomy, steps, device, devices, out or FOLDER, protocols, finetune, batch,
        tell=_tell,
    )  # fmt: skip
    console.print(f"done: {made}", markup=False)


def _tell(line: str) -> None:
    console.print(line, highlight=False)


@weights_app.command("list")
def list_command() -> None:
    """Name, size and hash of every file of weights."""
    from fornix.nets import weights

    for name, sha in weights.manifest().items():
        path = weights.FOLDER / f"{name}.safetensors"
        size = path.stat().st_size / 1e6 if path.exists() else 0.0
        about = weights.load(name).about["recipe"]["about"]
        console.print(f"{name:<12} {size:5.2f} MB  {sha[:12]}  {about}", highlight=False)


@weights_app.command("verify")
def verify_command() -> None:
    """Check every file against its hash; exit code 1 if any is damaged."""
    from fornix.nets import weights

    found = weights.verify()
    for name, wrong in found.items():
        console.print(f"{name:<12} {wrong or 'right'}", highlight=False)
    if any(found.values()):
        sys.exit(1)
