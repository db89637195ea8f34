"""`fornix info`: what a scan is."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from fornix.cli import options as o
from fornix.cli.show import console


def info_command(
    path: o.Input,
    bval: o.Bval = None,
    bvec: o.Bvec = None,
    grad: o.Grad = None,
    mask: o.Mask = None,
    b0_threshold: o.B0Threshold = 50.0,
    exclude: o.Exclude = "",
    max_memory: o.MaxMemory = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Shells, spread of directions, grid, SNR, gradient check, and what can be estimated.

    The check tries flips and swapped axes of the table against the fibres in the data. A wrong table
    is reported with the fix and never changed.

    [bold]Examples[/]

      fornix info dwi.nii.gz
      fornix info dwi.nii.gz --bval other.bval --bvec other.bvec --json
    """
    from fornix.io import load, read_mask
    from fornix.workflow.scan_facts import describe

    dwi = load(
        path, bval=bval, bvec=bvec, grad=grad, b0_threshold=b0_threshold, exclude=o.volumes(exclude),
        max_memory=max_memory,
    )  # fmt: skip
    if mask is not None:
        dwi = dwi.with_(mask=read_mask(mask, dwi))
    facts = describe(dwi)
    if as_json:
        typer.echo(json.dumps(facts.as_dict(), indent=2))
        return
    for label, text in facts.lines():
        console.print(f"[bold]{label:<12}[/]{escape(text)}")
    for note in facts.notes:
        if note not in dwi.notes and not note.startswith("gradients:"):
            console.print(f"[yellow]![/] {escape(note)}")
