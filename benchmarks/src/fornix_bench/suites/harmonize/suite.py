"""`fornix bench harmonize`: eight sites, a head measured at all of them, and cohorts with known differences.

Sections:
* maps: how far a head's values move between eight scanners, and between repeated scans of one, by learned
  and classical maps: simulated images (harmonize_scans.csv; made if it is not there, then kept).
* cohort: 240 people at eight sites whose effects are those measured; what harmonization leaves of them on the
  travelling heads, which it has not seen, of a true difference of 3%, and how often it makes one up.
* power: 30 patients and 30 controls over eight sites beside as many at one.
* none: sites that measure alike: how far values are changed.
* new: a site of 10 scans that a model has not seen.
* patients: people with unlike values that nobody named, at three sites.
* signal: scans made alike, by RISH for sites of any protocols and by each scan alone.
* pairs, subsets: real scans: two of one head, and parts of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.enhance.harmonization.combat import Combat
from fornix.enhance.harmonization.covariates import design_of
from fornix_bench.sections import run_sections
from fornix_bench.suites.harmonize import page, real
from fornix_bench.suites.harmonize.cohort import (
    SIGN,
    SiteTruth,
    Study,
    affected,
    draw,
    truth_of,
)
from fornix_bench.suites.harmonize.methods import METHODS, compared, covariates_of, fitted, ours
from fornix_bench.suites.harmonize.page import COHORTS, EACH, NEW
from fornix_bench.suites.harmonize.signal import signal_rows, summary
from fornix_bench.suites.harmonize.travelling import MAPS, measured
from fornix_bench.suites.harmonize.travelling import METHODS as ESTIMATES
from fornix_bench.table import Row

Array = NDArray[np.float64]


def run_harmonize(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0,
    sections: Sequence[str] = (),
) -> list[Row]:  # fmt: skip
    """Write harmonize_….csv of each section and harmonize.md; quick: few scans and cohorts.

    The anatomy is read from FORNIX_TEST_DATA or ../shared/data.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)

    def with_scans(
        make: Callable[[list[Row], bool, int], list[Row]],
    ) -> Callable[[bool, int], list[Row]]:
        return lambda short, number: make(
            measured(folder / "harmonize_scans.csv", short, number), short, number
        )

    makers = {name: with_scans(make) for name, make in SECTIONS.items()}
    rows = run_sections("harmonize", makers, folder, threads, quick, seed, sections)
    page.write(folder, threads, seed)
    return rows


def maps(scans: list[Row], quick: bool, seed: int) -> list[Row]:
    """Variation of one head's values between sites and between repeated scans."""
    rows = []
    for estimate in ESTIMATES:
        for which in MAPS:
            truth = truth_of(scans, estimate, which)
            between, within = variation(truth.values)
            rows.append(
                {
                    "maps": estimate, "map": which, "between sites, %": 100 * between,
                    "repeated, %": 100 * within, "ratio": between / within,
                    "shift of sites, %": 100 * float(np.sqrt((truth.shift**2).mean())),
                    "head and site, %": 100 * float(np.sqrt((truth.head**2).mean())),
                }
            )  # fmt: skip
    return rows


def variation(values: Array) -> tuple[float, float]:
    """Coefficient of variation of a head's first scans between sites, and of its repeated scans at a site.

    Args:
        values: (H, J, R, V).
    """
    log = np.log(np.maximum(values, 1e-12))
    between = np.sqrt(log[:, :, 0].var(1, ddof=1).mean())
    within = np.sqrt(log.var(2, ddof=1).mean())
    return float(between), float(within)


def cohort(scans: list[Row], quick: bool, seed: int) -> list[Row]:
    """Travelling heads and a true difference, by map and method."""
    rows = []
    for which in MAPS:
        truth = truth_of(scans, "learned", which)
        true = affected(truth.shift.shape[1])
        left: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
        effects: dict[str, list[Array]] = {name: [] for name in METHODS}
        said: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in METHODS}
        for i in range(3 if quick else COHORTS):
            study = draw(truth, which, [EACH] * len(truth.names), seed + i)
            for name, method in METHODS.items():
                done = method(study, _teachers(truth))
                left[name].append(variation(_on_heads(done.apply, truth)))
                effect, p = compared(study, done.values, done.site_in_model)
                effects[name].append(effect * SIGN[which])
                said[name].append(p < 0.05)
        floor = float(np.sqrt((truth.head**2 + truth.noise**2).mean()))
        for name in METHODS:
            between, within = np.mean(left[name], 0)
            e, hit = np.stack(effects[name]), np.stack(said[name])
            rows.append(
                {
                    "map": which, "method": name, "between sites, %": 100 * between,
                    "repeated, %": 100 * within, "could be, %": 100 * floor,
                    "kept of 3%, %": 100 * float(e[:, true].mean()) / 3 * 100,
                    "error of effect, %": 100 * float(np.sqrt(((e[:, true] - 0.03) ** 2).mean())),
                    "found": float(hit[:, true].mean()), "false": float(hit[:, ~true].mean()),
                }
            )  # fmt: skip
    return rows


def power(scans: list[Row], quick: bool, seed: int) -> list[Row]:
    """30 + 30 over eight sites, harmonized by themselves or by a model of 240 others, beside 60 "
    "at one site."""
    rows = []
    for which in MAPS:
        truth = truth_of(scans, "learned", which)
        true = affected(truth.shift.shape[1])
        hits: dict[str, list[tuple[float, float]]] = {}
        for i in range(3 if quick else COHORTS):
            spread = [8, 8, 8, 8, 7, 7, 7, 7]
            small = draw(truth, which, spread[: len(truth.names)], seed + 5000 + i, balanced=True)
            large = draw(truth, which, [EACH] * len(truth.names), seed + i)
            alone = draw(_one(truth), which, [60], seed + 9000 + i, balanced=True)
            frozen, _ = fitted(large)
            tests = {
                f"{name}, of the 60": (small, METHODS[name](small, _teachers(truth)))
                for name in METHODS
            }
            for name, (study, done) in tests.items():
                _, p = compared(study, done.values, done.site_in_model)
                hits.setdefault(name, []).append(_rates(p, true))
            values = frozen.harmonized(
                small.values, _design_like(large, small), list(small.table["site"])
            )
            hits.setdefault("fornix, sites, frozen from 240", []).append(
                _rates(compared(small, values, False)[1], true)
            )
            hits.setdefault("one site", []).append(
                _rates(compared(alone, alone.values, False)[1], true)
            )
        for name, found in hits.items():
            share, false = np.mean(found, 0)
            rows.append({"map": which, "study": name, "found": float(share), "false": float(false)})
    return rows


def none(scans: list[Row], quick: bool, seed: int) -> list[Row]:
    """Change of values where sites measure alike, beside the error of a site's mean."""
    rows = []
    for which in MAPS:
        truth = truth_of(scans, "learned", which).none()
        change: dict[str, list[float]] = {}
        error = []
        for i in range(3 if quick else COHORTS):
            study = draw(truth, which, [EACH] * len(truth.names), seed + i, balanced=True)
            error.append(float((study.values.std(0) / study.values.mean(0)).mean() / np.sqrt(EACH)))
            for name, method in METHODS.items():
                moved = (method(study, _teachers(truth)).values / study.values - 1) ** 2
                change.setdefault(name, []).append(float(np.sqrt(moved.mean())))
        for name, found in change.items():
            rows.append(
                {"map": which, "method": name, "change, %": 100 * float(np.mean(found)),
                 "error of a site's mean, %": 100 * float(np.mean(error))}
            )  # fmt: skip
    return rows


def new(scans: list[Row], quick: bool, seed: int) -> list[Row]:
    """Each site left out in turn, then estimated from 10 scans: what is left on the travelling "
    "heads there."""
    rows = []
    for which in MAPS:
        truth = truth_of(scans, "learned", which)
        error: dict[str, list[float]] = {}
        for i in range(2 if quick else COHORTS // 4):
            study = draw(truth, which, [EACH] * len(truth.names), seed + i)
            sites = study.table["site"].to_numpy()
            whole = {k: fitted(study, k) for k in ("sites", "features")}
            for j, site in enumerate(truth.names):
                ten = np.flatnonzero(sites == site)[:NEW]
                rest = sites != site
                _note(error, "raw", truth, j, None)
                for kind, (model, _) in whole.items():
                    part, _ = fitted(study.rows(rest), kind)
                    own = _design_like(study.rows(rest), study)
                    grown = part.with_site(site, study.values[ten], own[ten])
                    _note(error, f"fornix, {kind}: 30 of it in the fit", truth, j, model)
                    _note(error, f"fornix, {kind}: new, {NEW} scans", truth, j, grown)
        for name, found in error.items():
            rows.append(
                {"map": which, "site": name, "left, %": 100 * float(np.sqrt(np.mean(found)))}
            )
    return rows


def patients(scans: list[Row], quick: bool, seed: int) -> list[Row]:
    """A fifth of the people of three sites 15% off in all tracts, and nobody told."""
    rows = []
    kinds = {
        "fornix, sites": ours(),
        "fornix, sites, robust": ours(robust=True),
        **{n: m for n, m in METHODS.items() if n == "neuroHarmonize"},
    }
    for which in MAPS:
        truth = truth_of(scans, "learned", which)
        left: dict[str, list[float]] = {}
        for i in range(3 if quick else COHORTS):
            study = draw(truth, which, [EACH] * len(truth.names), seed + i)
            rng = np.random.default_rng([seed, i, 6])
            ill = np.isin(study.table["site"], truth.names[:3]) & (
                rng.random(len(study.table)) < 0.2
            )
            sick = Study(
                study.values * np.where(ill, 1 + 0.15 * SIGN[which], 1)[:, None], study.table
            )
            for name, method in kinds.items():
                for word, s in (("none", study), ("a fifth at three sites", sick)):
                    between, _ = variation(_on_heads(method(s, _teachers(truth)).apply, truth))
                    left.setdefault(f"{name}|{word}", []).append(between)
        for key, found in left.items():
            name, word = key.split("|")
            rows.append(
                {
                    "map": which,
                    "method": name,
                    "unlike people": word,
                    "between sites, %": 100 * float(np.mean(found)),
                }
            )
    return rows


def _teachers(truth: SiteTruth) -> Array:
    """Scans (H, J, R, V) of the heads that methods may learn from."""
    return truth.values[: len(truth.values) // 2]


def _on_heads(apply: Callable[[Array, list[str]], Array], truth: SiteTruth) -> Array:
    """Scans (H, J, R, V) of the other heads, harmonized by a model that has not seen them."""
    values = truth.values[len(truth.values) // 2 :]
    at = [truth.names[j] for _, j, _ in np.ndindex(values.shape[:3])]
    return apply(values.reshape(-1, values.shape[-1]), at).reshape(values.shape)


def _note(
    error: dict[str, list[float]], name: str, truth: SiteTruth, j: int, model: Combat | None
) -> None:
    """Squared deviation of the travelling heads at one site from the others, harmonized; log units."""

    def apply(values: Array, sites: list[str]) -> Array:
        if model is None:
            return values
        return model.harmonized(values, np.zeros((len(values), len(model.beta))), sites)

    means = np.log(_on_heads(apply, truth)).mean((0, 2))
    others = np.delete(means, j, 0).mean(0)
    error.setdefault(name, []).append(float(((means[j] - others) ** 2).mean()))


def _design_like(fit_on: Study, study: Study) -> Array:
    """Covariates of a study as those of another cohort's model."""
    return design_of(covariates_of(fit_on.table), study.table)


def _one(truth: SiteTruth) -> SiteTruth:
    """The first site alone."""
    return SiteTruth(
        truth.names[:1],
        truth.level,
        truth.shift[:1],
        truth.head[:1],
        truth.noise[:1],
        truth.values[:, :1],
    )


def _rates(p: Array, true: NDArray[np.bool_]) -> tuple[float, float]:
    return float((p[true] < 0.05).mean()), float((p[~true] < 0.05).mean())


def signal(scans: list[Row], quick: bool, seed: int) -> list[Row]:
    """Scans made alike, and maps of them."""
    return summary(scans, signal_rows(quick, seed))


def pairs(scans: list[Row], quick: bool, seed: int) -> list[Row]:
    """Two real scans of one head."""
    return real.pairs(quick)


def subsets(scans: list[Row], quick: bool, seed: int) -> list[Row]:
    """Parts of a real scan."""
    return real.subsets(quick)


SECTIONS: dict[str, Callable[[list[Row], bool, int], list[Row]]] = {
    "maps": maps, "cohort": cohort, "power": power, "none": none, "new": new, "patients": patients,
    "signal": signal, "pairs": pairs, "subsets": subsets,
}  # fmt: skip
