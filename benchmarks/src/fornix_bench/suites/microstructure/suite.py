"""`fornix bench microstructure`: learned and classical estimates of every kind, on unlike data.

Accuracy on test populations that training does not hold (populations.py), protocols never trained on
(accuracy.py), uncertainty (uncertainty.py), speed, and agreement of repeated real scans (repeat.py).
The page is written by microstructure_page.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fornix.core.compute import use_threads
from fornix_bench.judge.population import trxscan_population
from fornix_bench.suites.microstructure import accuracy, sweep, uncertainty
from fornix_bench.suites.microstructure.estimates import learned, left_out
from fornix_bench.suites.microstructure.neurites import neurite_rows
from fornix_bench.suites.microstructure.page import write
from fornix_bench.suites.microstructure.populations import (
    Block,
    TestPopulation,
    anatomical,
    exchanging,
    single_voxels,
    subject,
)
from fornix_bench.suites.microstructure.repeat import repeat_rows
from fornix_bench.suites.speed import VOXELS, make_file, timed
from fornix_bench.table import Row, environment, read_csv, write_csv

DIRECTIONS = (6, 12, 30)
#: Populations whose neurites are known, in a head.
NEURITES = ("anatomy", "subject", "trxscan")
MODELS = "dti+dki+noddi"
SECTIONS = (
    "tensor", "sweep", "random", "advanced", "neurites", "cells", "coverage", "ood", "speed", "repeat",
)  # fmt: skip


@dataclass(frozen=True)
class MicrostructureConfig:
    """How much is measured.

    block, small: voxels (X, Y, Z) of the populations' heads, for accuracy and for what runs often.
    voxel_size: of those heads, mm. single: single voxels. peers: voxels per slow peer, 0 is none.
    force: DIPY FORCE's library. protocols: random ones against WLS. covering: random ones for
    coverage. speed: voxels timed. pairs: of repeated scans, None is all that are there. swept: directions
    of the sweep; sweep_snrs: its SNRs.
    """

    block: Block = (32, 36, 16)
    small: Block = (22, 26, 10)
    voxel_size: float = 2.5
    single: int = 6000
    peers: int = 3000
    force: int = 50_000
    protocols: int = 40
    covering: int = 4
    snrs: tuple[float, ...] = uncertainty.SNRS
    sigma_factors: tuple[float, ...] = uncertainty.SIGMA_FACTORS
    speed: int = VOXELS
    pairs: int | None = None
    swept: tuple[int, ...] = sweep.DIRECTIONS
    sweep_snrs: tuple[float, ...] = sweep.SNRS


QUICK = MicrostructureConfig(
    block=(20, 24, 8), small=(16, 18, 6), single=1000, peers=200, force=4000, protocols=8,
    covering=1, snrs=(10.0, 30.0), sigma_factors=(0.8, 1.0, 1.2), speed=VOXELS // 20, pairs=1,
    swept=(6, 60), sweep_snrs=(20.0,),
)  # fmt: skip


def run_microstructure(
    out: str | Path = "docs/benchmarks",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    size: MicrostructureConfig | None = None,
    sections: Sequence[str] = SECTIONS,
) -> list[Row]:
    """Score every method and write microstructure.csv, .md and microstructure_*.png into `out`.

    quick: far fewer voxels and protocols; `size` says it in detail. sections: of `SECTIONS`; those
    left out are kept as they stand in the folder's table. Real scans and the training anatomy are
    read from FORNIX_TEST_DATA or ../shared/data, and left out where they are not there. Returns all
    rows; `section` says of which table.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = size or (QUICK if quick else MicrostructureConfig())
    skipped = left_out()
    table = folder / "microstructure.csv"
    rows: list[Row] = []
    if set(sections) < set(SECTIONS) and table.exists():
        rows = [r for r in read_csv(table) if not _belongs(r, sections)]
    pictures: dict[str, np.ndarray] = {}
    with use_threads(threads):
        big = _families(wanted, wanted.block, skipped)
        few = [anatomical(wanted.small, 910, wanted.voxel_size)]
        few.append(exchanging(wanted.small, 911, wanted.voxel_size))
        few += [f for f in big if f.name == "trxscan"]
        for name in sections:
            if name == "tensor":
                rows += accuracy.tensor_rows(
                    big, DIRECTIONS, wanted.peers, wanted.force, seed, skipped
                )
            elif name == "random":
                for population in (few[0], *(f for f in few if f.name == "trxscan")):
                    rows += accuracy.random_rows(population, wanted.protocols, seed)
            elif name == "advanced":
                chosen = [f for f in big if f.name != "random"]
                rows += accuracy.advanced_rows(chosen, (20.0, 30.0), wanted.peers, seed, skipped)
            elif name == "sweep":
                judged = [f for f in few if f.name != "exchange"]
                rows += sweep.sweep_rows(judged, seed, wanted.swept, wanted.sweep_snrs)
            elif name == "neurites":
                rows += neurite_rows([f for f in big if f.name in NEURITES], seed)
            elif name == "cells":
                rows += accuracy.cell_rows(big[:2], seed)
            elif name == "coverage":
                rows += uncertainty.coverage_rows(
                    few, wanted.covering, seed, wanted.snrs, wanted.sigma_factors
                )
            elif name == "ood":
                rows += uncertainty.ood_rows(big[0], seed)
                rows += uncertainty.flagged_rows(_data(), wanted.pairs)
    if "speed" in sections and wanted.speed:
        rows += speed_rows(wanted.speed, threads, seed)
    if "repeat" in sections and wanted.pairs != 0:
        with use_threads(threads):
            found, pictures = repeat_rows(_data(), wanted.pairs)
        rows += found
    write_csv(table, rows)
    write(folder, rows, environment(threads, seed), skipped, pictures)
    return rows


def _belongs(row: Row, sections: Sequence[str]) -> bool:
    """Whether one of these sections makes the row; coverage makes those of `rank` too."""
    return row["section"] in sections or (row["section"] == "rank" and "coverage" in sections)


def speed_rows(voxels: int, threads: int, seed: int) -> list[Row]:
    """Voxels per second and peak memory of all three models with their standard deviations.

    The scan is the one of `fornix bench speed`; peers get fewer voxels of it. Ours are given the noise
    level, which the peers do not estimate either.
    """
    tasks = {"DIPY kurtosis WLS": 0.02, "AMICO NODDI": 0.04}
    ours = {"classical": f"Fornix {MODELS} wls std sigma"}
    ours |= {m: f"Fornix {MODELS} {m} std sigma" for m in learned()}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_file(work, voxels, seed)
        for task, share in tasks.items():
            found = timed(work, task, max(int(share * voxels), 500), threads)
            rows.append({"section": "speed", "method": task, **found})
        for method, task in ours.items():
            found = timed(work, task, voxels, threads)
            rows.append({"section": "speed", "method": method, **found})
    peers = {r["method"]: r.get("voxels_per_s") for r in rows}
    goals = {"voxelwise": 40_000.0, "learned": 10_000.0}
    for row in rows:
        for label, column in (("DIPY kurtosis WLS", "times_dipy"), ("AMICO NODDI", "times_amico")):
            if row["method"] not in tasks and peers[label]:
                row[column] = row["voxels_per_s"] / peers[label]
        row["goal"] = goals.get(row["method"])
    return rows


def _families(
    wanted: MicrostructureConfig, block: Block, skipped: list[str]
) -> list[TestPopulation]:
    made = [anatomical(block, 900, wanted.voxel_size), exchanging(block, 901, wanted.voxel_size)]
    held_out = subject(block)
    if held_out is None:
        skipped.append(f"the training anatomy is not under {_data()}: no population `subject`")
    else:
        made.append(held_out)
    judge = trxscan_population(wanted.small, 904, wanted.voxel_size, readout=False)
    if judge is None:
        skipped.append(
            "trxscan or the streamlines of its head are missing: no population `trxscan`"
        )
    else:
        made.append(judge)
    return [*made, single_voxels(wanted.single)]


def _data() -> Path:
    return Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
