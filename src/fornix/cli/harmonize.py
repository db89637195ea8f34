"""`fornix harmonize`: what scanner and site add, fitted to a study, taken out, and told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fornix.cli import options as o
from fornix.cli.scan_options import ScanOptions, reads_scan
from fornix.cli.show import console

if TYPE_CHECKING:
    from fornix.core.dwi import DWI

harmonize_app = typer.Typer(
    no_args_is_help=True,
    help="""
    Make scans of different scanners and sites comparable, and keep what people differ by.

    [bold]Examples[/]

      fornix harmonize fit study.tsv -o study.safetensors --smooth age
      fornix harmonize apply study.safetensors study.tsv -o harmonized
    """,
)

Table = Annotated[
    Path,
    typer.Argument(
        help="TSV or CSV, a row per scan: path (folder of fornix run, table, or image), site, "
        "participant_id, "
        "covariates.",
        show_default=False,
    ),
]
Parcels = Annotated[
    Path | None, typer.Option("--parcels", help="Labels in template space, for --on parcels.")
]
Robust = Annotated[
    bool,
    typer.Option(
        "--robust", help="Leave out what lies far from the rest: a few patients move no site."
    ),
]


@harmonize_app.command("fit")
def fit_command(
    table: Table,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Model to write (.safetensors).", show_default=False)
    ],
    method: Annotated[
        str,
        typer.Option(
            "--method", help="combat: values; rish: the signal, of any protocols; scans come out."
        ),
    ] = "combat",
    level: Annotated[
        str, typer.Option("--on", help="means or profiles of tracts, parcels, voxels, or auto.")
    ] = "auto",
    maps: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="Map to take, for example dti_fa; may be given again. All if absent."
        ),
    ] = None,
    covariates: Annotated[
        str | None,
        typer.Option(
            "--covariates",
            help="Columns whose effect is kept, by comma; age, sex and group if absent; none.",
        ),
    ] = None,
    smooth: Annotated[
        str, typer.Option("--smooth", help="Those of them that are kept as a curve, by comma.")
    ] = "",
    group: Annotated[
        str | None,
        typer.Option("--group", help="Column of patients and controls, kept as a covariate."),
    ] = None,
    fit_on: Annotated[
        str | None,
        typer.Option("--fit-on", help="Fit to this one value of the group, for example control."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="Site that all are made like; the mean if absent."),
    ] = None,
    shrinkage: Annotated[
        str, typer.Option("--shrinkage", help="sites, features (ComBat as published) or none.")
    ] = "sites",
    robust: Robust = False,
    shift_only: Annotated[
        bool, typer.Option("--shift-only", help="Leave the sites' variances as they are.")
    ] = False,
    travelling: Annotated[
        str,
        typer.Option("--travelling", help="Heads at several sites: check, or fit shifts to them."),
    ] = "check",
    parcels: Parcels = None,
) -> None:
    """Fit ComBat to a study: MODEL, its card, and MODEL_harmonize.html with every site before and after.

    [bold]Examples[/]

      fornix harmonize fit study.tsv -o study.safetensors
      fornix harmonize fit study.tsv -o study.safetensors --on voxels --map dti_fa --smooth age
      fornix harmonize fit study.tsv -o study.safetensors --group diagnosis --fit-on control
      fornix harmonize fit study.tsv -o signal.safetensors --method rish
    """
    from fornix.enhance.harmonization.harmonize import fit_harmonization
    from fornix.enhance.harmonization.model_file import (
        load_harmonization,
        model_path,
        save_harmonization,
    )
    from fornix.io.files import output_folder, protected
    from fornix.report.harmonization_page import write_harmonization_page

    chosen = None if covariates is None else [] if covariates == "none" else _words(covariates)
    path = model_path(out)
    with protected(table):
        model, study = fit_harmonization(
            table, method=method, level=level, maps=maps or (), covariates=chosen,
            smooth=_words(smooth), group=group, fit_on=fit_on, reference=reference,
            shrinkage=shrinkage, robust=robust, scale=not shift_only,
            travelling=travelling, parcels=parcels,
        )  # fmt: skip
        output_folder(path.parent)
        model = load_harmonization(save_harmonization(model, path))
        page = path.with_name(f"{path.stem}_harmonize.html")
        write_harmonization_page(page, replace(study, model=model), fitted=True)
    kept = ", ".join(c.name for c in model.covariates) or "nothing"
    console.print(
        f"{len(study.table)} scans, sites {', '.join(model.sites)}; {model.level} of "
        f"{', '.join(model.maps)}; "
        f"kept: {kept}",
        markup=False,
    )
    console.print(f"done: {path}; open {page}", markup=False)


@harmonize_app.command("apply")
def apply_command(
    model: Annotated[
        Path, typer.Argument(help="Model of fornix harmonize fit.", show_default=False)
    ],
    table: Table,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the results.", show_default=False)
    ],
    robust: Robust = False,
    parcels: Parcels = None,
) -> None:
    """Harmonize scans by a model: a table or images per row, and harmonize.html.

    Tables keep their form, sub-…_desc-means_tracts.tsv, with a column subjectID; fornix compare reads them.
    Of a model of the signal (rish) come scans, sub-…_desc-harmonized_dwi, for fornix microstructure or run.
    Sites that the model does not know are estimated from their rows (3 scans at least).

    [bold]Example[/]

      fornix harmonize apply study.safetensors study.tsv -o harmonized
    """
    from fornix.enhance.harmonization.harmonize import apply_harmonization
    from fornix.enhance.harmonization.model_file import load_harmonization
    from fornix.enhance.harmonization.outputs import save_harmonized
    from fornix.io.files import protected
    from fornix.report.harmonization_page import write_harmonization_page

    found = apply_harmonization(load_harmonization(model), table, robust=robust, parcels=parcels)
    with protected(table, model, *(p for p in found.table.paths if p.is_file())):
        written = save_harmonized(found, out, {"Model": model})
        page = write_harmonization_page(Path(out) / "harmonize.html", found, fitted=False)
    console.print(f"{len(found.table)} scans, {len(written)} files", markup=False)
    console.print(f"done: {page}", markup=False)


@harmonize_app.command("scan")
@reads_scan("seed")
def scan_command(
    path: o.Input,
    out: o.Out,
    *,
    scan: ScanOptions,
) -> None:
    """Bring one scan alone to a reference scanner, as far as it tells itself what to do.

    From the air around the head it learns how many coil channels were added as squares, and takes off what
    their noise floor has more than that of one, which fits and networks know: STEM_desc-harmonized_dwi. Give
    the scan as it came from the scanner, and go on with fornix run. A scan without air is left as it is.
    Errors of b-values and the resolution are not told from one scan.

    [bold]Example[/]

      fornix harmonize scan dwi.nii.gz -o out
    """
    from fornix.enhance.harmonization.one_scan import noise_floor, with_one_channel
    from fornix.io import derivative, load, save_scan, write_sidecar

    with scan.prepared(path, out, checked=False) as (job, state):
        floor = noise_floor(state.dwi)
        image = job.out / derivative(job.stem, "dwi", desc="harmonized")

        def save(made: DWI, provenance: dict) -> list[Path]:
            save_scan(made, image)
            about = {"Description": "noise floor of one coil channel", "Units": "as the scan"}
            facts = {"CoilChannels": floor.channels, "AirVoxels": floor.air, "Note": floor.reason}
            write_sidecar(image, {**about, **facts, **provenance})
            return [image]

        job.step(
            "harmonize",
            {},
            lambda progress: with_one_channel(state.dwi, floor),
            save,
            lambda: load(image),
            lambda made: floor.said,
            lambda made: [floor.reason] if floor.reason else [],
        )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
