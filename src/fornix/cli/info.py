"""`fornix info`: what a scan is."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from fornix.cli import options as o
from fornix.cli.scan_options import ScanOptions, reads_scan
from fornix.cli.show import console


@reads_scan()
def info_command(
    path: o.Input,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    *,
    scan: ScanOptions,
) -> None:
    """Shells, spread of directions, grid, SNR, gradient check, and what can be estimated.

    The check tries flips and swapped axes of the table against the fibres in the data. A wrong table
    is reported with the fix and never changed.

    [bold]Examples[/]

      fornix info dwi.nii.gz
      fornix info dwi.nii.gz --bval other.bval --bvec other.bvec --json
    """
    import numpy as np

    from fornix.core.compute import use_threads
    from fornix.io import read_mask
    from fornix.workflow.scan_facts import describe

    dwi = scan.load(path)
    if scan.mask is not None:
        dwi = dwi.with_(mask=read_mask(scan.mask, dwi))
    if scan.sigma is not None:
        dwi = dwi.with_(sigma=np.full(dwi.grid, scan.sigma, dtype=np.float32))
    with use_threads(scan.threads):
        facts = describe(dwi)
    if as_json:
        typer.echo(json.dumps(facts.as_dict(), indent=2))
        return
    for label, text in facts.lines():
        console.print(f"[bold]{label:<12}[/]{escape(text)}")
    for note in facts.notes:
        if note not in dwi.notes and not note.startswith("gradients:"):
            console.print(f"[yellow]![/] {escape(note)}")
