"""`fornix experiment`: the studies of the documentation, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.show import console


def experiment_command(
    name: Annotated[str, typer.Argument(help="Name of a study; `help` lists them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for pages and figures.")] = Path(
        "docs/experiments"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Smaller, to see that it runs.")] = False,
    seed: o.Seed = 0,
    threads: o.Threads = 2,
) -> None:
    """Make one of the studies again: a table, figures and a page that says what is seen.

    Needs the distribution fornix-bench.

    [bold]Examples[/]

      fornix experiment help
      fornix experiment mlp-dti6     (a simple perceptron on 6 directions, trained on the way)
      fornix experiment context      (one voxel or its neighbourhood, with lesions)
      fornix experiment calibration  (do the intervals hold)
    """
    from fornix.cli._extensions import found, named

    if name == "help":
        typer.echo("\n".join(found("experiments")))
        return
    named("experiments", name)(
        out, threads=threads or 1, quick=quick, seed=seed,
        tell=lambda line: console.print(line, highlight=False, markup=False),
    )  # fmt: skip
    console.print(f"written: {out / name}.md", markup=False)
