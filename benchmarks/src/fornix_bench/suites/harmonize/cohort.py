"""A study of eight sites, its site effects those that were measured on travelling heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fornix_bench.suites.harmonize.scanners import TRACTS
from fornix_bench.table import Row

Array = NDArray[np.float64]

#: Tracts in which patients differ, and by how much.
AFFECTED, EFFECT = ("AF_left", "CST_right", "CG_left", "IFO_right"), 0.03
#: Which way a map goes with age and in patients.
SIGN = {"fa": -1.0, "md": 1.0, "mk": -1.0, "ndi": -1.0, "fod_peak": -1.0}
#: Standard deviation between people of one age: of all tracts together, and of each; log units.
TOGETHER, ALONE = 0.03, 0.03
#: Mean age of each site's people, and share of patients: neither is alike at all sites.
AGES = (35.0, 55.0, 45.0, 65.0, 30.0, 60.0, 50.0, 60.0)
PATIENTS = (0.3, 0.6, 0.5, 0.7, 0.3, 0.5, 0.4, 0.7)


@dataclass(frozen=True, eq=False)
class SiteTruth:
    """What sites do to one map, in log units, from scans of travelling heads.

    Attributes:
        names: (J,) of the sites.
        level: (V,) mean value of each tract.
        shift: (J, V) mean over heads of each site's deviation from all sites.
        head: (J,) standard deviation over heads of what is left of that deviation.
        noise: (J,) standard deviation between repeated scans.
        values: (H, J, R, V) as measured.
    """

    names: tuple[str, ...]
    level: Array
    shift: Array
    head: Array
    noise: Array
    values: Array

    def none(self) -> SiteTruth:
        """Sites that all measure alike, on the cohort and on the travelling heads."""
        flat = np.full_like(self.noise, np.sqrt((self.noise**2).mean()))
        log = np.log(self.values)
        means = log.mean(2, keepdims=True)
        alike = np.exp(log - means + means.mean(1, keepdims=True))
        return SiteTruth(
            self.names, self.level, np.zeros_like(self.shift), np.zeros_like(self.head), flat, alike
        )


def truth_of(rows: Sequence[Row], method: str, which: str) -> SiteTruth:
    """What sites do to a map, from the rows of `travelling.measured`."""
    mine = [r for r in rows if r["method"] == method and r["map"] == which]
    names = tuple(dict.fromkeys(r["site"] for r in mine))
    heads = list(dict.fromkeys(r["head"] for r in mine))
    tracts = [t for t in TRACTS if all(t in r for r in mine)]
    values = np.full((len(heads), len(names), 2, len(tracts)), np.nan)
    for r in mine:
        values[heads.index(r["head"]), names.index(r["site"]), r["repeat"]] = [r[t] for t in tracts]
    log = np.log(values)
    noise = np.sqrt(((log[:, :, 0] - log[:, :, 1]) ** 2 / 2).mean((0, 2)))
    means = log.mean(2)
    apart = means - means.mean(1, keepdims=True)
    shift = apart.mean(0)
    left = ((apart - shift) ** 2).sum((0, 2)) / max((len(heads) - 1) * len(tracts), 1)
    head = np.sqrt(np.maximum(left - noise**2 / 2, 0))
    return SiteTruth(names, np.exp(means.mean((0, 1))), shift, head, noise, values)


@dataclass(frozen=True, eq=False)
class Study:
    """A cohort.

    Attributes:
        values: (S, V).
        table: site, age, patient (0 or 1) of each row.
    """

    values: Array
    table: pd.DataFrame

    def rows(self, chosen: NDArray[np.bool_]) -> Study:
        """Some of the rows."""
        return Study(self.values[chosen], self.table[chosen].reset_index(drop=True))


def affected(count: int) -> NDArray[np.bool_]:
    """(V,) tracts in which patients differ."""
    return np.array([t in AFFECTED for t in TRACTS[:count]])


def draw(
    truth: SiteTruth, which: str, counts: Sequence[int], seed: int, effect: float = EFFECT,
    balanced: bool = False,
) -> Study:  # fmt: skip
    """A cohort of so many people at each site.

    Args:
        truth: Of the map.
        which: The map.
        counts: (J,) people.
        seed: Of all chance.
        effect: Relative change of patients in the affected tracts.
        balanced: Half patients and the same ages everywhere.
    """
    rng = np.random.default_rng([seed, 5])
    site = np.repeat(np.arange(len(counts)), counts)
    middle = np.full(len(site), 50.0) if balanced else np.array(AGES)[site % len(AGES)]
    age = np.clip(rng.normal(middle, 14.0), 20, 80)
    if balanced:
        patient = np.concatenate([rng.permutation(np.arange(n) % 2) for n in counts]).astype(float)
    else:
        patient = (rng.random(len(site)) < np.array(PATIENTS)[site % len(PATIENTS)]).astype(float)
    size = truth.shift.shape[1]
    # Best at 35, and 8% away from it at 80.
    log = SIGN[which] * 0.08 * ((age - 35) / 45)[:, None] ** 2 * np.linspace(0.7, 1.3, size)
    log = (
        log
        + TOGETHER * rng.normal(size=(len(site), 1))
        + ALONE * rng.normal(size=(len(site), size))
    )
    change = np.log1p(SIGN[which] * effect) * affected(size)
    log = log + patient[:, None] * change + truth.shift[site]
    log = log + truth.head[site][:, None] * rng.normal(size=log.shape)
    log = log + truth.noise[site][:, None] * rng.normal(size=log.shape)
    names = [truth.names[j] for j in site]
    table = pd.DataFrame({"site": names, "age": age, "patient": patient})
    return Study(truth.level * np.exp(log), table)
