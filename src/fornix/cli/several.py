"""Commands of several scans together: one person over sessions, and a study's own template."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o


def longitudinal_command(
    sessions: Annotated[
        list[Path],
        typer.Argument(
            help="Diffusion scans of one person in order of time, two or more; corrected ones, as "
            "fornix run writes them (…_desc-preproc_dwi).",
            show_default=False,
        ),
    ],
    out: o.Out,
    kind: Annotated[
        str, typer.Option("--kind", help="Between sessions: rigid or similarity.")
    ] = "rigid",
    models: Annotated[
        str, typer.Option("--models", help="Of dti,dki,noddi, by comma; auto: all possible.")
    ] = "auto",
    method: Annotated[
        str, typer.Option("--method", help="Of fornix microstructure; auto is learned.")
    ] = "auto",
    nodes: Annotated[int, typer.Option("--nodes", help="Nodes along each tract.", min=2)] = 100,
    seed: o.Seed = 0,
    threads: o.Threads = None,
    device: o.Device = "auto",
    max_memory: o.MaxMemory = None,
) -> None:
    """Changes of one person along tracts, from session to session, each with its 90% interval.

    The sessions meet half-way, so that none is favoured; their mean is registered to MNI space once, and all
    share its tracts. Writes STEM_change.html, STEM_desc-change_tracts.tsv, …_desc-changeprofiles_tracts.tsv,
    the profiles of each session, the warps, and the maps of each session in OUT/session1, OUT/session2, …

    [bold]Example[/]

      fornix longitudinal ses-1_dwi.nii.gz ses-2_dwi.nii.gz -o out
    """
    from fornix.cli.show import Shown, console
    from fornix.core.compute import use_threads
    from fornix.workflow.longitudinal import follow
    from fornix.workflow.stages import Options

    words = models if models == "auto" else tuple(m.strip() for m in models.split(",") if m.strip())
    chosen = Options(
        models=words,
        method=method,
        seed=seed,
        threads=threads,
        device=device,
        max_memory=max_memory,
    )
    show = Shown()
    try:
        with use_threads(threads):
            table = follow(sessions, out, chosen, kind=kind, nodes=nodes, show=show)
    finally:
        show.close()
    console.print(f"done: changes are in {table}", markup=False)


def template_command(
    scans: Annotated[
        list[Path],
        typer.Argument(
            help="Diffusion scans, one a person, two or more; corrected ones.", show_default=False
        ),
    ],
    out: o.Out,
    rounds: Annotated[
        int, typer.Option("--rounds", help="One affine, the others deformable.", min=1)
    ] = 4,
    threads: o.Threads = None,
    max_memory: o.MaxMemory = None,
) -> None:
    """A study's own template: the mean of its heads in their mean shape.

    Writes template.npz, to which fornix register brings scans, its FA and tissues as images, and how far the
    heads are from their mean, round by round.

    [bold]Examples[/]

      fornix template sub-*_dwi.nii.gz -o study
      fornix register sub-01_dwi.nii.gz study/template.npz -o out
    """
    from fornix.cli.show import Shown, console
    from fornix.core.compute import use_threads
    from fornix.workflow.study_template import make_template

    show = Shown()
    try:
        with use_threads(threads):
            path = make_template(
                scans, out, rounds=rounds, threads=threads, max_memory=max_memory, show=show
            )
    finally:
        show.close()
    console.print(f"done: the template is {path}", markup=False)
