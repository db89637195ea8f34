"""`fornix experiment context`: do neighbours help against noise, and do lesions keep their edges?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from fornix.core.compute import use_threads
from fornix.models.tensor import fit_tensor
from fornix.nets.targets import METRICS
from fornix.physics.protocol import scheme
from fornix.training.data.voxels import NoiseRange
from fornix.training.recipes import Recipe
from fornix_bench.experiments.context_networks import ATTENTION, CNN, VOXELWISE, train_all
from fornix_bench.experiments.heads import Lesioned, lesioned, sharpness, trained_on
from fornix_bench.experiments.page import Page, Table, percent, pick, write
from fornix_bench.experiments.training import Tell, trained
from fornix_bench.metrics import scores
from fornix_bench.suites.microstructure.populations import Block, Scan
from fornix_bench.table import Row

PARAMS = ("fa", "md")
WLS = "WLS"
METHODS = (WLS, VOXELWISE, CNN, ATTENTION)
COLOURS = dict(zip(METHODS, ("#8d99a6", "#2a9d8f", "#c1440e", "#1b6ca8")))
REGIONS = ("white", "lesion", "border")


@dataclass(frozen=True)
class ContextConfig:
    """How much is trained and tested. edge: of the patches; piece: of the heads trained on."""

    steps: int = 1200
    weighing: int = 600
    batch: int = 2
    edge: int = 14
    heads: int = 3
    width: int = 128
    piece: Block = (32, 36, 24)
    block: Block = (40, 44, 20)
    voxel_size: float = 2.5
    lesions: int = 14
    protocol: str = "dti12"
    snrs: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0)


QUICK = ContextConfig(
    steps=6, weighing=4, batch=1, edge=8, heads=1, width=16, piece=(12, 12, 12), block=(16, 18, 8),
    voxel_size=5.0, lesions=4, snrs=(10.0,),
)  # fmt: skip


def run_context(
    out: str | Path = "docs/experiments",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    size: ContextConfig | None = None,
    tell: Tell = print,
) -> list[Row]:
    """Train the three networks, score them, write context.csv, .md and context_*.png into `out`."""
    wanted = size or (QUICK if quick else ContextConfig())
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(
        "metrics", "experiment", "metrics from patches", wanted.width, 3, wanted.steps,
        wanted.batch, wanted.heads, renew=100, seed=seed,
        noise=NoiseRange((4.0, 50.0), most_coils=1, artefacts=0),
    )  # fmt: skip
    weighing = replace(recipe, name="weights of the attention", width=16, depth=2,
                       steps=wanted.weighing, rate=5e-3)  # fmt: skip
    gradients = scheme(wanted.protocol)

    def small(one: Recipe, task: Any) -> nn.Module:
        label = f"{one.name}, {task.kind}" if hasattr(task, "kind") else one.name
        return trained(replace(one, name=label), task, tell)

    rows: list[Row] = []
    shown: dict[str, NDArray] = {}
    with use_threads(threads):
        networks = train_all(recipe, weighing, gradients, wanted.piece, wanted.edge, small)
        head = lesioned(wanted.block, 930 + seed, wanted.voxel_size, wanted.lesions)
        for snr in wanted.snrs:
            scan = head.population.scan(gradients, snr, seed + round(snr))
            found = estimates(networks, scan)
            for method, values in found.items():
                rows += scored(head, snr, method, values)
            if snr == _shown(wanted.snrs):
                shown = {f"{m} {p}": v[p] for m, v in found.items() for p in PARAMS}
    lines(folder / "context_errors.png", rows)
    picture(folder / "context_lesion.png", head, shown, _shown(wanted.snrs))
    write(folder, _page(rows, wanted), threads, seed, quick)
    return rows


def estimates(
    networks: dict[str, Callable[[Scan], NDArray[np.float64]]], scan: Scan
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """FA and MD (n,) of every method."""
    fit = fit_tensor(
        scan.dwi.signals(), scan.dwi.gradients, "wls", sigma=scan.sigma[scan.dwi.brain()]
    )
    made = {WLS: {p: np.asarray(fit[p], np.float64) for p in PARAMS}}
    for kind, ask in networks.items():
        mean = ask(scan)
        made[kind] = {p: mean[:, METRICS.index(f"dti_{p}")] for p in PARAMS}
    return made


def scored(
    head: Lesioned, snr: float, method: str, values: dict[str, NDArray[np.float64]]
) -> list[Row]:
    """Errors by region and parameter; at the border also how much of the contrast is kept."""
    rows: list[Row] = []
    for param in PARAMS:
        true = head.population.truth[f"dti_{param}"]
        for region in REGIONS:
            inside = head.population.regions[region]
            row: Row = {"snr": snr, "region": region, "param": param, "method": method}
            row |= scores.errors(values[param][inside], true[inside])
            if region == "border":
                volumes = (head.on_grid(values[param]), head.on_grid(true))
                row["sharpness"] = sharpness(*volumes, head.core, head.beside)
            rows.append(row)
    return rows


def lines(path: Path, rows: Sequence[Row]) -> None:
    """RMSE by SNR, a column per region, a row per parameter; last column the sharpness of edges."""
    snrs = sorted({r["snr"] for r in rows})
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    grid = figure.subplots(len(PARAMS), len(REGIONS) + 1, squeeze=False, sharex=True)
    panels = [*((r, "rmse") for r in REGIONS), ("border", "sharpness")]
    for line, param in enumerate(PARAMS):
        for axes, (region, score) in zip(grid[line], panels):
            for method in METHODS:
                found = [
                    pick(rows, snr=s, region=region, param=param, method=method)[score]
                    for s in snrs
                ]
                axes.plot(snrs, found, "o-", ms=4, lw=1.4, color=COLOURS[method], label=method)
            axes.set_xscale("log")
            axes.set_xticks(snrs, [f"{s:g}" for s in snrs])
            axes.minorticks_off()
            axes.spines[["top", "right"]].set_visible(False)
            if score == "sharpness":
                axes.axhline(1, color="black", lw=0.6)
                axes.set_ylim(0, 1.4)
            else:
                axes.set_ylim(bottom=0)
            if line == 0:
                name = "contrast kept at borders" if score == "sharpness" else f"RMSE, {region}"
                axes.set_title(name, fontsize=10)
            else:
                axes.set_xlabel("SNR")
        grid[line, 0].set_ylabel(param.upper() + (" (µm²/ms)" if param == "md" else ""))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)


def picture(
    path: Path, head: Lesioned, found: dict[str, NDArray], snr: float, reach: int = 9
) -> None:
    """FA and MD about the largest lesion: truth and every method."""
    label, count = ndimage.label(head.core)
    largest = np.bincount(label.ravel())[1:].argmax() + 1 if count else 0
    x, y, z = (round(float(v)) for v in np.argwhere(label == largest).mean(0))
    part = (
        slice(max(x - reach, 0), x + reach + 1), slice(max(y - reach, 0), y + reach + 1), z,
    )  # fmt: skip
    figure = Figure(figsize=(2.2 * (len(METHODS) + 1) + 0.8, 4.8), layout="constrained")
    grid = figure.subplots(len(PARAMS), len(METHODS) + 1, squeeze=False)
    for line, (param, top) in enumerate(zip(PARAMS, (0.8, 1.8))):
        panels = {"truth": head.population.truth[f"dti_{param}"]}
        panels |= {m: found[f"{m} {param}"] for m in METHODS}
        for axes, (name, values) in zip(grid[line], panels.items()):
            image = axes.imshow(np.rot90(head.on_grid(values)[part]), cmap="gray", vmin=0, vmax=top)
            core = head.core[part]
            if core.any():
                axes.contour(np.rot90(core), [0.5], colors="#ffb000", linewidths=0.9)
            axes.axis("off")
            if line == 0:
                axes.set_title(name, fontsize=10)
        unit = ", µm²/ms" if param == "md" else ""
        figure.colorbar(image, ax=list(grid[line]), shrink=0.8, label=f"{param.upper()}{unit}")
    figure.suptitle(f"The largest lesion, SNR {snr:g}", fontsize=10)
    figure.savefig(path, dpi=120)


def _page(rows: list[Row], wanted: ContextConfig) -> Page:
    setting = (
        f"Protocol `{wanted.protocol}` (b = 1000 s/mm²), Rician noise. Three networks trained from "
        f"nothing on the same stream of patches ({wanted.edge}³ voxels, {trained_on()}, with lesions and "
        f"blobs of unusual tissue with sharp edges; SNR 4 to 50), {wanted.steps:,} steps of "
        f"{wanted.batch} patches each, Gaussian likelihood of the metrics: "
        "`voxel-wise` sees one voxel (equivariant network); `CNN` two layers of 3×3×3 convolutions over "
        "maps of the same invariants, 5×5×5 voxels, and the centre beside them; `attention` the "
        "equivariant network on a voxel and on its average with neighbours that its signals do not tell "
        f"apart from it (what is averaged is learned {wanted.weighing:,} steps before; then half of the "
        "steps voxel-wise, half on both). Test: an unseen atlas' head "
        f"with {wanted.lesions} lesions. `white`: healthy white matter; `lesion`: lesion cores; "
        "`border`: core and white-matter voxels that touch across a lesion's edge. `sharpness`: the "
        "contrast across those edges over the true one (slope over neighbouring pairs): 1 keeps edges, "
        "less loses them (noise that averages out does not move it; the bias of noisy FA, larger where FA "
        "is low, does: WLS is the reference)."
    )
    names = ("snr", "region", "method", "n", "bias", "spread", "rmse", "sharpness")
    return Page(
        "context", "One voxel or its neighbourhood",
        "Do networks that see neighbours stand noise better than voxel-wise ones, and do the edges of "
        "lesions survive?",
        setting, rows,
        tuple(
            Table(title, [r for r in rows if r["param"] == param], names)
            for param, title in (("fa", "FA"), ("md", "MD (µm²/ms)"))
        ),
        (("context_errors.png", "RMSE by SNR and region, and the contrast kept at lesion borders"),
         ("context_lesion.png", "FA and MD through the largest lesion, whose core is outlined")),
        _seen(rows, wanted.snrs),
    )  # fmt: skip


def _seen(rows: list[Row], snrs: Sequence[float]) -> list[str]:
    made = []
    for snr in snrs:
        parts = []
        for region, where in (("white", "white matter"), ("lesion", "lesions")):
            fa = {m: pick(rows, snr=snr, region=region, param="fa", method=m)["rmse"]
                  for m in METHODS}  # fmt: skip
            listed = ", ".join(f"{m} {fa[m]:.3f} ({percent(fa[m], fa[WLS])})" for m in METHODS[1:])
            parts.append(f"in {where} WLS {fa[WLS]:.3f}, {listed}")
        made.append(f"FA RMSE at SNR {snr:g} (against WLS): " + "; ".join(parts) + ".")
    for snr in (min(snrs), max(snrs)) if len(snrs) > 1 else snrs:
        edge = {m: pick(rows, snr=snr, region="border", param="fa", method=m) for m in METHODS}
        kept = ", ".join(f"{m} {edge[m]['sharpness']:.2f}" for m in METHODS)
        best = min(METHODS, key=lambda m: edge[m]["rmse"])
        made.append(
            f"At lesion borders, SNR {snr:g}: contrast of FA kept {kept}; the smallest RMSE there has "
            f"{best} ({edge[best]['rmse']:.3f}, WLS {edge[WLS]['rmse']:.3f})."
        )
    wins = dict.fromkeys(METHODS, 0)
    cells = [(s, r, p) for s in snrs for r in REGIONS for p in PARAMS]
    for s, r, p in cells:
        wins[
            min(METHODS, key=lambda m: pick(rows, snr=s, region=r, param=p, method=m)["rmse"])
        ] += 1
    counted = ", ".join(f"{m} in {wins[m]}" for m in METHODS)
    made.append(
        f"Of {len(cells)} cells (SNR × region × FA or MD) the smallest RMSE has: {counted}."
    )
    return made


def _shown(snrs: Sequence[float]) -> float:
    return min(snrs, key=lambda s: abs(s - 10))
