"""Harmonization of a study: fitted to its rows, applied to the same or others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.analysis.measurements import Measurements
from fornix.core.errors import FornixError, tell
from fornix.enhance.harmonization import rish_study
from fornix.enhance.harmonization.checks import (
    LEAST,
    outside_of,
    refuse_confounded,
    warnings_of,
)
from fornix.enhance.harmonization.combat import fit_combat
from fornix.enhance.harmonization.covariates import design_of, make_covariates
from fornix.enhance.harmonization.model import Harmonization, MapModel
from fornix.enhance.harmonization.table import ScanTable, read_scan_table
from fornix.enhance.harmonization.travelling import travelling_rows
from fornix.enhance.harmonization.values import SIGNAL, StudyValues, aligned, read_values

#: What is done with heads that were at several sites.
TRAVELLING = ("check", "fit")
#: Values, or the signal that they are made of.
METHODS = ("combat", "rish")


@dataclass(frozen=True, eq=False)
class Harmonized:
    """A study before and after.

    Attributes:
        table: Its rows.
        before: As it was measured, on the model's columns.
        after: The same, harmonized.
        model: With the sites that were new.
        new_sites: Those, estimated from these rows.
        notes: What is to be looked at, a line each.
    """

    table: ScanTable
    before: StudyValues
    after: StudyValues
    model: Harmonization
    new_sites: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def fit_harmonization(
    table: str | Path | ScanTable,
    *,
    method: str = "combat",
    level: str = "auto",
    maps: Sequence[str] = (),
    covariates: Sequence[str] | None = None,
    smooth: Sequence[str] = (),
    group: str | None = None,
    fit_on: str | None = None,
    reference: str | None = None,
    shrinkage: str = "sites",
    robust: bool = False,
    scale: bool = True,
    travelling: str = "check",
    parcels: Path | None = None,
) -> tuple[Harmonization, Harmonized]:
    """Fit ComBat to a study and return the model, and the study as the model leaves it.

    Args:
        table: Of the study: a row per scan (see `read_scan_table`).
        method: `combat`: values are shifted and scaled; `rish`: the signal's harmonic orders are scaled, at
            every place, by what ComBat's shifts say of their log energies.
        level: `means`, `profiles`, `parcels`, `voxels` or `auto` (see `read_values`).
        maps: To harmonize; all that every row has if none is named.
        covariates: Columns whose effect is kept; those of age, sex and group that the table has if absent.
        smooth: Those kept as a curve, for example age.
        group: Column of patients and controls, kept as the covariates are.
        fit_on: The one group that the model is fitted to; it is then no covariate.
        reference: Site that all are made like; the mean of all scans if absent, of the signal the site with
            the richest protocol.
        shrinkage: `sites`, `features` (ComBat as published) or `none`.
        robust: Leave out of the fit values that lie far from the rest.
        scale: Make variances alike too, not shifts alone.
        travelling: `fit`: tell shifts from heads that were at several sites; `check`: only report on them.
        parcels: Labels in template space, for `parcels`.

    Raises:
        FornixError: Bad rows, a site of one scan, sites that are told by covariates.
    """
    study = table if isinstance(table, ScanTable) else read_scan_table(table)
    if method not in METHODS:
        raise FornixError(f"no way to harmonize {method!r}; choose one of: {', '.join(METHODS)}")
    if method == "rish":
        if level not in ("auto", SIGNAL) or maps:
            raise FornixError("--method rish is of the signal itself; leave --on and --map out")
        level, scale = SIGNAL, False
    if travelling not in TRAVELLING:
        raise FornixError(f"--travelling is {' or '.join(TRAVELLING)}, not {travelling!r}")
    fitted = _fitted_rows(study, group, fit_on)
    wanted = list(fitted.usual_covariates() if covariates is None else covariates)
    if group is not None and fit_on is None and group not in wanted:
        wanted.append(group)
    if fit_on is not None:
        wanted = [name for name in wanted if name != (group or "group")]
    every = tuple(dict.fromkeys((*wanted, *smooth)))
    study.check_covariates(every)
    kept = make_covariates(fitted.frame, wanted, smooth)
    notes = warnings_of(fitted, kept)
    heads = _heads(fitted, travelling)
    # What cannot be harmonized is refused before hours of reading.
    _refuse_small(fitted)
    if heads is None:
        refuse_confounded(fitted, kept)
    if level == SIGNAL:
        reference = reference or rish_study.richest_site(fitted)
        maps = [rish_study.feature_name(f) for f in rish_study.study_features(fitted)]
    values = read_values(fitted, level, maps, parcels, reference=reference)
    design = design_of(kept, fitted.frame)
    made = {
        name: MapModel(
            one.tracts, one.nodes,
            fit_combat(one.values, fitted.sites, design, shrinkage=shrinkage, robust=robust, scale=scale,
                       reference=reference, heads=heads, shift_only=_of_one_person(fitted)),
        )
        for name, one in values.maps.items()
    }  # fmt: skip
    notes += _holes(values)
    about = {
        "Harmonized": method,
        "Table": study.source.name, "Scans": len(fitted),
        "FitOn": fit_on, "ReferenceSite": reference,
        "Robust": robust, "Scale": scale, "Travelling": travelling, "Warnings": notes,
    }  # fmt: skip
    model = Harmonization(values.level, made, kept, values.lattice, about)
    for note in notes:
        tell(note)
    after = _after(model, fitted, values)
    return model, Harmonized(fitted, values, after, model, notes=tuple(notes))


def apply_harmonization(
    model: Harmonization,
    table: str | Path | ScanTable,
    *,
    robust: bool = False,
    parcels: Path | None = None,
) -> Harmonized:
    """Make a study's values those that the model's reference would have measured.

    Sites that the model does not know are estimated from their rows, the reference staying as it is; their
    estimates are drawn to what the model's own sites are like.

    Args:
        model: From `fit_harmonization` or `load_harmonization`.
        table: Of the study.
        robust: Of new sites: leave out of their estimate what lies far from the rest.
        parcels: Labels in template space, where the model is of parcels.

    Raises:
        FornixError: Maps that the model does not know, a new site of too few scans, unknown groups.
    """
    study = table if isinstance(table, ScanTable) else read_scan_table(table)
    study.check_covariates([c.name for c in model.covariates])
    design = design_of(model.covariates, study.frame)
    notes = outside_of(study, model.covariates)
    new = tuple(s for s in dict.fromkeys(study.sites) if s not in model.sites)
    for site in new:
        count = study.sites.count(site)
        if count < LEAST:
            raise FornixError(
                f"the model does not know the site {site}, and {count} "
                f"scan{'s are' if count > 1 else ' is'} too "
                f"few to estimate it ({LEAST} at least, 10 to rely on); leave it out, or fit again with it"
            )
        notes.append(f"{site} is new: estimated from {count} scans, the reference as it was")
    values = _known_values(model, study, parcels, notes)
    index = np.array(study.sites)
    maps = dict(model.maps)
    lone = _of_one_person(study)
    for name, one in values.maps.items():
        combat = maps[name].combat
        for site in new:
            mine = index == site
            combat = combat.with_site(
                site, one.values[mine], design[mine], robust=robust, scale=site not in lone
            )
        maps[name] = replace(maps[name], combat=combat)
    grown = replace(model, maps={n: maps[n] for n in values.maps})
    for note in notes:
        tell(note)
    after = _after(grown, study, values)
    return Harmonized(study, values, after, grown, new, tuple(notes))


def _fitted_rows(study: ScanTable, group: str | None, fit_on: str | None) -> ScanTable:
    if fit_on is None:
        if group is not None and group not in study.frame:
            raise FornixError(
                f"the table has no column {group}; it has: {', '.join(map(str, study.frame))}"
            )
        return study
    column = group or "group"
    if column not in study.frame:
        raise FornixError(f"--fit-on {fit_on} needs a column {column}; name it with --group")
    chosen = (study.frame[column].astype(str) == fit_on).to_numpy()
    if not chosen.any():
        some = ", ".join(sorted(set(study.frame[column].astype(str))))
        raise FornixError(f"no row has {column} {fit_on}; there are: {some}")
    lost = sorted(set(study.sites) - set(np.array(study.sites)[chosen]))
    if lost:
        tell(
            f"no scan of {', '.join(lost)} is of {column} {fit_on}: the model will not know these sites"
        )
    return study.rows(chosen)


def _heads(study: ScanTable, travelling: str) -> list[str] | None:
    if travelling == "check":
        return None
    sites = study.frame["site"].astype("category").cat.codes.to_numpy()
    if not travelling_rows(sites, study.heads).any():
        raise FornixError(
            "--travelling fit needs heads that were at several sites: rows of one participant_id "
            "with different "
            "sites; leave it out"
        )
    return study.heads


def _of_one_person(study: ScanTable) -> set[str]:
    """Sites whose scans are all of one person: their variance is that of repeated scans."""
    people = study.frame.groupby("site")["participant_id"].nunique()
    return {str(site) for site, n in people.items() if n < 2}


def _refuse_small(study: ScanTable) -> None:
    counts = study.frame["site"].value_counts()
    alone = [s for s, n in counts.items() if n < 2]
    if alone:
        row = study.sites.index(str(alone[0]))
        raise FornixError(
            f"{study.where(row)}: the site has one scan, so that what is the site's and what the "
            "person's cannot be "
            "told; leave it out"
        )
    if len(counts) < 2:
        raise FornixError(
            f"all scans are of one site ({study.sites[0]}): there is nothing to harmonize"
        )


def _holes(values: StudyValues) -> list[str]:
    missing: dict[str, list[str]] = {}
    for name, one in values.maps.items():
        share = float((~np.isfinite(one.values)).mean())
        if share > 0.001:
            missing.setdefault(f"{share:.1%}", []).append(name)
    return [
        f"{share} of the values of {', '.join(names)} are missing, and stay so"
        for share, names in missing.items()
    ]


def _known_values(
    model: Harmonization, study: ScanTable, parcels: Path | None, notes: list[str]
) -> StudyValues:
    wanted = tuple(model.maps) if model.level == SIGNAL else ()
    values = read_values(
        study,
        model.level,
        wanted,
        parcels,
        model.lattice,
        model.about.get("ReferenceSite"),
        model.sites,
    )
    known = [n for n in values.maps if n in model.maps]
    if not known:
        raise FornixError(
            f"the model does not know the maps of {study.source.name} ({', '.join(values.maps)}); "
            "it was fitted to "
            f"{', '.join(model.maps)}"
        )
    strange = [n for n in values.maps if n not in model.maps]
    if strange:
        notes.append(
            f"the model does not know {', '.join(strange)}: not harmonized and not written"
        )
    maps = {n: aligned(values.maps[n], model.maps[n].tracts, model.maps[n].nodes) for n in known}
    return replace(values, maps=maps)


def _after(model: Harmonization, study: ScanTable, values: StudyValues) -> StudyValues:
    design = design_of(model.covariates, study.frame)
    return replace(
        values,
        maps={n: _made(model.maps[n], one, design, study.sites) for n, one in values.maps.items()},
    )


def _made(
    model: MapModel, one: Measurements, design: NDArray[np.float64], sites: Sequence[str]
) -> Measurements:
    values = model.combat.harmonized(one.values, design, sites)
    std = None if one.std is None else one.std * model.combat.factor(sites)
    return replace(one, values=values, std=std)
