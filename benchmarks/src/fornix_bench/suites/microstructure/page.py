"""The page, tables and figures of `fornix bench microstructure`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fornix_bench.suites.microstructure import figures
from fornix_bench.suites.microstructure.accuracy import ORACLE
from fornix_bench.suites.microstructure.estimates import REFERENCE, learned
from fornix_bench.suites.microstructure.goals import glance, met
from fornix_bench.suites.microstructure.uncertainty import COVERAGE_GOAL, SPEARMAN_GOAL, pooled
from fornix_bench.table import Row, markdown, write_page

INTRODUCTION = """\
Every estimator sees the same noisy data and is scored against the truth of the simulation: for
tensor and kurtosis the weighted log-linear fit of the noise-free signal at 64 directions at
b = 1000 and 64 at 2000, never a noisy fit. Populations:

* `anatomy`: an atlas' head (training uses another one) with lesions and ageing; perpendicular
  diffusivity free of the tortuosity; half of the voxels hold a still restricted part of up to 6%;
  noise non-central chi of four correlated coils, uneven in space, correlated by interpolation.
* `exchange`: axons with a width (0.05 to 0.3 µm²/ms across) that exchange with their surroundings.
* `trxscan`: a head of another group's simulator: streamlines of another atlas, its own tissue, complex
  noise. Nothing was trained on it. One thing was chosen after a look at it: calibration meets heads without
  free water, as this one is in deep white matter. `single` are voxels of one fibre population, `crossing`
  of more.
* `subject`, `random`: held-out members of the training population (in-distribution figures flatter).

`white`: voxels of more than 70% white matter without lesion. SNR: signal of white matter at b = 0
over the standard deviation of the noise. Diffusivities in µm²/ms. `ratio`: to Fornix WLS on the same
voxels. All rows of all tables are in microstructure.csv."""


def write(
    folder: Path,
    rows: Sequence[Row],
    machine: str,
    skipped: Sequence[str],
    pictures: dict[str, np.ndarray],
) -> None:
    """microstructure.md and microstructure_*.png from the rows of `run_microstructure`."""
    blocks = [INTRODUCTION, f"{machine}.", "Made by `fornix bench microstructure`."]
    if not learned():
        blocks.append("No learned method runs here: only the classical ones are shown.")
    else:
        blocks += ["## Goals at a glance", markdown(glance(rows))]
    blocks += [f"Skipped: {s}" for s in dict.fromkeys(skipped)]
    parts = {name: [r for r in rows if r["section"] == name] for name in _BLOCKS}
    parts["coverage"] += [r for r in rows if r["section"] == "rank"]
    for name, make in _BLOCKS.items():
        if parts[name] and name != "repeat":
            blocks += make(folder, parts[name])
    if parts["repeat"]:
        blocks += _repeat(folder, parts["repeat"], pictures)
    write_page(folder / "microstructure.md", "Microstructure", blocks)


def _tensor(folder: Path, rows: list[Row]) -> list[str]:
    figures.tensor(folder / "microstructure_tensor.png", rows)
    blocks = ["## Tensor from few directions", "![tensor](microstructure_tensor.png)"]
    blocks.append(
        "SNR 20, b = 1000 s/mm². Peers get a random part of the white matter of `anatomy` (`n`), and "
        "their ratio is to WLS in the same voxels. DIPY FORCE has a library of 50,000 voxels (its own "
        "default is 500,000), made for each protocol. "
        f"`{ORACLE}` is no method: it knows the truth, and says how far a region's mean and spread, if "
        "they were known, could bring a voxel's FA or MD by themselves."
    )
    order = ("population", "directions", "region", "method")
    fa = [r for r in rows if r["param"] == "fa"]
    for row in fa:
        row["met"] = met(row.get("ratio"), row.get("goal"))
        row["bias_met"] = met(abs(row["bias"]), row.get("bias_goal"))
    names = (*order, "n", "rmse", "ratio", "goal", "met", "bias", "bias_goal", "bias_met", "spread")
    blocks += ["### FA", markdown(_main(fa), names)]
    angle = [r for r in rows if r["param"] == "v1"]
    for row in angle:
        row["met"] = met(row["ratio"], row.get("goal"))
    blocks.append("### Direction of the first eigenvector, true FA above 0.3 (mean degrees)")
    blocks.append(markdown(_main(angle), (*order, "n", "degrees", "ratio", "goal", "met")))
    md = [r for r in rows if r["param"] == "md"]
    blocks += ["### MD", markdown(_main(md), (*order, "n", "rmse", "ratio", "bias", "spread"))]
    return blocks


def _random(folder: Path, rows: list[Row]) -> list[str]:
    figures.random(folder / "microstructure_random.png", rows)
    made: list[Row] = []
    for method in dict.fromkeys(r["method"] for r in rows):
        here = [r for r in rows if r["method"] == method]
        for param in ("fa", "md", "v1"):
            ratio = np.array([r[f"{param}_ratio"] for r in here])
            row: Row = {"method": method, "param": param, "protocols": len(here)}
            row |= {"median": float(np.nanmedian(ratio)), "worst": float(np.nanmax(ratio))}
            row["above 1"] = int((ratio > 1).sum())
            if method in learned() and param != "md":
                row |= {"goal": 1.0, "met": met(row["worst"], 1.0)}
            made.append(row)
    names = ("method", "param", "protocols", "median", "worst", "above 1", "goal", "met")
    return [
        "## Never worse than WLS",
        f"Random protocols (7 to 97 volumes, largest b 700 to 3000 s/mm²) of {_heads(rows)}, SNR "
        "log-uniform from 8 to 60, white matter. Ratio of RMSE (`v1`: of the mean angle) "
        "to WLS on the same data. The goal is for the worst.",
        markdown(made, names),
        "![ratio to WLS](microstructure_random.png)",
    ]


def _sweep(folder: Path, rows: list[Row]) -> list[str]:
    if any(r["method"] == "learned" for r in rows):
        figures.sweep(folder / "microstructure_sweep.png", rows)
    made: list[Row] = []
    keys = dict.fromkeys((r["population"], r["method"], r["shells"], r["directions"]) for r in rows)
    for key in keys:
        here = [
            r for r in rows
            if (r["population"], r["method"], r["shells"], r["directions"]) == key
        ]  # fmt: skip
        row: Row = dict(zip(("population", "method", "shells", "directions"), key, strict=True))
        for one in here:
            for param in ("fa", "v1"):
                row[f"{param}, SNR {one['snr']:g}"] = one[f"{param}_ratio"]
        made.append(row)
    return [
        "## From 6 to 256 directions",
        f"Ratio to WLS on the same data, white matter of {_heads(rows)}: RMSE of FA, mean angle of v1. "
        "Shells at b = 1000; 1000, 2000; 700, 1500, 2500; 500, 1000, 2000, 3000; a b0 for every ten "
        "directions. WLS fits the b-values that a tensor allows, the truth is at b = 1000, as everywhere on "
        "this page. MD is in microstructure.csv.",
        "![ratio to WLS](microstructure_sweep.png)",
        markdown(made, tuple(dict.fromkeys(k for row in made for k in row))),
    ]


def _heads(rows: Sequence[Row]) -> str:
    return " and ".join(f"`{name}`" for name in dict.fromkeys(r["population"] for r in rows))


def _neurites(folder: Path, rows: list[Row]) -> list[str]:
    names = (
        "population", "protocol", "snr", "region", "param", "method", "n", "bias", "rmse", "ratio", "90%",
        "std", "shared", "mean_error",
    )  # fmt: skip
    rows = sorted(
        rows, key=lambda r: (r["population"], r["protocol"], r["snr"], r["param"], r["region"])
    )
    return [
        "## NODDI by tissue",
        "UK-Biobank-like (50 + 50 directions) and 6 + 12 at b = 1000 and 2000. `ratio`: of the RMSE to that "
        "of the exact fit (`classical`) in the same voxels; `90%`: how often the 90% interval holds; `std`: "
        "median standard deviation; `shared`: the part of it that averages over a region do not shrink "
        "(`SharedShare` of the sidecar times the standard deviation there); `mean_error`: size of the bias "
        "over it.",
        markdown(rows, names),
    ]


def _advanced(folder: Path, rows: list[Row]) -> list[str]:
    for row in rows:
        row["met"] = met(row.get("ratio"), row.get("goal"))
    names = (
        "population", "snr", "param", "measurements", "method", "bias", "spread", "rmse", "median_error",
        "peer_90", "ratio", "goal", "met",
    )  # fmt: skip
    rows = sorted(rows, key=lambda r: (r["population"], r["snr"], r["param"]))
    return [
        "## Kurtosis and NODDI from 12 and 18 measurements",
        "One b0 and 6 + 6 or 6 + 12 directions at b = 1000 and 2000, beside 90 (6 b0, 30 + 60); white "
        "matter. `peer_90`: RMSE of DIPY's kurtosis or AMICO with 90 measurements; `ratio`: to it.",
        markdown(rows, names),
    ]


def _cells(folder: Path, rows: list[Row]) -> list[str]:
    figures.cells(folder / "microstructure_cells.png", rows)
    made: list[Row] = []
    keys = dict.fromkeys((r["population"], r["protocol"], r["method"]) for r in rows)
    for key in keys:
        here = [r for r in rows if (r["population"], r["protocol"], r["method"]) == key]
        share = float(np.mean([r["share"] < 0.5 for r in here]))
        row: Row = dict(zip(("population", "protocol", "method"), key))
        row |= {"cells": len(here), "under half": share}
        if key[2] in learned():
            row |= {"goal": 0.9, "met": "yes" if share >= 0.9 else "no"}
        made.append(row)
    return [
        "## Bias per cell of the true value",
        "Share of the cells whose |bias| is under half of the standard deviation of the estimate; all "
        "voxels of the brain, SNR 20. Each cell is in microstructure.csv.",
        markdown(made, ("population", "protocol", "method", "cells", "under half", "goal", "met")),
        "![cells](microstructure_cells.png)",
    ]


def _coverage(folder: Path, rows: list[Row]) -> list[str]:
    made = pooled(rows)
    rows = [r for r in rows if r["section"] == "coverage"]
    figures.coverage(folder / "microstructure_coverage.png", rows)
    for row in made:
        if row["method"] in learned():
            near = 0.8 <= row["sigma_factor"] <= 1.2
            row["met"] = met(row["miss"], COVERAGE_GOAL) if near else None
            row["rank_met"] = "yes" if row["spearman"] >= SPEARMAN_GOAL else "no"
    names = (
        "method", "param", "sigma_factor", "scans", "50%", "80%", "90%", "95%", "miss", "met", "worst",
        "spearman", "rank_met", "ause", "spearman_within", "ause_within",
    )  # fmt: skip
    return [
        "## Coverage of the intervals",
        "Means over protocols never trained on, SNR "
        f"{min(r['snr'] for r in rows):g} to {max(r['snr'] for r in rows):g} and "
        f"{_heads(rows)} (all voxels of the brain; NODDI of `trxscan` in white matter). "
        "`sigma_factor`: factor on the noise level that "
        f"the method is given. `miss`: largest distance from what was promised (goal "
        f"{COVERAGE_GOAL:g} for factors of 0.8 to 1.2); `worst`: the same in the worst single scan. "
        f"`spearman`: rank correlation of standard deviation and |error| over all scans together (goal "
        f"{SPEARMAN_GOAL:g}); `ause`: area between the sparsification curve and the oracle's, in units "
        "of the RMSE; `_within`: means of the same within one scan.",
        markdown(made, names),
        "![coverage](microstructure_coverage.png)",
    ]


def _ood(folder: Path, rows: list[Row]) -> list[str]:
    flagged = [r for r in rows if r.get("kind") == "flagged"]
    scored = [r for r in rows if r.get("kind") != "flagged"]
    for row in scored:
        if row.get("goal"):
            row["met"] = "yes" if row["auroc"] >= row["goal"] else "no"
    return [
        "## Voxels outside the training population",
        "AUROC of the score against voxels left alone. `error`: FA or MD outside its own 99% interval.",
        markdown(scored, ("method", "protocol", "kind", "marked", "auroc", "goal", "met")),
        "Share of the brain that is not trusted for being out of distribution, real scans as they come, "
        "without any correction; under 2% is wanted after preprocessing.",
        markdown(flagged, ("scan", "flagged", "why")),
    ]


def _speed(folder: Path, rows: list[Row]) -> list[str]:
    for row in rows:
        goal, speed = row.get("goal"), row.get("voxels_per_s")
        row["met"] = None if goal is None or speed is None else "yes" if speed >= goal else "no"
    names = (
        "method", "voxels", "seconds", "voxels_per_s", "goal", "met", "times_amico", "times_dipy",
        "peak_mb",
    )  # fmt: skip
    return [
        "## Speed",
        "The 96-volume scan of `fornix bench speed`; tensor, kurtosis and NODDI with standard "
        "deviations, with the noise level given. `classical`: tensor WLS, constrained kurtosis, exact NODDI. "
        "Goals: 10 times AMICO, 30 times DIPY's kurtosis, peak memory under 2,000 MB.",
        markdown(rows, names),
    ]


def _repeat(folder: Path, rows: list[Row], pictures: dict[str, np.ndarray]) -> list[str]:
    for row in rows:
        row["met"] = met(row["cv_ratio"], row.get("goal"))
    names = (
        "pair", "method", "voxels", "mean", "cv_voxel", "cv_ratio", "goal", "met", "icc_voxel",
        "regions", "cv_region", "icc_region", "spread", "spread_ratio",
    )  # fmt: skip
    blocks = [
        "## Repeated real scans",
        "FA of two scans of one head (the second one straight again, or tilted by 20°), both brought "
        "half way by a rigid transform, cubic, without motion or distortion correction, where "
        "smoothed WLS FA is above 0.25. `cv`: within-subject coefficient of variation by voxel and by "
        "cubes of 8 voxels; `spread`: of FA across those cubes, which must not fall "
        "(`spread_ratio` 1). ICC(1,1). The Canon scans are distorted differently by more than a "
        "voxel, which no estimator can mend: no goal there.",
        markdown(rows, names),
    ]
    if pictures:
        figures.repeat(folder / "microstructure_repeat.png", pictures)
    if (folder / "microstructure_repeat.png").exists():
        blocks.append("![repeated scans](microstructure_repeat.png)")
    return blocks


_BLOCKS = {
    "tensor": _tensor, "sweep": _sweep, "random": _random, "advanced": _advanced,
    "neurites": _neurites, "cells": _cells, "coverage": _coverage, "ood": _ood, "speed": _speed,
    "repeat": lambda folder, rows: [],
}  # fmt: skip


def _main(rows: Sequence[Row]) -> list[Row]:
    """Without the whole brain where white matter is there too, and one line of WLS as reference."""
    white = {r["population"] for r in rows if r["region"] == "white"}
    kept = [r for r in rows if r["region"] != "brain" or r["population"] not in white]
    return sorted(
        kept, key=lambda r: (_rank(r), r["directions"], r["region"] != "white", _late(r["method"]))
    )


def _rank(row: Row) -> int:
    return ("anatomy", "exchange", "trxscan", "subject", "random").index(row["population"])


def _late(method: str) -> int:
    return 0 if method == REFERENCE else 1 if method in learned() else 2
