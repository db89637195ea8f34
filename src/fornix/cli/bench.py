"""`fornix bench`: the tables of the documentation, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fornix.cli import options as o


def bench_command(
    suite: Annotated[str, typer.Argument(help="Name of a benchmark; `help` lists them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for tables and plots.")] = Path(
        "docs/benchmarks"
    ),
    section: Annotated[
        list[str] | None,
        typer.Option(
            "--section",
            help="Of a suite of several parts: make this one again and keep the others; may be given "
            "again.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller, to see that it runs.")] = False,
    seed: o.Seed = 0,
    threads: o.Threads = 2,
) -> None:
    """Measure speed and accuracy against DIPY, MRtrix3 and AMICO on the same data in the same run.

    Needs the distribution fornix-bench. Peers that are not installed are left out with a message.

    [bold]Examples[/]

      fornix bench help
      fornix bench commands        (whole commands: time and memory against MRtrix3)
      fornix bench unseen          (real scans, from FORNIX_TEST_DATA)
      fornix bench microstructure  (learned and classical estimates, uncertainty, speed)
      fornix bench orientation     (missed and spurious fibres, angles, close crossings)
    """
    from fornix.cli._extensions import found, named

    if suite == "help":
        typer.echo("\n".join(found("suites")))
        return
    more: dict[str, Any] = {"sections": section} if section else {}
    named("suites", suite)(out, threads=threads, quick=quick, seed=seed, **more)
