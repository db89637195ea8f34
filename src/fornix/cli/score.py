"""`fornix score`: a tractogram against bundles that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.show import console


def score_command(
    tractogram: Annotated[Path, typer.Argument(help="trx, tck or trk file.", show_default=False)],
    truth: Annotated[
        Path,
        typer.Argument(
            help="Folder with bundles.json, as `fornix simulate --bundles` writes.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="JSON file; beside the tractogram if left out."),
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", help="mm a streamline may leave its bundle's mask.", min=0)
    ] = 5.0,
    end_margin: Annotated[
        float, typer.Option("--end-margin", help="mm by which end regions are widened.", min=0)
    ] = 2.5,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", help="Image that was tracked on, for trk files without a place."
        ),
    ] = None,
    threads: o.Threads = None,
) -> None:
    """Tractometer's measures of a tractogram: VS, IS, NC, VB, IB, and OL, OR, F1 of every bundle.

    A streamline is valid if its two ends lie in the two end regions of one bundle and it stays within
    the margin of that bundle's mask; invalid if its ends lie in end regions but it is not valid; a
    no-connection if an end lies in none.

    [bold]Examples[/]

      fornix simulate --bundles bundles72 -o phantom
      fornix track phantom/sub-phantom_dwi.nii.gz -o out
      fornix score out/sub-phantom_tractogram.trx phantom/truth
    """
    from fornix.io import write_json
    from fornix.io.sidecar import command_line
    from fornix.tractography.scoring.score import score

    found = score(
        tractogram,
        truth,
        margin=margin,
        end_margin=end_margin,
        reference=reference,
        threads=threads,
    )
    path = tractogram.with_name(f"{tractogram.stem}_score.json") if out is None else out
    write_json(path, {**found.as_dict(), "Command": command_line()})
    console.print(str(found), markup=False, highlight=False)
    console.print(f"done: {path}", markup=False)
