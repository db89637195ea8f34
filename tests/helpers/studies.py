"""Studies of known site effects, as arrays and as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Made:
    """A cohort of known truth: y = 5 + effects + shift + root(ratio) noise."""

    values: Array
    sites: list[str]
    design: Array
    shift: Array
    ratio: Array
    table: pd.DataFrame


def made(
    seed: int = 0, each: int = 40, sites: int = 4, columns: int = 30, shift: float = 0.8,
    log_ratio: float = 0.3, together: float = 0.5, alike: bool = False,
) -> Made:  # fmt: skip
    """Draw a cohort; the mean of all shifts is 0. alike: no site effect at all."""
    rng = np.random.default_rng([seed, 17])
    index = np.repeat(np.arange(sites), each)
    age = rng.uniform(20, 80, len(index))
    group = rng.integers(0, 2, len(index)).astype(float)
    moves = shift * rng.normal(size=(sites, 1)) + 0.4 * shift * rng.normal(size=(sites, columns))
    moves -= moves.mean(0)
    ratio = np.exp(
        log_ratio * rng.normal(size=(sites, 1)) + 0.1 * rng.normal(size=(sites, columns))
    )
    if alike:
        moves, ratio = np.zeros_like(moves), np.ones_like(ratio)
    people = together * rng.normal(size=(len(index), 1)) + rng.normal(size=(len(index), columns))
    people /= np.hypot(together, 1)
    values = 5 - 0.02 * (age - 50)[:, None] + 0.5 * group[:, None] + moves[index]
    values = values + np.sqrt(ratio[index]) * people
    table = pd.DataFrame({"age": age, "group": np.where(group > 0, "patient", "control")})
    names = [f"s{i}" for i in index]
    design = np.column_stack([age - age.mean(), group - group.mean()])
    return Made(values, names, design, moves, ratio, table)


def write_study(
    folder: Path, cohort: Made, maps: tuple[str, ...] = ("dti_fa",), std: bool = True
) -> Path:
    """The cohort as a table of means per scan, and the study's table; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, (site, values) in enumerate(zip(cohort.sites, cohort.values)):
        name = f"sub-{i:03d}_desc-means_tracts.tsv"
        part = pd.DataFrame(
            {
                "tractID": [f"T{v:02d}" for v in range(len(values))] * len(maps), "nodeID": 0,
                "map": np.repeat(maps, len(values)), "value": np.tile(values, len(maps)),
            }
        )  # fmt: skip
        if std:
            part["std"] = 0.1
        part.to_csv(folder / name, sep="\t", index=False)
        rows.append({"participant_id": f"sub-{i:03d}", "path": name, "site": site})
    table = pd.concat([pd.DataFrame(rows), cohort.table.reset_index(drop=True)], axis=1)
    path = folder / "study.tsv"
    table.to_csv(path, sep="\t", index=False)
    return path
