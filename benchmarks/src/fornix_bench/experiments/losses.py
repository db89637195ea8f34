"""`fornix experiment losses`: what should a network be trained for where noise is strong?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fornix.core.compute import use_threads
from fornix.physics import Noise
from fornix.physics.protocol import scheme
from fornix.training.data.voxels import NoiseRange
from fornix.training.recipes import Recipe
from fornix_bench.experiments.heads import trained_on
from fornix_bench.experiments.losses_networks import (
    MEAN_WEIGHT,
    SEEN,
    VARIANTS,
    LossTask,
    Variant,
    ask,
    fitted,
)
from fornix_bench.experiments.page import Page, Table, percent, pick, write
from fornix_bench.experiments.training import Tell, trained
from fornix_bench.metrics import scores
from fornix_bench.suites.microstructure.populations import Block, TestPopulation, anatomical
from fornix_bench.table import Row

#: Classical fits beside the networks, by the name of their method.
CLASSICAL = {"WLS": "wls", "NLLS (Rician)": "nlls"}
#: A direction is scored where the true FA is above this.
DIRECTED = 0.3


@dataclass(frozen=True)
class LossesConfig:
    """How much is trained and tested. piece: of the heads trained on; block: voxels of the test."""

    steps: int = 1000
    batch: int = 1536
    bank: int = 32_000
    width: int = 128
    piece: Block = (40, 48, 32)
    block: Block = (32, 36, 14)
    voxel_size: float = 2.5
    lesions: int = 8
    protocol: str = "dti30"
    snrs: tuple[float, ...] = (5.0, 8.0, 12.0)
    variants: tuple[Variant, ...] = VARIANTS


QUICK = LossesConfig(
    steps=6, batch=128, bank=400, width=16, piece=(12, 12, 12), block=(14, 16, 6), voxel_size=5.0,
    lesions=6, snrs=(8.0,),
)  # fmt: skip


def run_losses(
    out: str | Path = "docs/experiments",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    size: LossesConfig | None = None,
    tell: Tell = print,
) -> list[Row]:
    """Train by every loss, score, write losses.csv, .md and losses_*.png into `out`."""
    wanted = size or (QUICK if quick else LossesConfig())
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(
        "loss", "experiment", "metrics or signal of single voxels", wanted.width, 3, wanted.steps,
        wanted.batch, wanted.bank, renew=200, seed=seed,
        noise=NoiseRange((4.0, 16.0), most_coils=1, artefacts=0),
    )  # fmt: skip
    gradients = scheme(wanted.protocol)
    rows: list[Row] = []
    with use_threads(threads):
        networks = {}
        for variant in wanted.variants:
            named = replace(recipe, name=variant.name)
            task = LossTask(variant, named, gradients, wanted.piece)
            networks[variant] = trained(named, task, tell)
        population = anatomical(wanted.block, 940 + seed, wanted.voxel_size, wanted.lesions)
        population = replace(population, noise=Noise())
        for snr in wanted.snrs:
            scan = population.scan(gradients, snr, seed + round(snr))
            level = scan.sigma[scan.dwi.brain()]
            for label, method in CLASSICAL.items():
                found = fitted(scan.dwi.signals(), gradients, method, level)
                rows += scored(population, snr, label, "none", found)
            for variant, network in networks.items():
                found = ask(variant, network, scan)
                rows += scored(population, snr, variant.name, variant.labels, found)
    bars(folder / "losses_errors.png", rows, population.region)
    write(folder, _page(rows, wanted, population.region), threads, seed, quick)
    return rows


def scored(
    population: TestPopulation, snr: float, method: str, labels: str, found: dict[str, np.ndarray]
) -> list[Row]:
    """Errors of FA and MD and the mean angle of v1, by region."""
    rows: list[Row] = []
    for region, inside in population.regions.items():
        about: Row = {"snr": snr, "region": region, "method": method, "labels": labels}
        for param in ("fa", "md"):
            true = population.truth[f"dti_{param}"][inside]
            rows.append({**about, "param": param, **scores.errors(found[param][inside], true)})
        directed = inside & (population.truth["dti_fa"] > DIRECTED)
        if directed.any():
            angle = scores.angles(found["v1"][directed], population.truth["dti_v1"][directed])
            rows.append({**about, "param": "v1", "n": len(angle), "degrees": float(angle.mean())})
    return rows


def bars(path: Path, rows: Sequence[Row], region: str) -> None:
    """RMSE and bias of FA, RMSE of MD and angle of v1 by method and SNR, in one region."""
    here = [r for r in rows if r["region"] == region]
    methods = list(dict.fromkeys(r["method"] for r in here))
    snrs = sorted({r["snr"] for r in here})
    panels = (
        ("fa", "rmse", "RMSE of FA"), ("fa", "bias", "bias of FA"),
        ("md", "rmse", "RMSE of MD (µm²/ms)"), ("v1", "degrees", "angle of v1 (degrees)"),
    )  # fmt: skip
    figure = Figure(figsize=(11, 0.36 * len(methods) + 1.6), layout="constrained")
    shades = ("#123c69", "#4f86b8", "#a8c8e4")
    for axes, (param, score, title) in zip(figure.subplots(1, len(panels), sharey=True), panels):
        for k, snr in enumerate(snrs):
            values = [
                next((r[score] for r in here
                      if (r["method"], r["param"], r["snr"]) == (m, param, snr)), np.nan)
                for m in methods
            ]  # fmt: skip
            place = np.arange(len(methods)) + (k - (len(snrs) - 1) / 2) * 0.8 / len(snrs)
            axes.barh(place, values, 0.76 / len(snrs), color=shades[k % 3], label=f"SNR {snr:g}")
        axes.axvline(0, color="black", lw=0.6)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_yticks(range(len(methods)), methods, fontsize=9)
    figure.axes[0].invert_yaxis()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)


def _page(rows: list[Row], wanted: LossesConfig, region: str) -> Page:
    main = [r for r in rows if r["region"] in (region, "lesion")]
    setting = (
        f"Protocol `{wanted.protocol}` (b = 1000 s/mm²), Rician noise. The same small equivariant "
        f"network on single voxels, {wanted.steps:,} steps of {wanted.batch:,} voxels each ({trained_on()}; "
        "SNR 4 to 16), trained by: `l2`, `gaussian`, `quantile` of the metrics' own outputs, with true "
        "values as labels, and `l2 (noise-free)` with the tensor fit of the noise-free signal at the "
        "protocol itself as labels; `spherical variance` of the predicted against the noise-free signal "
        f"(the shells' means, which it does not see, by a weight of {MEAN_WEIGHT:g}); `rician`: the "
        "Rician likelihood of the measured signal itself, no labels; `rician, held out`: the same, of "
        f"volumes that the network did not see (it is shown {SEEN[0]:.0%} to {SEEN[1]:.0%} of the "
        "directions). The signal losses' FA, MD and v1 are a tensor fit of the predicted noise-free "
        "signal. Test: population `anatomy` of `fornix bench microstructure` with Rician noise. `NLLS "
        "(Rician)` is the maximum of the Rician likelihood voxel by voxel."
    )
    names = ("snr", "region", "method", "labels", "n", "bias", "spread", "rmse")
    return Page(
        "losses", "Losses at low SNR",
        "Trained by which loss does the same network estimate best where noise is strong: on "
        "parameters, on the shape of the signal, or by the likelihood of the measurements without "
        "labels?",
        setting, rows,
        (
            Table("FA", [r for r in main if r["param"] == "fa"], names),
            Table("MD (µm²/ms)", [r for r in main if r["param"] == "md"], names),
            Table("Direction of v1, true FA > 0.3",
                  [r for r in main if r["param"] == "v1"],
                  ("snr", "region", "method", "labels", "n", "degrees")),
        ),
        (("losses_errors.png", f"Errors in {region} matter" if region == "white" else "Errors"),),
        _seen(rows, wanted, region),
    )  # fmt: skip


def _seen(rows: list[Row], wanted: LossesConfig, region: str) -> list[str]:
    made = []
    for snr in wanted.snrs:
        fa = {r["method"]: r for r in rows
              if (r["snr"], r["region"], r["param"]) == (snr, region, "fa")}  # fmt: skip
        order = sorted(fa, key=lambda m: fa[m]["rmse"])
        listed = ", ".join(f"{m} {fa[m]['rmse']:.3f}" for m in order)
        made.append(f"FA RMSE at SNR {snr:g}, best first: {listed}.")
        small = min(fa, key=lambda m: abs(fa[m]["bias"]))
        beside = "" if small == "WLS" else f"; WLS {fa['WLS']['bias']:+.3f}"
        made.append(
            f"Bias of FA at SNR {snr:g}: smallest with {small} ({fa[small]['bias']:+.3f}){beside}."
        )
    low = min(wanted.snrs)
    trained_by = {v.name for v in wanted.variants}
    if {"rician", "rician, held out"} <= trained_by:
        one, other = (
            pick(rows, snr=low, region=region, param="fa", method=m)["rmse"]
            for m in ("rician, held out", "rician")
        )
        made.append(
            f"Without labels: scored on volumes that it did not see, the Rician likelihood gives FA RMSE "
            f"{one:.3f} at SNR {low:g}, {percent(one, other)} the likelihood of the volumes that it sees "
            f"({other:.3f})" + (", which rewards copying their noise." if one < other else ".")
        )
    flat = {
        v.name: pick(rows, snr=low, region=region, param="fa", method=v.name)["bias"]
        for v in wanted.variants if v.on_signal and v.loss != "rician"
    }  # fmt: skip
    if flat and max(flat.values()) < 0:
        listed = ", ".join(f"{name} {bias:+.3f}" for name, bias in flat.items())
        made.append(
            f"A signal that is an average over what is likely is flatter than any of them: FA fitted to "
            f"it is too low ({listed} at SNR {low:g}), as FA derived from an averaged tensor is."
        )
    angle = {r["method"]: r["degrees"] for r in rows
             if (r["snr"], r["region"], r["param"]) == (low, region, "v1")}  # fmt: skip
    if angle:
        best = min(angle, key=lambda m: angle[m])
        made.append(
            f"Direction of v1 at SNR {low:g}: {best} {angle[best]:.1f}°, WLS {angle['WLS']:.1f}°."
        )
    return made
