"""`fornix connectome`: how strongly every two regions are joined."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from fornix.cli import options as o
from fornix.cli.show import console
from fornix.core.errors import FornixError


def connectome_command(
    tractogram: Annotated[Path, typer.Argument(help="trx, tck or trk file.", show_default=False)],
    labels: Annotated[
        Path, typer.Argument(help="Label image, any grid, in the same place.", show_default=False)
    ],
    out: o.Out,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="Text file with a weight per streamline, or the name of values in the tractogram.",
        ),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", help="NAME=FILE, averaged along each edge; may be given again."),
    ] = None,
    radius: Annotated[
        float, typer.Option("--radius", help="mm from an end to the centre of a voxel.", min=0)
    ] = 4.0,
    names: Annotated[
        Path | None, typer.Option("--names", help="Table of the labels' index and name.")
    ] = None,
) -> None:
    """Matrices of counts, weights, lengths and map means between regions, each with its uncertainty.

    [bold]Examples[/]

      fornix connectome out/sub-01_tractogram.trx aparc.nii.gz -o out
      fornix connectome tracks.tck aparc.nii.gz -o out --weights sift2.txt --map fa=fa.nii.gz
    """
    from fornix.analysis.connectome import connectome
    from fornix.analysis.connectome_files import read_weights, save_connectome, tractogram_stem
    from fornix.analysis.parcellation import load_parcellation
    from fornix.io import load_tractogram, read_volume
    from fornix.io.files import protected, sha256
    from fornix.io.tractograms import needs_reference

    reference = labels if needs_reference(tractogram) else None
    lines = load_tractogram(tractogram, reference=reference)
    where = load_parcellation(labels, names)
    chosen: NDArray[np.floating] | None = None
    if weights is not None and weights in lines.per_streamline:
        chosen = lines.per_streamline[weights]
    elif weights is not None and Path(weights).exists():
        chosen = read_weights(weights)
    elif weights is not None:
        there = ", ".join(lines.per_streamline) or "none"
        raise FornixError(
            f"--weights {weights} is neither a file nor values in {tractogram.name} (it has: {there})"
        )
    images = {}
    for word in maps or []:
        name, _, image = word.partition("=")
        if not image:
            raise FornixError(f"--map {word} must be NAME=FILE, for example fa=out/fa.nii.gz")
        images[name] = read_volume(image, f"map {name}")
    made = connectome(lines, where, weights=chosen, maps=images, radius=radius)
    with protected(tractogram, labels, names, Path(weights) if weights else None):
        written = save_connectome(
            made, out, tractogram_stem(tractogram),
            {"RadiusMm": radius, "Weights": weights, "Sources": [tractogram, labels],
             "LabelsSha256": sha256(labels)},
        )  # fmt: skip
    joined = int((made.assigned >= 0).all(1).sum())
    console.print(
        f"{len(made.nodes)} nodes; {joined:,} of {len(lines):,} streamlines join two labels "
        f"({(made.assigned >= 0).mean():.0%} of the ends found one)"
    )
    for path in written:
        console.print(f"wrote {path}", markup=False)
