"""The command `fornix`: one file per command, gathered here."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from fornix.cli import (
    bench,
    cite,
    compare,
    connectome,
    enhance,
    experiment,
    filter,
    harmonize,
    info,
    learn,
    run,
    score,
    several,
    simulate,
    stages,
    track,
    tracts,
)
from fornix.cli.show import errors, spoken_warnings
from fornix.core.errors import FornixError
from fornix.core.version import __version__

app = typer.Typer(
    name="fornix",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""
    Diffusion MRI of the brain, from a raw scan of any protocol to maps, fibres and a report.

    [bold]Start here[/]

      fornix info dwi.nii.gz                     what is this scan, and what can be made of it
      fornix run dwi.nii.gz -o out               the whole job; look at out/*_report.html
      fornix simulate -o phantom --snr 20        a scan with known truth
    """,
    epilog="Exit codes: 0 done, 1 bad input, 2 wrong usage. Errors are one line; --debug shows all.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and stop.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options before the command."""
    if debug:
        os.environ["FORNIX_DEBUG"] = "1"


app.command("run")(run.run_command)
app.command("info")(info.info_command)
app.command("denoise")(stages.denoise_command)
app.command("mask")(stages.mask_command)
app.command("correct")(stages.correct_command)
app.command("distortion")(stages.distortion_command)
app.command("qc")(stages.qc_command)
app.command("microstructure")(stages.microstructure_command)
app.command("fod")(stages.fod_command)
app.command("track")(track.track_command)
app.command("register")(tracts.register_command)
app.command("tracts")(tracts.tracts_command)
app.command("profile")(tracts.profile_command)
app.command("longitudinal")(several.longitudinal_command)
app.command("template")(several.template_command)
app.command("label")(tracts.label_command)
app.command("warp")(tracts.warp_command)
app.command("filter")(filter.filter_command)
app.command("connectome")(connectome.connectome_command)
app.command("compare")(compare.compare_command)
app.add_typer(harmonize.harmonize_app, name="harmonize")
app.command("score")(score.score_command)
app.command("enhance")(enhance.enhance_command)
app.command("predict")(enhance.predict_command)
app.command("report")(stages.report_command)
app.command("simulate")(simulate.simulate_command)
app.command("bench")(bench.bench_command)
app.command("experiment")(experiment.experiment_command)
app.command("train")(learn.train_command)
app.add_typer(learn.weights_app, name="weights")
app.command("cite")(cite.cite_command)


def main() -> None:
    """Entry point: errors as one line, exit codes 0, 1 (bad input) and 2 (usage)."""
    try:
        with spoken_warnings():
            app()
    except FornixError as error:
        if os.environ.get("FORNIX_DEBUG"):
            raise
        errors.print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("stopped; run the same command again to go on where it was")
        sys.exit(130)
