"""`fornix bench checks`: how often the checks of a scan say "wrong" of what is right, and miss what is wrong.

Simulated heads of many protocols and noise levels, unspoilt and spoilt on purpose: the gradient table
(all 23 flips and swaps), volumes that are not what their label says, runs joined with another scale, and
slices that lost signal. Nothing here was used to set the levels but the seeds below 100.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients, fsl_to_world
from fornix.estimators.microstructure import microstructure
from fornix.physics import simulate
from fornix.preprocess import estimate_noise
from fornix.preprocess.gradient_check import check_gradients, table_changes
from fornix.preprocess.quality import measure_quality
from fornix.preprocess.volume_check import check_volumes
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

PROTOCOLS = ("dti6", "dti12", "dti30", "abcd", "ukb")
SNRS = (2.0, 3.0, 5.0, 10.0, 20.0, 40.0)
_FIRST_SEED = 100


@dataclass(frozen=True)
class Spoilt:
    """A fault: its name, what makes it of a scan, and the volumes that are then odd."""

    name: str
    make: Callable[[DWI, np.random.Generator], tuple[DWI, set[int]]]


def run_checks(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Write checks.csv and checks.md into `out`; quick: two protocols, one seed. Returns the rows."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    protocols = PROTOCOLS[2:3] if quick else PROTOCOLS
    snrs = (5.0, 20.0) if quick else SNRS
    rows: list[Row] = []
    with use_threads(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for protocol in protocols:
            for snr in snrs:
                sizes = (5.0,) if quick else (5.0, 5.0, 3.5)
                heads = [
                    _head(protocol, snr, _FIRST_SEED + 10 * seed + k, size)
                    for k, size in enumerate(sizes)
                ]
                rows.append(_gradient_row(protocol, snr, heads))
                rows.append(_volume_row(protocol, snr, heads, seed))
    rows += _totals(rows)
    write_csv(folder / "checks.csv", rows)
    blocks = [
        f"Simulated heads. {environment(threads, seed)}.",
        "Made by `fornix bench checks`.",
        "## Gradient table",
        markdown([r for r in rows if r["check"] == "gradients"], _GRADIENT_COLUMNS),
        "`false_alarms`: share of right tables called wrong. `found`: share of the 23 flips and swaps of "
        "each scan that are called wrong; `named`: with the right remedy (of two tables that differ by the "
        "direction's sign only, either).",
        "## Volumes and slices",
        markdown([r for r in rows if r["check"] == "volumes"], _VOLUME_COLUMNS),
        "`false_alarms`: share of unspoilt scans in which any volume is called odd; `slices`: share of "
        "unspoilt slices called outliers. The others: share of spoilt scans in which the fault is named.",
    ]
    write_page(folder / "checks.md", "Checks of a scan", blocks)
    return rows


_GRADIENT_COLUMNS = ("protocol", "snr", "scans", "false_alarms", "found", "named")
_VOLUME_COLUMNS = (
    "protocol", "snr", "scans", "false_alarms", "slices", "adc as b0", "mean as b0", "trace in a shell",
    "joined runs", "bright b0", "moved run", "trace at half b",
)  # fmt: skip


def _head(protocol: str, snr: float, seed: int, voxel_size: float) -> DWI:
    made = simulate("embedded", protocol, snr, seed=seed, voxel_size=voxel_size, threads=1)
    return estimate_noise(made.dwi.with_(mask=made.mask, sigma=None))


def _gradient_row(protocol: str, snr: float, heads: list[DWI]) -> Row:
    alarms, found, named, tried = 0, 0, 0, 0
    for dwi in heads:
        maps = microstructure(dwi, models=("dti",), method="wls", std=False)
        v1, fa = maps["dti_v1"].data, maps["dti_fa"].data * dwi.brain()
        alarms += check_gradients(v1, fa, dwi.affine).verdict == "wrong"
        to_world = fsl_to_world(dwi.affine)
        for name, change in table_changes():
            if name == "as given":
                continue
            # A change of the table's rows changes the fitted directions in the same way.
            turned = (v1 @ (to_world @ change @ to_world.T).T).astype(np.float32)
            check = check_gradients(turned, fa, dwi.affine)
            tried += 1
            found += check.verdict == "wrong"
            back = dict(table_changes())[check.best] @ change
            named += check.verdict == "wrong" and np.allclose(np.abs(np.trace(back)), 3)
    return {
        "check": "gradients", "protocol": protocol, "snr": snr, "scans": len(heads),
        "false_alarms": alarms / len(heads), "found": found / tried, "named": named / tried,
    }  # fmt: skip


def _volume_row(protocol: str, snr: float, heads: list[DWI], seed: int) -> Row:
    rng = np.random.default_rng([seed, 7])
    row: Row = {"check": "volumes", "protocol": protocol, "snr": snr, "scans": len(heads)}
    row["false_alarms"] = float(np.mean([bool(check_volumes(dwi)) for dwi in heads]))
    lost = [measure_quality(dwi).lost for dwi in heads]
    row["slices"] = sum(int(found.sum()) for found in lost) / sum(found.size for found in lost)
    for fault in FAULTS:
        hits = []
        for dwi in heads:
            spoilt, odd = fault.make(dwi, rng)
            spoilt = estimate_noise(spoilt.with_(sigma=None))
            said = {v for finding in check_volumes(spoilt) for v in finding.volumes}
            hits.append(bool(said & odd))
        row[fault.name] = float(np.mean(hits))
    return row


def _totals(rows: list[Row]) -> list[Row]:
    """Over all protocols: the figures that the goals are about."""
    out: list[Row] = []
    for check, low in (("gradients", 2.0), ("gradients", 10.0), ("volumes", 10.0)):
        same = [r for r in rows if r["check"] == check and r["snr"] >= low]
        about: Row = {"check": check, "protocol": f"all, SNR {low:g} and above", "snr": low,
                      "scans": sum(r["scans"] for r in same)}  # fmt: skip
        for name in same[0]:
            if name not in about:
                about[name] = float(
                    np.average([r[name] for r in same], weights=[r["scans"] for r in same])
                )
        out.append(about)
    return out


def _appended(dwi: DWI, image: np.ndarray, b: float, vector: np.ndarray) -> tuple[DWI, set[int]]:
    """The scan with one more volume somewhere in the middle."""
    place = len(dwi.gradients) // 2
    table = Gradients(
        np.insert(dwi.gradients.bvals, place, b),
        np.insert(dwi.gradients.directions, place, vector, axis=0),
    )
    data = np.insert(np.asarray(dwi.data), place, image, axis=3)
    return dwi.with_(data=data, gradients=table, sigma=None), {place}


def _adc(dwi: DWI, rng: np.random.Generator) -> tuple[DWI, set[int]]:
    b0, weighted = np.clip(dwi.mean_b0(), 1, None), np.clip(dwi.mean_dwi(), 1, None)
    image = 1000 * np.clip(np.log(b0 / weighted), 0, None) * dwi.brain()
    return _appended(dwi, image, 0.0, np.zeros(3))


def _mean(dwi: DWI, rng: np.random.Generator) -> tuple[DWI, set[int]]:
    return _appended(dwi, dwi.mean_dwi(), 0.0, np.zeros(3))


def _trace(dwi: DWI, rng: np.random.Generator) -> tuple[DWI, set[int]]:
    """The mean of the largest shell among its directions, under one of its vectors."""
    shell = max(dwi.gradients.shells, key=len)
    vector = rng.standard_normal(3)
    image = dwi.mean_of(np.array(shell.volumes))
    return _appended(dwi, image, shell.b, vector / np.linalg.norm(vector))


def _joined(dwi: DWI, rng: np.random.Generator) -> tuple[DWI, set[int]]:
    """The second half of another scale, with b0s of its own."""
    half = len(dwi.gradients) // 2
    data = np.array(dwi.data)
    data[..., half:] *= 1.15
    near = set(range(half - 2, half + 3)) | {
        int(v) for v in np.flatnonzero(dwi.gradients.b0_mask) if v >= half
    }
    return dwi.with_(data=data, sigma=None), near | set(
        np.flatnonzero(dwi.gradients.b0_mask).tolist()
    )


def _bright(dwi: DWI, rng: np.random.Generator) -> tuple[DWI, set[int]]:
    b0 = np.flatnonzero(dwi.gradients.b0_mask)
    image = 1.2 * dwi.volume(int(b0[0])) + rng.normal(0, 1, dwi.grid).astype(np.float32)
    return _appended(dwi, image, 0.0, np.zeros(3))[0], {len(dwi.gradients) // 2, int(b0[0])}


def _moved(dwi: DWI, rng: np.random.Generator) -> tuple[DWI, set[int]]:
    """The second half a voxel further right."""
    half = len(dwi.gradients) // 2
    data = np.array(dwi.data)
    data[..., half:] = np.roll(data[..., half:], 1, axis=0)
    return dwi.with_(data=data, sigma=None), set(range(half - 1, half + 2))


def _half(dwi: DWI, rng: np.random.Generator) -> tuple[DWI, set[int]]:
    """The mean of the highest shell, labelled with half its b."""
    shell = dwi.gradients.shells[-1]
    image = dwi.mean_of(np.array(shell.volumes))
    return _appended(dwi, image, 0.5 * shell.b, np.array([0.0, 0.0, 1.0]))


FAULTS = (
    Spoilt("adc as b0", _adc),
    Spoilt("mean as b0", _mean),
    Spoilt("trace in a shell", _trace),
    Spoilt("joined runs", _joined),
    Spoilt("bright b0", _bright),
    Spoilt("moved run", _moved),
    Spoilt("trace at half b", _half),
)
