"""Heads that travel: every head at every site twice, and what maps make of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from fornix.core.dwi import DWI
from fornix.estimators.fod import fod
from fornix.estimators.microstructure import microstructure
from fornix.numerics.directions import spread
from fornix.numerics.harmonics import evaluate, lmax_of
from fornix_bench.suites.harmonize.scanners import SCANNERS, TRACTS, Head, head, scan
from fornix_bench.table import Row, read_csv, write_csv

#: Heads that travel; repeated scans of each at each site.
HEADS, REPEATS = (701, 702, 703, 704, 705, 706), 2
METHODS = ("learned", "classical")
MAPS = ("fa", "md", "mk", "ndi", "fod_peak")
_MODELS = ("dti", "dki", "noddi")


def data_folder() -> Path:
    """Where the anatomy lies."""
    return Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))


def measured(path: Path, quick: bool, seed: int) -> list[Row]:
    """Rows of all scans; those that the file holds already are kept, so that a stopped run goes on.

    Args:
        path: CSV of the scans.
        quick: One head, two sites.
        seed: Of the scans.
    """
    rows = read_csv(path) if path.exists() and not quick else []
    done = {(r["head"], r["site"], r["repeat"]) for r in rows}
    for number in HEADS[:1] if quick else HEADS:
        subject = None
        for scanner in SCANNERS[:2] if quick else SCANNERS:
            for repeat in range(REPEATS):
                if (number, scanner.name, repeat) in done:
                    continue
                subject = subject or head(data_folder(), number)
                place = [number, SCANNERS.index(scanner), repeat, seed]
                found = tract_values(scan(subject, scanner, place), subject)
                about = {"head": number, "site": scanner.name, "repeat": repeat}
                rows += [{**about, **row} for row in found]
                if not quick:
                    write_csv(path, rows)
    return rows


def tract_values(dwi: DWI, subject: Head) -> list[Row]:
    """A row per method and map: its mean over every tract."""
    rows: list[Row] = []
    for method in METHODS:
        start = time.perf_counter()
        maps = microstructure(dwi, models=_MODELS, method=method, std=False)
        values = {p: maps[p].data for p in ("fa", "md", "mk", "ndi")}
        values["fod_peak"] = _largest(
            fod(dwi, method="learned" if method == "learned" else "csd")["fod"].data
        )
        seconds = time.perf_counter() - start
        for name, image in values.items():
            row: Row = {"method": method, "map": name, "seconds": seconds}
            for tract in TRACTS:
                if tract in subject.tracts:
                    row[tract] = float(np.nanmean(image[subject.tracts[tract]]))
            rows.append(row)
    return rows


def _largest(harmonics: np.ndarray) -> np.ndarray:
    """Height of each voxel's largest lobe."""
    basis = evaluate(lmax_of(harmonics.shape[-1]), spread(150))
    inside = harmonics[..., 0] != 0
    out = np.full(harmonics.shape[:3], np.nan)
    out[inside] = (harmonics[inside] @ basis.T).max(1)
    return out
