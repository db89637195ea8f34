"""`fornix bench template`: a template of simulated heads, and how their true tracts come together in it."""

from __future__ import annotations

import os
import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.estimators.mask import brain_mask
from fornix.physics.anatomy.model import Anatomy
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.anatomy.variation import vary
from fornix.physics.phantom import simulate
from fornix.register.apply import warp_image
from fornix.register.features import Features
from fornix.register.grids import Lattice
from fornix.register.scan_features import scan_features
from fornix.register.study_template import study_template
from fornix.register.warp import PointMap
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

#: Random heads, and of how many tracts one is carried.
HEADS = (521, 522, 523)
_EVERY = 4

_WORDS = """Simulated heads (30 directions, SNR 20), deformed copies of one person: real people differ more.
Round 0: only turned and shifted; 1: affine; then deformable. `Dice`: mean over pairs of heads and over every
fourth of the 72 tracts of the overlap of the true tracts, carried to the mean. `difference`: mean squared
difference of the heads' features from the mean."""


def run_template(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Write template.csv and template.md; quick: two heads, two rounds."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    with use_threads(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = from_subject(data / "anatomy")
        made: list[tuple[Anatomy, Features]] = []
        for number in HEADS[:2] if quick else HEADS:
            head = vary(base, number + seed)
            scan = simulate(head, "dti30", snr=20.0, seed=number + seed).dwi
            made.append((head, scan_features(brain_mask(scan))))
        rounds = study_template([f for _, f in made], rounds=2 if quick else 4)
        rows: list[Row] = []
        for number, found in enumerate(rounds):
            scores = _overlaps(made, found.maps, found.mean.lattice)
            rows.append(
                {
                    "round": number, "Dice": float(np.mean(scores)),
                    "worst tenth": float(np.quantile(scores, 0.1)), "difference": found.difference,
                }
            )  # fmt: skip
    write_csv(folder / "template.csv", rows)
    blocks = [
        f"{environment(threads, seed)}.",
        "Made by `fornix bench template`.",
        _WORDS,
        markdown(rows),
    ]
    write_page(folder / "template.md", "A study's own template", blocks)
    return rows


def _overlaps(
    made: list[tuple[Anatomy, Features]], maps: tuple[PointMap, ...], lattice: Lattice
) -> list[float]:
    """Dice of each tract and pair of heads."""
    scores: list[float] = []
    for tract in list(made[0][0].bundles)[::_EVERY]:
        there: list[NDArray[np.bool_]] = []
        for (head, features), point_map in zip(made, maps):
            mask = head.bundles[tract].mask.astype(np.float32)
            there.append(warp_image(mask, features.lattice, lattice, point_map) > 0.5)
        for a, b in combinations(there, 2):
            scores.append(float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1)))
    return scores
