"""`fornix bench classical`: the classical fits against simulated truth, beside their peers.

Bias, spread and error per cell of the true value, for several protocols and noise levels, and how
often the interval of ±1.96 standard deviations holds the truth. The simulated voxels follow the
model that is fitted (tensors, kurtosis tensors, NODDI): this measures estimators, not models.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.gradients import Gradients
from fornix.estimators.microstructure_methods import MICROSTRUCTURE_METHODS
from fornix.physics.protocol import scheme
from fornix.testing import model_truth as truth
from fornix_bench.peers import microstructure as peers
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

#: Cells of the true value of each parameter that is scored.
CELLS = {
    "fa": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), "md": (0.4, 0.8, 1.2, 1.6), "mk": (0.0, 0.5, 1.0, 2.0),
    "ak": (0.0, 0.4, 0.8, 1.6), "rk": (0.0, 0.5, 1.0, 3.0), "kfa": (0.0, 0.4, 0.7, 1.0),
    "ndi": (0.1, 0.3, 0.5, 0.7, 0.9), "odi": (0.04, 0.2, 0.4, 0.8), "fwf": (0.0, 0.01, 0.3, 0.8),
}  # fmt: skip

#: model: (truth, protocols, SNRs, our runs (method, noise level known), peers)
Ours = tuple[tuple[str, bool], ...]
SUITES: dict[
    str,
    tuple[
        Callable[[Gradients, int, int], truth.Truth],
        tuple[str, ...],
        tuple[float, ...],
        Ours,
        dict[str, peers.Peer],
    ],
] = {
    "dti": (
        truth.tensors,
        ("dti12", "dti30", "bench96"),
        (10.0, 20.0, 40.0),
        (("ols", True), ("wls", True), ("wls", False), ("iwls", True), ("nlls", True),
         ("nlls", False)),
        {
            "DIPY WLS": peers.dipy_tensor("WLS"),
            "DIPY NLLS": peers.dipy_tensor("NLLS"),
            "DIPY RESTORE": peers.dipy_tensor("RESTORE"),
            "MRtrix3 dwi2tensor": peers.mrtrix_tensor,
        },
    ),
    "dki": (
        truth.kurtoses,
        ("bench96", "abcd"),
        (20.0, 40.0, 80.0),
        (("wls", True), ("constrained", True), ("constrained", False)),
        {"DIPY WLS": peers.dipy_kurtosis},
    ),
    "noddi": (
        truth.noddis,
        ("bench96", "abcd"),
        (20.0, 40.0),
        (("exact", True), ("exact", False)),
        {"AMICO": peers.amico_noddi},
    ),
}  # fmt: skip


def run_classical(
    out: str | Path = "docs/benchmarks",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
) -> list[Row]:
    """Score every method and write classical.csv, classical.md and classical_*.png into `out`.

    quick: a quarter of the voxels. Returns one row per model, protocol, SNR, method, parameter, cell.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    count = 250 if quick else 1000
    rows: list[Row] = []
    skipped: list[str] = []
    with use_threads(threads):
        for model, (make, protocols, snrs, ours, others) in SUITES.items():
            for name in protocols:
                gradients = scheme(name)
                known = make(gradients, count, seed)
                for snr in (*snrs, float("inf")):
                    noisy = known.signals
                    if np.isfinite(snr):
                        noisy = truth.add_noise(noisy, 1 / snr, seed + 1)
                    about = {"model": model, "protocol": name, "snr": snr}
                    for label, values, std in _estimates(
                        model, ours, others, 1000 * noisy, gradients, 1000 / snr, threads, skipped
                    ):
                        rows += _scores({**about, "method": label}, known, values, std)
    write_csv(folder / "classical.csv", rows)
    for model in SUITES:
        _plot(folder / f"classical_{model}.png", [r for r in rows if r["model"] == model])
    _page(folder, rows, environment(threads, seed), count, skipped)
    return rows


def _estimates(
    model: str,
    ours: Ours,
    others: dict[str, peers.Peer],
    signals: NDArray,
    gradients: Gradients,
    sigma: float,
    threads: int,
    skipped: list[str],
) -> list[tuple[str, dict[str, NDArray], dict[str, NDArray]]]:
    found: list[tuple[str, dict[str, NDArray], dict[str, NDArray]]] = []
    clean = sigma == 0
    for method, told in ours:
        if clean and told and (method, False) in ours:
            continue
        fit = MICROSTRUCTURE_METHODS[model][method].run(
            signals, gradients, sigma=sigma if told else None
        )
        names = [n for n in fit.columns if n in CELLS]
        label = f"Fornix {method}" + (" (sigma)" if told and not clean else "")
        found.append((label, {n: fit[n] for n in names}, {n: fit.std_of(n) for n in names}))
    for label, run in others.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                made = run(signals, gradients, sigma or 1.0, threads)
        except peers.PeerMissing as missing:
            if str(missing) not in skipped:
                skipped.append(str(missing))
            continue
        found.append((label, made.values, {}))
    return found


def _scores(
    about: Row, known: truth.Truth, values: dict[str, NDArray], std: dict[str, NDArray]
) -> list[Row]:
    """One row per parameter and cell of its true value, and one (`all`) over all cells."""
    rows = []
    for name in values:
        if name not in CELLS or name not in known.values:
            continue
        true, error = known.values[name], values[name] - known.values[name]
        edges = CELLS[name]
        cells = [(f"{a:g}–{b:g}", (true >= a) & (true < b)) for a, b in pairwise(edges)]
        for cell, inside in [("all", np.ones(len(true), dtype=bool)), *cells]:
            if inside.sum() < 10:
                continue
            e = error[inside]
            row: Row = {
                **about, "param": name, "cell": cell, "n": int(inside.sum()),
                "bias": float(e.mean()), "spread": float(e.std()),
                "rmse": float(np.sqrt((e**2).mean())), "max_error": float(np.abs(e).max()),
                "median_error": float(np.median(np.abs(e))),
            }  # fmt: skip
            if name in std and np.isfinite(std[name]).all() and np.isfinite(about["snr"]):
                row["coverage95"] = float((np.abs(e) <= 1.96 * std[name][inside]).mean())
            rows.append(row)
    return rows


def _page(folder: Path, rows: list[Row], machine: str, count: int, skipped: Sequence[str]) -> None:
    blocks = [
        f"{count:,} simulated voxels per protocol; S0 = 1000, Rician noise. {machine}.",
        "Made by `fornix bench classical`. `(sigma)`: the noise level was told. Diffusivities in "
        "µm²/ms. Errors per cell of the true value are in classical.csv and in the figures; the "
        "simulated voxels follow the fitted model, so these tables compare estimators only.",
    ]
    blocks += [f"Skipped: {s}" for s in skipped]
    titles = {"dti": "Diffusion tensor", "dki": "Diffusion kurtosis", "noddi": "NODDI"}
    for model, title in titles.items():
        chosen = [r for r in rows if r["model"] == model and r["cell"] == "all"]
        noisy = ("protocol", "snr", "method", "param", "bias", "spread", "rmse", "coverage95")
        blocks += [f"## {title}", f"![{title}](classical_{model}.png)"]
        blocks.append(markdown([r for r in chosen if np.isfinite(r["snr"])], noisy))
        exact = ("protocol", "method", "param", "median_error", "max_error")
        blocks += ["### Without noise"]
        blocks.append(markdown([r for r in chosen if not np.isfinite(r["snr"])], exact))
    write_page(folder / "classical.md", "Classical estimators", blocks)


def _plot(path: Path, rows: list[Row]) -> None:
    """Bias and RMSE per cell at the middle noise level of one protocol, all methods."""
    from matplotlib.figure import Figure

    protocol = "dti30" if rows[0]["model"] == "dti" else "bench96"
    snr = sorted({r["snr"] for r in rows if np.isfinite(r["snr"])})[1]
    shown = [r for r in rows if (r["protocol"], r["snr"]) == (protocol, snr)]
    params = list(dict.fromkeys(r["param"] for r in shown))
    methods = list(dict.fromkeys(r["method"] for r in shown))
    figure = Figure(figsize=(3.6 * len(params), 6), layout="constrained")
    grid = figure.subplots(2, len(params), squeeze=False)
    blues, greys = ("#0b3c5d", "#1b6ca8", "#4fa3d9", "#2a9d8f", "#76b041", "#b5838d"), "#f28e2b"
    warm = (greys, "#c1440e", "#8c564b", "#7f7f7f")
    colours = {}
    for method in methods:
        pool = blues if method.startswith("Fornix") else warm
        same = [m for m in methods if m.startswith("Fornix") == method.startswith("Fornix")]
        colours[method] = pool[same.index(method) % len(pool)]
    for column, param in enumerate(params):
        for line, score in enumerate(("bias", "rmse")):
            axes = grid[line, column]
            for method in methods:
                part = [
                    r for r in shown
                    if (r["param"], r["method"]) == (param, method) and r["cell"] != "all"
                ]  # fmt: skip
                style = "o-" if method.startswith("Fornix") else "s--"
                axes.plot(
                    [r["cell"] for r in part], [r[score] for r in part], style, ms=4, lw=1.4,
                    color=colours[method], label=method,
                )  # fmt: skip
            if score == "bias":
                axes.axhline(0, color="black", lw=0.6)
                axes.set_title(param.upper())
            else:
                axes.set_ylim(bottom=0)
                axes.set_xlabel("true value")
            if column == 0:
                axes.set_ylabel("bias" if score == "bias" else "RMSE")
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.suptitle(f"Error per cell of the true value: {protocol}, SNR {snr:g}", fontsize=11)
    figure.savefig(path, dpi=120)
