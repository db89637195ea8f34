"""`fornix bench`: the tables of the documentation, made again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fornix.cli import options as o
from fornix.core.errors import FornixError


def bench_command(
    suite: Annotated[
        str,
        typer.Argument(
            help="speed, tracking-speed, tractography, classical, unseen, microstructure, orientation, "
            "mosaics or tracts."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for tables and plots.")] = Path(
        "docs/benchmarks"
    ),
    section: Annotated[
        list[str] | None,
        typer.Option(
            "--section",
            help="Of microstructure: make this part again and keep the others; may be given again.",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller, to see that it runs.")] = False,
    seed: o.Seed = 0,
    threads: o.Threads = 2,
) -> None:
    """Measure speed and accuracy against DIPY, MRtrix3 and AMICO on the same data in the same run.

    Peers that are not installed are left out with a message.

    [bold]Examples[/]

      fornix bench speed
      fornix bench classical -o /tmp/tables --quick
      fornix bench unseen          (real scans, from FORNIX_TEST_DATA)
      fornix bench microstructure  (learned and classical estimates, uncertainty, speed)
      fornix bench tractography    (valid streamlines before and after filtering)
      fornix bench tracts          (a real scan's tractogram, to be looked at)
      fornix bench orientation     (missed and spurious fibres, angles, close crossings)
    """
    from fornix_bench import SUITES

    if suite not in SUITES:
        raise FornixError(f"no benchmark {suite!r}; choose one of: {', '.join(SUITES)}")
    more: dict[str, Any] = {}
    if section:
        from fornix_bench.suites.microstructure.suite import SECTIONS

        if suite != "microstructure" or not set(section) <= set(SECTIONS):
            raise FornixError(
                f"--section goes with microstructure; choose some of: {', '.join(SECTIONS)}"
            )
        more = {"sections": section}
    SUITES[suite](out, threads=threads, quick=quick, seed=seed, **more)
