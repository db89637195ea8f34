"""Fibre orientations against simulated truth: missed and spurious peaks, angles, close crossings.

`fornix bench orientation` writes orientation.{csv,md,png}. Every method sees the same voxels and, where
it deconvolves, the same responses; the same search finds the peaks of every FOD; and each method gets
the threshold that is best for it. The tissue is not the training's: other dispersions, densities and
diffusivities, and Gaussian water around the neurites instead of a dispersed one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.bench.orientation_page import write
from fornix.bench.orientation_peers import mrtrix
from fornix.bench.peers import PeerMissing
from fornix.bench.table import Row, write_csv
from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.microstructure import microstructure
from fornix.orientation.estimate import FOD_METHODS
from fornix.orientation.learned import learned_fod
from fornix.orientation.matching import match
from fornix.orientation.peaks import measure_peaks
from fornix.orientation.response import Responses, estimate_responses
from fornix.physics.protocol import scheme, shells
from fornix.physics.tissue import Tissue, signal

SNR = 20.0
LEARNED = "learned"
#: Protocol and, for deconvolution, the order that its directions support.
PROTOCOLS: dict[str, tuple[Callable[[], Gradients], int]] = {
    "30 at b=1000": (lambda: shells(3, (1000, 30)), 8),
    "60 at b=2500": (lambda: shells(5, (2500, 60)), 8),
    "ukb": (lambda: scheme("ukb"), 8),
    "12 at b=1000": (lambda: scheme("dti12"), 4),
    "6 at b=1000": (lambda: scheme("dti6"), 4),
}
_PEAKS, _SEPARATION = 4, 20.0
_RELATIVE = np.array([0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7])
#: Of the median largest peak of voxels with one fibre.
_ABSOLUTE = np.array([0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5])
_PROBABILITY = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
#: A close crossing is resolved where both of its axes are found this near, degrees.
_RESOLVED = 20.0


@dataclass(frozen=True, eq=False)
class Truth:
    """Loose voxels. fibres: (n,) how many, 0 in grey matter and water. water: (n,). angle: (n,) least
    angle between two fibres, degrees, NaN where there are fewer."""

    tissue: Tissue
    fibres: NDArray[np.int64]
    water: NDArray[np.bool_]
    angle: NDArray[np.float64]

    @property
    def real(self) -> NDArray[np.bool_]:
        """(n, 3) which axes exist."""
        return np.asarray(np.arange(3) < self.fibres[:, None])


@dataclass(frozen=True, eq=False)
class Found:
    """Peaks of one method: directions (n, K, 3), amplitude (n, K); for the network probability and
    cone (n, K), None for others. seconds: for all voxels."""

    directions: NDArray[np.float32]
    amplitude: NDArray[np.float32]
    seconds: float
    probability: NDArray[np.float32] | None = None
    cone: NDArray[np.float32] | None = None


def run_orientation(
    out: str | Path = "docs/benchmarks",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    size: int | None = None,
) -> list[Row]:
    """All protocols and methods; writes the table, the page and the plot. Returns the rows: section
    `best` (each method at its best threshold), `curve` (every
    threshold worth choosing) and `skipped`.

    quick: two protocols, fewer voxels. size: voxels per protocol, instead of 3,000 (900).
    """
    names = ["30 at b=1000", "6 at b=1000"] if quick else list(PROTOCOLS)
    count = size or (900 if quick else 3000)
    rows: list[Row] = []
    with use_threads(threads):
        for name in names:
            make, lmax = PROTOCOLS[name]
            truth = random_truth(count, seed)
            dwi = scan(truth, make(), seed)
            for method, found in _estimates(dwi, lmax, threads).items():
                about: Row = {"protocol": name, "method": method}
                if isinstance(found, str):
                    rows.append({"section": "skipped", **about, "why": found})
                else:
                    rows += [{**r, **about} for r in scored(found, truth)]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "orientation.csv", rows)
    write(folder, rows, count, threads, seed)
    return rows


def random_truth(count: int, seed: int) -> Truth:
    """White matter of one to three coherent fibres, grey matter and water."""
    rng = np.random.default_rng([seed, 11])
    kind = rng.choice(5, size=count, p=[0.25, 0.42, 0.08, 0.15, 0.10])
    fibres = np.array([1, 2, 3, 0, 0])[kind]
    mu = _unit(rng.standard_normal((count, 3, 3)))
    angle = np.radians(rng.uniform(20, 90, count))
    side = _unit(np.cross(mu[:, 0], mu[:, 1]))
    across = np.cross(side, mu[:, 0])
    two = fibres >= 2
    mu[two, 1] = (np.cos(angle)[:, None] * mu[:, 0] + np.sin(angle)[:, None] * across)[two]
    three = fibres == 3
    mu[three, 2] = side[three]  # the third stands across the plane of the first two
    share = rng.uniform(0.3, 0.7, (count, 3)) * (np.arange(3) < np.maximum(fibres, 1)[:, None])
    share /= share.sum(1, keepdims=True)
    grey, water = kind == 3, kind == 4
    odi = rng.uniform(0.01, 0.09, (count, 3))
    odi[grey | water] = rng.uniform(0.85, 1.0, (int((grey | water).sum()), 3))
    ndi = np.where(grey, rng.uniform(0.25, 0.45, count), 0.45 + 0.35 * rng.beta(3, 2, count))
    d_par = np.where(grey, 1.2, rng.normal(1.9, 0.1, count))
    d_perp = np.where(grey, 0.9, rng.normal(0.55, 0.08, count)).clip(0.2)
    fwf = np.where(water, rng.uniform(0.9, 1, count), rng.uniform(0, 0.15, count))
    tissue = Tissue(
        *(torch.as_tensor(v).float() for v in (mu, share, odi, ndi, fwf, d_par, d_perp))
    )
    least = np.where(two, np.degrees(angle), np.nan)
    return Truth(tissue.check(), fibres, water, least)


def scan(truth: Truth, gradients: Gradients, seed: int) -> DWI:
    """The voxels as a scan (n, 1, 1, N) with Rician noise, white matter at b = 0 being 1000."""
    rng = np.random.default_rng([seed, 12])
    clean = 1000 * signal(truth.tissue, gradients, extra="mean").numpy()
    level = 1000 / SNR
    real, imaginary = (level * rng.standard_normal(clean.shape) for _ in range(2))
    data = np.hypot(clean + real, imaginary).astype(np.float32)[:, None, None]
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return DWI(data, gradients, affine, mask=np.ones(data.shape[:3], bool), sigma=level)


def _estimates(dwi: DWI, lmax: int, threads: int) -> dict[str, Found | str]:
    tensor = microstructure(dwi, ("dti",), "wls")
    responses = estimate_responses(dwi, tensor["dti_fa"].data, tensor["dti_md"].data, lmax)
    made: dict[str, Found | str] = {LEARNED: _learned(dwi)}
    for name in ("csd", "msmt", "csd-dipy"):
        made[name] = _deconvolved(dwi, responses, lmax, name)
    for name in ("csd", "msmt_csd"):
        try:
            began = time.perf_counter()
            fod = mrtrix(dwi, responses, lmax, name, threads)
            made[f"MRtrix3 {name}"] = _peaks_of(fod, time.perf_counter() - began)
        except PeerMissing as error:
            made[f"MRtrix3 {name}"] = str(error)
    return made


def _learned(dwi: DWI) -> Found:
    learned_fod(dwi.with_(mask=_first(dwi)), _PEAKS)  # compiled kernels and weights are there
    began = time.perf_counter()
    maps = learned_fod(dwi, _PEAKS, confident=0.0)
    seconds = time.perf_counter() - began
    vectors = maps["peaks"].data.reshape(-1, _PEAKS, 3)
    amplitude = np.linalg.norm(vectors, axis=2)
    return Found(
        vectors, amplitude, seconds, maps["peakprob"].data.reshape(-1, _PEAKS),
        maps["peakcone"].data.reshape(-1, _PEAKS),
    )  # fmt: skip


def _deconvolved(dwi: DWI, responses: Responses, lmax: int, method: str) -> Found:
    run = FOD_METHODS[method].run
    run(dwi.with_(mask=_first(dwi)), responses, lmax)
    began = time.perf_counter()
    fod = run(dwi, responses, lmax)["fod"].reshape(len(dwi.data), -1)
    return _peaks_of(fod, time.perf_counter() - began)


def _peaks_of(fod: NDArray[np.float32], seconds: float) -> Found:
    found = measure_peaks(fod, _PEAKS, relative=float(_RELATIVE[0]), separation=_SEPARATION)
    return Found(found.directions, found.amplitude, seconds)


def _first(dwi: DWI) -> NDArray[np.bool_]:
    mask = np.zeros(dwi.grid, dtype=bool)
    mask[:64] = True
    return mask


def scored(found: Found, truth: Truth) -> list[Row]:
    """The scores at the best threshold, and the curve of those worth choosing."""
    rows: list[Row] = []
    if found.probability is not None:
        for least in _PROBABILITY:
            kept = found.probability >= least
            rows.append({"threshold": f"p {least:g}", **scores(found, kept, truth)})
    else:
        # What one fibre's peak is like sets the scale of amplitudes.
        scale = float(np.median(found.amplitude[truth.fibres == 1, 0]))
        for absolute in _ABSOLUTE:
            for relative in _RELATIVE:
                floor = np.maximum(relative * found.amplitude[:, :1], absolute * scale)
                kept = (found.amplitude >= floor) & (found.amplitude > 0)
                words = f"{relative:g} of the largest, {absolute:g} of one fibre's"
                rows.append({"threshold": words, **scores(found, kept, truth)})
    best = min(rows, key=lambda r: float(r["sum"]))
    per_second = len(truth.fibres) / found.seconds
    return [
        {"section": "best", **best, "voxels_per_s": per_second},
        *({"section": "curve", **r} for r in _front(rows)),
    ]


def _front(rows: list[Row]) -> list[Row]:
    """The thresholds worth choosing, from the strictest: no other misses less for as few spurious."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda r: (float(r["spurious"]), float(r["missed"]))):
        if not kept or row["missed"] < kept[-1]["missed"]:
            kept.append(row)
    return kept


def scores(found: Found, kept: NDArray[np.bool_], truth: Truth) -> Row:
    """Scores of the peaks `kept` (n, K). Rates are per voxel of white matter; spurious ones of grey
    matter and water per voxel of these."""
    white, water = truth.fibres > 0, truth.water
    axes, real = truth.tissue.mu.numpy(), truth.real
    shown = found.directions * kept[..., None]
    angle, partner = match(shown[white], axes[white], real[white])
    missed = float((real[white] & (partner < 0)).sum() / white.sum())
    extra = kept[white].sum(1) - (partner >= 0).sum(1)
    spurious = float(extra.sum() / white.sum())
    counts = np.asarray(kept[white].sum(1) == truth.fibres[white])
    between, fibres = truth.angle[white], truth.fibres[white]
    made: Row = {
        "missed": missed,
        "spurious": spurious,
        "sum": missed + spurious,
        "right_count": float(counts.mean()),
        "spurious_gm": float(kept[(truth.fibres == 0) & ~water].sum(1).mean()),
        "spurious_csf": float(kept[water].sum(1).mean()),
        "error_1": _mean(angle[fibres == 1]),
    }
    for low, high in ((30, 45), (45, 60), (60, 90)):
        here = (between >= low) & (between < high) & (fibres == 2)
        made[f"error_{low}_{high}"] = _mean(angle[here])
        both = (np.nan_to_num(angle[here][:, :2], nan=180) <= _RESOLVED).all(1)
        made[f"resolved_{low}_{high}"] = float(both.mean())
    made["error_45_90"] = _mean(angle[between >= 45])
    if found.cone is not None:
        cones = np.take_along_axis(found.cone[white], np.maximum(partner, 0), 1)
        near = (partner >= 0) & (angle <= 25)
        made["in_cone"] = float((angle <= cones)[near].mean())
    return made


def _mean(values: NDArray[np.float32]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
