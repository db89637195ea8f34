"""`fornix bench noise`: the noise level told from few volumes, beside what was added or what all tell."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.estimators.mask import brain_mask
from fornix.io import load
from fornix.numerics.directions import best_subset
from fornix.physics import Noise, simulate
from fornix.physics.anatomy import Anatomy, embedded
from fornix.physics.protocol import shells
from fornix.preprocess import estimate_noise
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

COUNTS = (3, 4, 6, 7, 9, 12)
METHODS = ("auto", "spatial")
SNRS = (10.0, 20.0, 40.0, 80.0)
#: Of simulated heads: b-value and smoothing of the noise, in voxels.
KINDS = ((1000.0, 0.0), (1000.0, 0.8), (2000.0, 0.0))


def run_noise(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Write noise.csv and noise.md into `out`; quick: one scan and one head.

    Scans are read from FORNIX_TEST_DATA or ../shared/data, those of enough volumes that all of them tell.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "dwi"
    scans = [p for p in sorted(data.glob("*/dwi.nii.gz")) if not any(w in str(p) for w in _LEFT)]
    rows: list[Row] = []
    with use_threads(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in scans[:1] if quick else scans:
            rows += _real(path.parent.name, estimate_noise(brain_mask(load(path))), seed)
        head = embedded(4.0 if quick else 3.0, 7 + seed)
        for b, smoothing in KINDS[:1] if quick else KINDS:
            for snr in SNRS[1:2] if quick else SNRS:
                rows += _simulated(head, b, smoothing, snr, seed)
    write_csv(folder / "noise.csv", rows)
    names = ("scan", "snr", "method", *(f"{n} directions" for n in COUNTS))
    write_page(
        folder / "noise.md",
        "Noise level of few volumes",
        [
            f"{environment(threads, seed)}.",
            "Made by `fornix bench noise`.",
            "Median over the brain of the level told from a b0 and few directions, over that added "
            "(simulated heads) or told by the residuals of all volumes (real scans; an estimate itself). "
            "`auto` is what Fornix does; `spatial`, differences between neighbours, what it did before where "
            "fewer than four volumes were left over.",
            markdown(rows, names),
        ],
    )
    return rows


#: Second scans of the same head, and those without a shell of many directions or a whole brain.
_LEFT = ("slab", "tilt", "run-2", "dir-PA")


def _real(name: str, full: DWI, seed: int) -> list[Row]:
    table = full.gradients
    shell = np.array(max(table.shells, key=len).volumes)
    b0 = np.flatnonzero(table.b0_mask)[:1]
    parts = {}
    for count in (c for c in COUNTS if c < len(shell)):
        chosen = _spread(table.subset(shell), count, seed)
        parts[count] = full.subset(np.sort(np.concatenate([b0, shell[chosen]])))
    true = np.asarray(full.sigma)
    snr = float(np.median((full.mean_b0() / np.maximum(true, 1e-9))[full.brain()]))
    return _rows(name, snr, parts, true, full.brain())


def _spread(table: Gradients, count: int, seed: int) -> np.ndarray:
    """The best conditioned directions; a tensor needs six of them, fewer are drawn."""
    if count < 6:
        return np.random.default_rng([seed, count]).choice(len(table), count, replace=False)
    return best_subset(table.directions, count, seed)


def _simulated(head: Anatomy, b: float, smoothing: float, snr: float, seed: int) -> list[Row]:
    parts, true = {}, np.zeros(0)
    for count in COUNTS:
        noise = Noise(snr=snr, smoothing=smoothing)
        made = simulate(head, shells(1, (b, count)), noise=noise, seed=seed + count)
        true = np.broadcast_to(np.asarray(made.sigma), head.grid)
        parts[count] = made.dwi.with_(mask=head.mask)
    name = f"simulated, b = {b:g}" + (", noise smoothed" if smoothing else "")
    return _rows(name, snr, parts, true, head.mask)


def _rows(
    name: str, snr: float, parts: dict[int, DWI], true: np.ndarray, brain: np.ndarray
) -> list[Row]:
    rows: list[Row] = []
    for method in METHODS:
        row: Row = {"scan": name, "snr": round(snr), "method": method}
        for count, dwi in parts.items():
            told = np.asarray(estimate_noise(dwi.with_(sigma=None), method=method).sigma)
            row[f"{count} directions"] = float(np.median(told[brain] / true[brain]))
        rows.append(row)
    return rows
