"""Fibre orientations against truth: missed and spurious peaks, angles, close crossings.

`fornix bench orientation` writes orientation.{csv,md,png}. Sections: single voxels of tissue that is
not the training's (other dispersions, densities and diffusivities, and Gaussian water around the
neurites instead of a dispersed one), a slab of a head made of bundles, the isbi2012 phantom, and real
scans. Every method sees the same voxels and, where it deconvolves, the same responses; the same search
finds the peaks of every FOD; and each method gets the threshold that is best for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.estimators.fod import FOD_METHODS
from fornix.estimators.microstructure import microstructure
from fornix.models.deconvolution.response import Responses, estimate_responses
from fornix.models.peaks import measure_peaks
from fornix.physics.protocol import scheme, shells
from fornix.physics.tissue import Tissue, signal
from fornix_bench.peers.microstructure import PeerMissing
from fornix_bench.peers.orientation import mrtrix, rumba
from fornix_bench.suites.orientation.page import write
from fornix_bench.suites.orientation.phantom import TestScan, bundles_scan, head, isbi_scans
from fornix_bench.suites.orientation.real import real_rows
from fornix_bench.suites.orientation.truth import (
    PEAKS,
    RELATIVE,
    SEPARATION,
    Found,
    random_truth,
    scored,
)
from fornix_bench.table import Row, write_csv

SNR = 20.0
PROTOCOLS: dict[str, Callable[[], Gradients]] = {
    "30 at b=1000": lambda: shells(3, (1000, 30)),
    "60 at b=2500": lambda: shells(5, (2500, 60)),
    "ukb": lambda: scheme("ukb"),
    "12 at b=1000": lambda: scheme("dti12"),
    "6 at b=1000": lambda: scheme("dti6"),
}
#: Order of every deconvolution: beyond what few directions support, but it scores better there too.
LMAX = 8


def run_orientation(
    out: str | Path = "docs/benchmarks",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    size: int | None = None,
) -> list[Row]:
    """All sections, protocols and methods; writes the table, the page and the plot.

    quick: two protocols of single voxels, fewer voxels. size: voxels per protocol, instead of 3,000
    (900). The bundles, the isbi2012 phantom and the real scans are read from the folder that
    FORNIX_TEST_DATA names, and left out where they are not there.
    Returns the rows, by `part` (voxels, bundles, isbi2012, real): section `best` (each method at its
    best threshold), `curve` (every threshold worth choosing), `real` and `skipped`.
    """
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    names = ["30 at b=1000", "6 at b=1000"] if quick else list(PROTOCOLS)
    count = size or (900 if quick else 3000)
    rows: list[Row] = []
    with use_threads(threads):
        for name in names:
            make = PROTOCOLS[name]
            tissue, truth = random_truth(count, seed)
            dwi = scan(tissue, make(), seed)
            held = TestScan(dwi, dwi.brain(), truth)
            rows += _section("voxels", name, held, threads, ("voxelwise",))
        both = FOD_METHODS.having("network")
        if not quick and (data / "anatomy" / "bundles72").is_dir():
            made = head(data / "anatomy")
            for name, make in PROTOCOLS.items():
                held = bundles_scan(made, make(), count, SNR, seed)
                rows += _section("bundles", name, held, threads, both)
        if not quick and (data / "phantom" / "isbi2012").is_dir():
            for name, held in isbi_scans(data).items():
                rows += _section("isbi2012", name, held, threads, both)
        if not quick and (data / "dwi").is_dir():
            rows += real_rows(data, threads)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "orientation.csv", rows)
    write(folder, rows, count, threads, seed)
    return rows


def _section(
    part: str, name: str, held: TestScan, threads: int, learned: tuple[str, ...]
) -> list[Row]:
    rows: list[Row] = []
    for method, found in _estimates(held, threads, learned).items():
        about: Row = {"part": part, "protocol": name, "method": method}
        if isinstance(found, str):
            rows.append({"section": "skipped", **about, "why": found})
        else:
            rows += [{**about, **r} for r in scored(found, held.truth)]
    return rows


def scan(tissue: Tissue, gradients: Gradients, seed: int) -> DWI:
    """Voxels as a scan (n, 1, 1, N) with Rician noise, white matter at b = 0 being 1000."""
    rng = np.random.default_rng([seed, 12])
    clean = 1000 * signal(tissue, gradients, extra="mean").numpy()
    level = 1000 / SNR
    real, imaginary = (level * rng.standard_normal(clean.shape) for _ in range(2))
    data = np.hypot(clean + real, imaginary).astype(np.float32)[:, None, None]
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return DWI(data, gradients, affine, mask=np.ones(data.shape[:3], bool), sigma=level)


def _estimates(scan: TestScan, threads: int, learned: tuple[str, ...]) -> dict[str, Found | str]:
    """What each method finds in the scored voxels, or why it finds nothing."""
    tensor = microstructure(scan.dwi, models=("dti",), method="wls")
    made: dict[str, Found | str] = {name: _learned(scan, name) for name in learned}
    responses = estimate_responses(scan.dwi, tensor["dti_fa"].data, tensor["dti_md"].data, LMAX)
    part = scan.dwi.with_(mask=scan.scored)
    names = ("csd", "msmt", "csd-dipy") if len(responses.levels) > 1 else ("csd", "csd-dipy")
    for name in names:
        made[name] = _peaks(part, partial(_deconvolved, responses=responses, method=name))
    signals = part.data[scan.scored][:, None, None]
    voxels = part.with_(data=signals, mask=np.ones(signals.shape[:3], bool), sigma=None)
    try:
        began = time.perf_counter()
        fod = mrtrix(voxels, responses, LMAX, "csd", threads)
        made["MRtrix3 csd"] = _peaks_of(fod, time.perf_counter() - began)
    except PeerMissing as error:
        made["MRtrix3 csd"] = str(error)
    made["RUMBA"] = rumba(voxels, tensor)
    return made


def _learned(scan: TestScan, method: str) -> Found:
    few = np.zeros(scan.dwi.grid, dtype=bool)
    few.reshape(-1)[np.flatnonzero(scan.dwi.brain())[:64]] = True
    FOD_METHODS[method].run(scan.dwi.with_(mask=few), PEAKS)  # kernels and weights are there
    began = time.perf_counter()
    maps = FOD_METHODS[method].run(scan.dwi, PEAKS, min_peak_prob=0.0)
    seconds = time.perf_counter() - began
    vectors, probability, cone = (
        maps[name].data[scan.scored] for name in ("peaks", "peakprob", "peakcone")
    )
    vectors = vectors.reshape(-1, PEAKS, 3)
    # Timed on the whole mask, as it must read neighbours: told for as many voxels as are scored.
    seconds *= scan.scored.sum() / scan.dwi.brain().sum()
    return Found(vectors, np.linalg.norm(vectors, axis=2), seconds, probability, cone)


def _deconvolved(dwi: DWI, responses: Responses, method: str) -> NDArray[np.float32]:
    fod: NDArray[np.float32] = FOD_METHODS[method].run(dwi, responses, LMAX)["fod"]
    return fod[dwi.brain()]


def _peaks(dwi: DWI, run: Callable[[DWI], NDArray[np.float32]]) -> Found:
    few = np.zeros(dwi.grid, dtype=bool)
    few.reshape(-1)[np.flatnonzero(dwi.brain())[:64]] = True
    run(dwi.with_(mask=few))
    began = time.perf_counter()
    return _peaks_of(run(dwi), time.perf_counter() - began)


def _peaks_of(fod: NDArray[np.float32], seconds: float) -> Found:
    found = measure_peaks(fod, PEAKS, relative=float(RELATIVE[0]), separation=SEPARATION)
    return Found(found.directions, found.amplitude, seconds)
