"""What was asked of harmonization, and what the tables say of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fornix_bench.suites.harmonize.travelling import MAPS
from fornix_bench.table import Row, read_csv

_DEFAULT = "fornix, sites (default)"
_HEADS = "fornix, 3 travelling heads"
_WITH_SITE = "fornix, sites, then site as a covariate"


def goals(folder: Path) -> list[Row]:
    """A row per goal, a column per map; empty where a table is missing."""
    names = ("cohort", "power", "none", "new")
    if not all((folder / f"harmonize_{n}.csv").exists() for n in names):
        return []
    cohort, power, none, new = (read_csv(folder / f"harmonize_{n}.csv") for n in names)

    def value(rows: list[Row], key: str, name: str, which: str, column: str) -> float:
        return next(
            float(r[column]) for r in rows if r["map"] == which and str(r[key]).startswith(name)
        )

    def between(method: str) -> Callable[[str], float]:
        return lambda m: (
            value(cohort, "method", method, m, "between sites, %")
            / value(cohort, "method", "raw", m, "repeated, %")
        )

    def left(kind: str) -> Callable[[str], float]:
        return lambda m: (
            value(new, "site", f"fornix, {kind}: new", m, "left, %")
            / value(new, "site", f"fornix, {kind}: 30", m, "left, %")
        )

    def taken(which: str) -> float:
        raw, ten, whole = (
            value(new, "site", name, which, "left, %")
            for name in ("raw", "fornix, sites: new", "fornix, sites: 30")
        )
        return (raw - ten) / (raw - whole)

    told: dict[str, Callable[[str], float]] = {
        "a head between sites over its repeated scans, raw": between("raw"),
        "… default (asked: 1)": between(_DEFAULT),
        "… 3 travelling heads": between(_HEADS),
        "true 3% kept, %, default (asked: 90 to 110)": lambda m: value(
            cohort, "method", _DEFAULT, m, "kept of 3%, %"
        ),
        "found at 30 + 30 over one site's, default (asked: 1)": lambda m: (
            value(power, "study", _DEFAULT, m, "found") / value(power, "study", "one site", m, "found")
        ),
        "false at 240, default (asked: 0.05)": lambda m: value(cohort, "method", _DEFAULT, m, "false"),
        "false at 30 + 30, default": lambda m: value(power, "study", _DEFAULT, m, "false"),
        "… with the site in the comparison": lambda m: value(power, "study", _WITH_SITE, m, "false"),
        "change of alike sites over a site's error, default (asked: below 1)": lambda m: (
            value(none, "method", _DEFAULT, m, "change, %")
            / value(none, "method", _DEFAULT, m, "error of a site's mean, %")
        ),
        "left at a new site of 10 over the full fit, default (asked: 1.15)": left("sites"),
        "shift taken out at a new site of 10 over the full fit, default": taken,
    }  # fmt: skip
    tables = (cohort, power, none, new)
    shared = [m for m in MAPS if all(m in {r["map"] for r in t} for t in tables)]
    return [{"what": what, **{m: make(m) for m in shared}} for what, make in told.items()]
