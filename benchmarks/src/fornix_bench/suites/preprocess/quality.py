"""Lost slices, spikes and the verdict on cohorts of scans of two simulators.

Limits were set by what scans of the field show, none by the judge's cohort.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.estimators.mask import brain_mask
from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess import estimate_noise
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.quality import Quality, measure_quality, verdict_of
from fornix_bench.judge.phantom import MOVING, build_head
from fornix_bench.judge.scan import Faults, scan_head
from fornix_bench.table import Row

Mask = NDArray[np.bool_]

#: Own heads: protocol, motion (mm and degrees), SNR; one slice in thirty lost, one in fifty with a spike.
OWN = (
    ("1 + 12 at b = 1000", shells(1, (1000, 12)), 1.5, 15.0),
    ("1 + 32 at b = 1000", shells(1, (1000, 32)), 0.8, 20.0),
    ("1 + 32 at b = 1000, much motion", shells(1, (1000, 32)), 2.0, 20.0),
    ("6 + 30 + 60 at b = 1000, 3000", shells(6, (1000, 30), (3000, 60)), 0.8, 20.0),
)
#: The judge's: protocol, drift, share of weighted volumes in which a shot is lost.
JUDGE = (
    ("1 + 12 at b = 1000", shells(1, (1000, 12)), 3.0, 0.4),
    ("1 + 32 at b = 1000", shells(1, (1000, 32)), 5.0, 0.4),
    ("1 + 20 at b = 2000", shells(1, (2000, 20)), 3.0, 0.4),
)
_COHORT = shells(1, (1000, 24))
#: A slice counts where it holds at least this share of the largest slice's brain.
_SEEN = 0.05


def rows(threads: int = 2, quick: bool = False, seed: int = 0) -> list[Row]:
    """Detection by protocol, then the verdicts' AUC by cohort; `judge` none where quick."""
    made: list[Row] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        size = 5.0 if quick else 2.5
        for number, (name, table, motion, snr) in enumerate(OWN[:1] if quick else OWN):
            made.append(_own(name, table, motion, snr, size, threads, seed + number))
        cohort = [_own_member(n, seed, 5.0 if quick else 3.0) for n in range(6 if quick else 30)]
        made.append(_cohort("own", cohort))
        if not quick:
            head = build_head(MOVING)
            for number, (name, table, motion, dropout) in enumerate(JUDGE):
                faults = Faults(motion=motion, eddy=0.001, dropout=dropout)
                scan = scan_head(head, table, snr=20, seed=seed + number + 1, faults=faults)
                low = head.window[2].start
                lost = np.zeros((len(table), scan.dwi.grid[2]), bool)
                for volume, slices, _ in scan.dropped:
                    kept = [s - low for s in slices if 0 <= s - low < lost.shape[1]]
                    lost[volume, kept] = True
                made.append(_found("trxscan", name, scan.dwi, lost, None))
            made.append(_cohort("trxscan", [_judged_member(head, n, seed) for n in range(16)]))
    return made


def _own(
    name: str, table: Gradients, motion: float, snr: float, size: float, threads: int, seed: int
) -> Row:
    made = simulate(
        protocol=table, snr=snr, voxel_size=size, seed=seed + 11, threads=threads,
        artefacts=Artefacts(
            eddy=8, motion_mm=motion, motion_degrees=motion, dropout=1 / 30, spike=1 / 50
        ),
    )  # fmt: skip
    truth = made.artefact_truth
    assert truth is not None
    lost = np.zeros((len(table), made.dwi.grid[2]), bool)
    spiked = lost.copy()
    for drop in truth.dropped:
        lost[drop.volume, drop.slice] = True
    for spike in truth.spikes:
        spiked[spike.volume, spike.slice] = True
    return _found("own", name, made.dwi, lost, spiked)


def _prepared(dwi: DWI) -> DWI:
    return estimate_noise(brain_mask(dwi))


def _found(simulator: str, name: str, dwi: DWI, lost: Mask, spiked: Mask | None) -> Row:
    dwi = _prepared(dwi)
    start = time.perf_counter()
    found = measure_quality(dwi, Acquisition.of(dwi, direction="j"))
    seconds = time.perf_counter() - start
    area = dwi.brain().sum((0, 1))
    there = area >= _SEEN * area.max()
    bad, good = lost[:, there], ~lost[:, there]
    score = np.abs(found.slices[:, there])
    tail = np.sort(score[good])[::-1][int(0.01 * good.sum())]
    row: Row = {
        "simulator": simulator, "scan": name, "lost": int(bad.sum()),
        "found at 1% false": float((score[bad] > tail).mean()),
        "found": float(found.lost[:, there][bad].mean()),
        "false": float(found.lost[:, there][good].mean()), "seconds": seconds,
    }  # fmt: skip
    if spiked is not None:
        told = ~dwi.gradients.b0_mask
        expected = spiked[told][:, there].sum(1)
        counted = np.array(found.volumes["spike_slices"], float)[told]
        row |= {
            "spikes": int(expected.sum()),
            "spikes found": float(np.minimum(counted, expected).sum() / max(expected.sum(), 1)),
            "others": int(np.maximum(counted - expected, 0).sum()),
        }
    return row


def _own_member(number: int, seed: int, size: float) -> tuple[bool, Quality]:
    """An even number is a usual scan; an odd one has a fault in turn."""
    rng = np.random.default_rng([seed, 61, number])
    motion = rng.uniform(0.1, 0.7)
    artefacts = Artefacts(
        motion_mm=motion, motion_degrees=motion, dropout=rng.uniform(0, 0.005),
        ghost=rng.uniform(0, 0.02), spike=rng.uniform(0, 0.002), eddy=rng.uniform(0, 10), gibbs=0.9,
    )  # fmt: skip
    snr, bad = rng.uniform(15, 35), bool(number % 2)
    if bad:
        kind, strong = (number // 2) % 5, rng.uniform(3, 5)
        artefacts = (
            replace(artefacts, motion_mm=strong, motion_degrees=strong),
            replace(artefacts, dropout=rng.uniform(0.1, 0.4)),
            replace(artefacts, spike=rng.uniform(0.05, 0.2)),
            replace(artefacts, ghost=rng.uniform(0.1, 0.3)), artefacts,
        )[kind]  # fmt: skip
        snr = rng.uniform(3, 7) if kind == 4 else snr
    made = simulate(
        protocol=_COHORT, snr=snr, voxel_size=size, seed=seed + 100 + number, threads=1,
        artefacts=artefacts,
    )  # fmt: skip
    dwi = _prepared(made.dwi)
    return bad, measure_quality(dwi, Acquisition.of(dwi, direction="j"))


def _judged_member(head: object, number: int, seed: int) -> tuple[bool, Quality]:
    """As `_own_member`, with the faults that the judge has: motion, noise, lost shots with motion."""
    rng = np.random.default_rng([seed, 62, number])
    bad, kind = bool(number % 2), (number // 2) % 3
    faults = Faults(motion=rng.uniform(0.2, 2), eddy=0.001, dropout=rng.uniform(0, 0.05))
    snr = rng.uniform(15, 35)
    if bad and kind == 0:
        faults = Faults(motion=rng.uniform(7, 12), eddy=0.001)
    elif bad and kind == 1:
        snr = rng.uniform(3, 7)
    elif bad:
        faults = Faults(motion=rng.uniform(2, 4), eddy=0.001, dropout=1.0)
    scan = scan_head(head, _COHORT, snr=snr, seed=seed + 300 + number, faults=faults)  # type: ignore[arg-type]
    dwi = _prepared(scan.dwi)
    return bad, measure_quality(dwi, Acquisition.of(dwi, direction="j"))


def _cohort(simulator: str, members: list[tuple[bool, Quality]]) -> Row:
    verdicts = [verdict_of(quality.summary) for _, quality in members]
    bad = np.array([b for b, _ in members])
    ranks = rankdata([v.score for v in verdicts])
    above = ranks[bad].sum() - bad.sum() * (bad.sum() + 1) / 2
    accepted = np.array([v.word == "accept" for v in verdicts])
    return {
        "simulator": simulator, "scan": f"cohort of {len(members)}, half of them bad",
        "auc": float(above / (bad.sum() * (~bad).sum())),
        "usual accepted": float(accepted[~bad].mean()), "bad accepted": float(accepted[bad].mean()),
    }  # fmt: skip
