"""`fornix experiment`: the studies of the documentation, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.show import console
from fornix.core.errors import FornixError


def experiment_command(
    name: Annotated[str, typer.Argument(help="mlp-dti6, context, losses, ood or calibration.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for pages and figures.")] = Path(
        "docs/experiments"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Smaller, to see that it runs.")] = False,
    seed: o.Seed = 0,
    threads: o.Threads = 2,
) -> None:
    """Make one of the studies again: a table, figures and a page that says what is seen.

    [bold]Examples[/]

      fornix experiment mlp-dti6     (a simple perceptron on 6 directions, trained on the way)
      fornix experiment context      (one voxel or its neighbourhood, with lesions)
      fornix experiment losses       (what to train for where noise is strong)
      fornix experiment ood          (does the score rise where the error does)
      fornix experiment calibration  (do the intervals hold)
    """
    from fornix_bench.experiments import EXPERIMENTS

    if name not in EXPERIMENTS:
        raise FornixError(f"no experiment {name!r}; choose one of: {', '.join(EXPERIMENTS)}")
    EXPERIMENTS[name](
        out, threads=threads or 1, quick=quick, seed=seed,
        tell=lambda line: console.print(line, highlight=False),
    )  # fmt: skip
    console.print(f"written: [bold]{out / name}.md[/]")
