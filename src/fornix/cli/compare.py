"""`fornix compare`: groups along tracts, or one person against a group."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fornix.cli import options as o
from fornix.cli.show import console
from fornix.core.errors import FornixError

if TYPE_CHECKING:
    from fornix.analysis.compare import Comparison


def compare_command(
    tables: Annotated[
        list[Path],
        typer.Argument(help="Profiles, scalars or edge matrices (TSV, CSV).", show_default=False),
    ],
    design: Annotated[
        Path,
        typer.Option(
            "--design", help="TSV with participant_id and covariates.", show_default=False
        ),
    ],
    out: o.Out,
    formula: Annotated[
        str | None,
        typer.Option("--formula", help='As in R: "group + age"; its first term is tested.'),
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="Column to test, where no formula is given.")
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", help="Term or column of the design to test instead.")
    ] = None,
    which: Annotated[
        str | None, typer.Option("--map", help="Map to compare, where the tables hold several.")
    ] = None,
    statistic: Annotated[
        str,
        typer.Option("--statistic", help="tfce, mass or max; all are written, this one decides."),
    ] = "tfce",
    permutations: Annotated[
        int, typer.Option("--permutations", help="Permutations, at most.", min=20)
    ] = 5000,
    blocks: Annotated[
        str | None, typer.Option("--blocks", help="Column within which subjects are exchanged.")
    ] = None,
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Do not weight by the column std.")
    ] = False,
    mixed: Annotated[
        str | None,
        typer.Option(
            "--mixed", help="Column with a random intercept, for repeated scans or sites."
        ),
    ] = None,
    person: Annotated[
        str | None, typer.Option("--person", help="Compare this subject with all others instead.")
    ] = None,
    power: Annotated[
        int | None, typer.Option("--power", help="Also: what so many per group would show.", min=2)
    ] = None,
    stem: Annotated[str, typer.Option("--name", help="What output names begin with.")] = "group",
    seed: o.Seed = 0,
) -> None:
    """Linear models along tracts, error controlled over all tracts by permutation; tables and a page.

    [bold]Examples[/]

      fornix compare out/*_tracts.tsv --design participants.tsv --group diagnosis --map fa -o stats
      fornix compare profiles.csv --design participants.tsv --formula "diagnosis + age" --map fa -o stats
      fornix compare out/*_tracts.tsv --design participants.tsv --person sub-07 --formula age -o stats
    """
    from fornix.analysis.compare import compare
    from fornix.analysis.design import make_design
    from fornix.analysis.matching import matched
    from fornix.analysis.normative import normative
    from fornix.analysis.profile_tables import read_measurements, read_participants
    from fornix.analysis.result_tables import deviation_table, write_table
    from fornix.analysis.tract_models import mixed_model
    from fornix.io.files import output_folder
    from fornix.report.comparison_page import write_person_page

    if formula is None and group is None and person is None:
        raise FornixError("nothing to compare: give --group COLUMN, --formula or --person SUBJECT")
    if mixed is not None and person is not None:
        raise FornixError("--mixed does not go with --person; give one of them")
    made, people = matched(read_measurements(tables, which), read_participants(design))
    folder = output_folder(out)
    if person is not None:
        name = person.removeprefix("sub-")
        away = normative(made, name, people, formula or "1")
        label = f"sub-{name}"
        table = folder / f"{label}_desc-normative_tracts.tsv"
        write_table(table, deviation_table(away), {"Reference": away.reference, "Formula": formula})
        page = write_person_page(folder / f"{label}_normative.html", label, away)
        beyond = {t for t, p in zip(away.measurements.tracts, away.p_fwe) if p <= 0.05}
        console.print(f"{label}: {len(beyond)} tracts beyond the {away.reference} others")
        console.print(f"done: {page}", markup=False)
        return
    model = make_design(people, formula or _quoted(group or ""), test)
    fields: dict[str, object] = {
        "Formula": formula or group,
        "Tested": model.names[model.tested],
        "Map": made.map,
    }
    if mixed is not None:
        table = folder / f"{stem}_desc-mixed_tracts.tsv"
        found = mixed_model(made, model, people[_known(people.columns, mixed)])
        write_table(table, found, {**fields, "RandomIntercept": mixed})
        clear = int((found["p_holm"] <= 0.05).sum())
        console.print(f"{clear} of {len(found)} tracts differ with {fields['Tested']}")
        console.print(f"done: {table}", markup=False)
        return
    block = None if blocks is None else people[_known(people.columns, blocks)]
    result = compare(
        made, model, weighted=not no_weights, statistic=statistic, permutations=permutations,
        blocks=block, seed=seed,
    )  # fmt: skip
    _write(result, folder, stem, fields, power)


def _write(
    found: Comparison, folder: Path, stem: str, fields: dict[str, object], power: int | None
) -> None:
    from fornix.analysis.result_tables import effect_table, summary_table, write_table
    from fornix.analysis.tract_models import detectable
    from fornix.report.comparison_page import write_comparison_page

    fields = {**fields, "Permutations": found.permutations, "Exact": found.exact,
              "Statistic": found.statistic, "Weighted": found.weighted}  # fmt: skip
    summary = summary_table(found)
    write_table(folder / f"{stem}_desc-effects_tracts.tsv", effect_table(found), fields)
    write_table(folder / f"{stem}_desc-summary_tracts.tsv", summary, fields)
    more = {}
    if power is not None:
        table = detectable(found.measurements, found.design, power)
        write_table(
            folder / f"{stem}_desc-power_tracts.tsv", table, {"PerGroup": power, "Power": 0.8}
        )
        more[f"What {power} per group would show"] = table
    page = write_comparison_page(folder / f"{stem}_compare.html", found, more)
    clear = summary[summary["p_fwe"] <= found.alpha].sort_values("p_fwe")
    for row in clear.itertuples():
        console.print(
            f"{row.tractID}: {row.percent:+.1f}% at nodes {row.nodes}, p = {row.p_fwe:.2g}",
            markup=False,
        )
    console.print(f"{len(clear)} of {len(summary)} tracts differ with {fields['Tested']}")
    console.print(f"done: {page}", markup=False)


def _quoted(column: str) -> str:
    """A column of any name, for a formula."""
    return column if column.isidentifier() else f'Q("{column}")'


def _known(columns: Iterable[object], name: str) -> str:
    there = [str(c) for c in columns]
    if name not in there:
        raise FornixError(f"the design has no column {name}; it has: {', '.join(there)}")
    return name
