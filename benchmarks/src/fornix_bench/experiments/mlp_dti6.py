"""`fornix experiment mlp-dti6`: a simple perceptron on 6 directions against WLS on 6 and on 30."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from fornix.core.compute import use_threads
from fornix.models.tensor import fit_tensor
from fornix.nets import losses
from fornix.nets.encoding import ProtocolEncoder
from fornix.nets.targets import METRICS
from fornix.physics.protocol import scheme
from fornix.physics.truth import tensor_metrics
from fornix.training.data.voxels import Batch, NoiseRange
from fornix.training.recipes import Recipe
from fornix_bench.experiments.heads import trained_on
from fornix_bench.experiments.page import Page, Table, percent, pick, write
from fornix_bench.experiments.perceptron import Perceptron, inputs, size
from fornix_bench.experiments.streams import FixedVoxels
from fornix_bench.experiments.training import Tell, trained
from fornix_bench.metrics import scores
from fornix_bench.suites.microstructure.populations import Block, Scan, TestPopulation, anatomical
from fornix_bench.table import Row

PARAMS = ("fa", "md", "ad", "rd")
PERCEPTRON, DERIVED = "perceptron 6", "its tensor 6"
WLS = {"WLS 6": "dti6", "WLS 30": "dti30"}
METHODS = ("WLS 6", PERCEPTRON, DERIVED, "WLS 30")
COLOURS = dict(zip(METHODS, ("#8d99a6", "#2a9d8f", "#c1440e", "#3d5a80")))
#: A direction is scored where the true FA is above this.
DIRECTED = 0.3


@dataclass(frozen=True)
class PerceptronConfig:
    """How much is trained and tested. block: voxels of the test; piece: of the heads trained on."""

    steps: int = 1500
    batch: int = 2048
    bank: int = 40_000
    width: int = 192
    piece: Block = (40, 48, 32)
    block: Block = (36, 40, 16)
    voxel_size: float = 2.5
    lesions: int = 10
    snrs: tuple[float, ...] = (10.0, 20.0, 40.0)


QUICK = PerceptronConfig(
    steps=25, batch=256, bank=800, width=32, piece=(14, 14, 14), block=(16, 18, 6), voxel_size=5.0,
    snrs=(20.0,),
)  # fmt: skip


class PerceptronTask:
    """The perceptron at the fixed protocol, trained on metrics and tensor."""

    def __init__(self, recipe: Recipe, piece: Block) -> None:
        self.recipe, self.piece = recipe, piece

    def model(self) -> nn.Module:
        return Perceptron(size(), self.recipe.width, self.recipe.depth)

    def stream(self, seed: int, device: torch.device) -> FixedVoxels:
        return FixedVoxels(self.recipe, scheme("dti6"), self.piece, seed, device)

    def prepare(self, stream: FixedVoxels) -> tuple[Batch, torch.Tensor]:
        batch = stream.batch(self.recipe.batch)
        return batch, inputs(batch.encoder, batch.seen)

    def loss(
        self, model: nn.Module, made: tuple[Batch, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        batch, x = made
        guess = model(x)
        true = batch.voxels
        metrics = losses.PARAMETER_LOSSES[self.recipe.loss](
            guess.mean, guess.std, true.metrics.to(x)
        ).mean()
        tensor = losses.tensor_likelihood(
            guess.tensor, guess.tensor_std, true.tensor.to(x)
        ).mean()  # fmt: skip
        parts = {"metrics": float(metrics.detach()), "tensor": float(tensor.detach())}
        return metrics + 0.5 * tensor, parts


def run_mlp_dti6(
    out: str | Path = "docs/experiments",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    size: PerceptronConfig | None = None,
    tell: Tell = print,
) -> list[Row]:
    """Train the perceptron, score it, write mlp-dti6.csv, .md and mlp-dti6_*.png into `out`."""
    wanted = size or (QUICK if quick else PerceptronConfig())
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(
        "perceptron", "experiment", "tensor metrics from 6 directions", wanted.width, 3,
        wanted.steps, wanted.batch, wanted.bank, renew=100, seed=seed, noise=NoiseRange((6.0, 60.0)),
    )  # fmt: skip
    with use_threads(threads):
        network = trained(recipe, PerceptronTask(recipe, wanted.piece), tell)
        population = anatomical(wanted.block, 920 + seed, wanted.voxel_size, wanted.lesions)
        rows: list[Row] = []
        shown: dict[str, NDArray] = {}
        for snr in wanted.snrs:
            found = estimates(network, population, snr, seed)
            for method, values in found.items():
                rows += scored(population, snr, method, values)
            if snr == _middle(wanted.snrs):
                shown = {m: v["fa"] for m, v in found.items()}
    bars(folder / "mlp-dti6_fa.png", rows)
    maps(folder / "mlp-dti6_maps.png", population, shown, _middle(wanted.snrs))
    write(folder, _page(rows, wanted, population, quick), threads, seed, quick)
    return rows


def estimates(
    network: nn.Module, population: TestPopulation, snr: float, seed: int
) -> dict[str, dict[str, NDArray]]:
    """By method: fa, md, ad, rd (n,), and where it has one the tensor (n, 6) and v1 (n, 3)."""
    made: dict[str, dict[str, NDArray]] = {}
    for method, protocol in WLS.items():
        scan = population.scan(scheme(protocol), snr, seed + round(snr))
        signals, level = _signals(scan)
        fit = fit_tensor(signals, scan.dwi.gradients, "wls", sigma=level)
        made[method] = {k: np.asarray(fit[k], np.float64) for k in (*PARAMS, "tensor", "v1")}
        if protocol != "dti6":
            continue
        encoder = ProtocolEncoder(scan.dwi.gradients, "cpu")
        with torch.inference_mode():
            guess = network(inputs(encoder, encoder.encode(signals, level)))
        own = {p: guess.mean[:, METRICS.index(f"dti_{p}")].double().numpy() for p in PARAMS}
        derived = tensor_metrics(guess.tensor.double())
        made[PERCEPTRON] = own
        made[DERIVED] = {k: v.numpy() for k, v in derived.items()}
        made[DERIVED]["tensor"] = guess.tensor.double().numpy()
    return {m: made[m] for m in METHODS}


def scored(
    population: TestPopulation, snr: float, method: str, values: dict[str, NDArray]
) -> list[Row]:
    """Rows by region: errors of the metrics, of the tensor's elements, and the angle of v1."""
    rows: list[Row] = []
    for region, inside in population.regions.items():
        about: Row = {"snr": snr, "region": region, "method": method}
        for param in PARAMS:
            true = population.truth[f"dti_{param}"][inside]
            rows.append({**about, "param": param, **scores.errors(values[param][inside], true)})
        if "tensor" not in values:
            continue
        apart = (values["tensor"] - population.truth["dti_tensor"])[inside]
        square = (apart[:, :3] ** 2).sum(1) + 2 * (apart[:, 3:] ** 2).sum(1)
        row = {**about, "param": "tensor", "n": len(apart)}
        rows.append({**row, "rmse": float(np.sqrt(square.mean() / 9))})
        directed = inside & (population.truth["dti_fa"] > DIRECTED)
        if directed.any():
            angle = scores.angles(
                values["v1"][directed], population.truth["dti_v1"][directed]
            ).mean()
            row = {**about, "param": "v1", "n": int(directed.sum())}
            rows.append({**row, "degrees": float(angle)})
    return rows


def bars(path: Path, rows: Sequence[Row]) -> None:
    """RMSE and bias of FA by SNR and method, a column per region."""
    fa = [r for r in rows if r["param"] == "fa"]
    regions = list(dict.fromkeys(r["region"] for r in fa))
    snrs = sorted({r["snr"] for r in fa})
    figure = Figure(figsize=(3.1 * len(regions) + 0.6, 5.2), layout="constrained")
    grid = figure.subplots(2, len(regions), squeeze=False, sharey="row", sharex=True)
    for column, region in enumerate(regions):
        for line, score in enumerate(("rmse", "bias")):
            axes = grid[line, column]
            for k, method in enumerate(METHODS):
                height = [pick(fa, snr=s, region=region, method=method)[score] for s in snrs]
                place = np.arange(len(snrs)) + 0.2 * (k - 1.5)
                axes.bar(place, height, 0.19, color=COLOURS[method], label=method)
            axes.axhline(0, color="black", lw=0.6)
            axes.set_xticks(range(len(snrs)), [f"{s:g}" for s in snrs])
            axes.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axes.set_ylabel("RMSE of FA" if score == "rmse" else "bias of FA")
            if line == 0:
                axes.set_title(region, fontsize=10)
            else:
                axes.set_xlabel("SNR")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)


def maps(path: Path, population: TestPopulation, found: dict[str, NDArray], snr: float) -> None:
    """FA in one slice through most of the lesions: truth and every method."""
    lesion = np.zeros(population.mask.shape, bool)
    lesion[population.mask] = population.regions.get("lesion", np.zeros(len(population), bool))
    level = int(lesion.sum((0, 1)).argmax())
    panels = {"truth": population.truth["dti_fa"], **found}
    figure = Figure(figsize=(2.5 * len(panels), 3.1), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(panels)), panels.items()):
        volume = np.zeros(population.mask.shape)
        volume[population.mask] = values
        image = axes.imshow(np.rot90(volume[:, :, level]), cmap="gray", vmin=0, vmax=0.8)
        if lesion[:, :, level].any():
            axes.contour(np.rot90(lesion[:, :, level]), [0.5], colors="#ffb000", linewidths=0.8)
        axes.set_title(name, fontsize=10)
        axes.axis("off")
    figure.colorbar(image, ax=figure.axes, shrink=0.7, label=f"FA, SNR {snr:g}")
    figure.savefig(path, dpi=120)


def _page(
    rows: list[Row], wanted: PerceptronConfig, population: TestPopulation, quick: bool
) -> Page:
    main = [r for r in rows if r["region"] in (population.region, "lesion")]
    scalars = [r for r in main if r["param"] in PARAMS]
    setting = (
        "A residual perceptron reads one voxel: the q-space features of its seven signals (one b0, six "
        f"directions at b = 1000 s/mm²), the noise level and the protocol. {wanted.steps:,} steps of "
        f"{wanted.batch:,} simulated voxels ({trained_on()}; each voxel turned at random), SNR 6 to 60, "
        "Gaussian likelihood. FA, MD, AD and RD are outputs of their own, kept in their ranges by "
        f"sigmoids; the tensor is positive definite by its Cholesky factor (`{DERIVED}`: FA and the "
        "others derived from that tensor). Test: an aged atlas' head with lesions, partly off the "
        "training's tissue model, noise of four correlated coils (population `anatomy` of `fornix bench "
        "microstructure`). WLS on the same seven signals, and on a scan of the same head with 3 b0 "
        "and 30 directions. Diffusivities in µm²/ms."
    )
    return Page(
        "mlp-dti6", "A simple perceptron on six directions",
        "Can a plain perceptron, voxel by voxel, give the tensor's metrics from 6 directions as well "
        "as weighted least squares from 30?",
        setting, rows,
        (
            Table("Metrics in white matter and lesions", scalars,
                  ("snr", "region", "param", "method", "n", "bias", "spread", "rmse")),
            Table("Elements of the tensor (RMSE) and direction of v1 (mean degrees, true FA > 0.3)",
                  [r for r in main if r["param"] in ("tensor", "v1")],
                  ("snr", "region", "param", "method", "n", "rmse", "degrees")),
        ),
        (("mlp-dti6_fa.png", "RMSE and bias of FA by SNR, method and region"),
         ("mlp-dti6_maps.png", "FA of one slice; lesions are outlined")),
        _seen(rows, population.region, wanted.snrs),
    )  # fmt: skip


def _seen(rows: list[Row], region: str, snrs: Sequence[float]) -> list[str]:
    lines = []
    where = {"white": "white matter", "brain": "the brain", "lesion": "lesions"}
    for place in (region, "lesion"):
        if not any(r["region"] == place for r in rows):
            continue
        for snr in snrs:
            fa = {m: pick(rows, snr=snr, region=place, method=m, param="fa") for m in METHODS}
            own, six, thirty = (fa[m]["rmse"] for m in (PERCEPTRON, "WLS 6", "WLS 30"))
            lines.append(
                f"SNR {snr:g}, {where[place]}: the perceptron's FA has RMSE {own:.3f}, "
                f"{percent(own, six)} WLS with the same 6 directions ({six:.3f}) and "
                f"{percent(own, thirty)} WLS with 30 ({thirty:.3f}); its bias is "
                f"{fa[PERCEPTRON]['bias']:+.3f} against {fa['WLS 6']['bias']:+.3f} and "
                f"{fa['WLS 30']['bias']:+.3f}."
            )
    snr = _middle(snrs)
    fa = {m: pick(rows, snr=snr, region=region, method=m, param="fa") for m in METHODS}
    elements = {
        m: pick(rows, snr=snr, region=region, method=m, param="tensor")["rmse"]
        for m in ("WLS 6", DERIVED)
    }
    own_error = fa[PERCEPTRON]["rmse"]
    closer = "nearer to the truth" if elements[DERIVED] < elements["WLS 6"] else "further off"
    link = "yet" if closer.startswith("nearer") and fa[DERIVED]["rmse"] > own_error else "and"
    worse = "worse" if fa[DERIVED]["rmse"] > own_error else "no worse"
    lines.append(
        f"Deriving FA from an averaged tensor: at SNR {snr:g} the tensor's elements are {closer} than "
        f"WLS's (RMSE {elements[DERIVED]:.3f} against {elements['WLS 6']:.3f} µm²/ms), {link} the FA derived "
        f"from that tensor has bias {fa[DERIVED]['bias']:+.3f} and RMSE {fa[DERIVED]['rmse']:.3f}: {worse} "
        f"than the output trained for FA ({fa[PERCEPTRON]['bias']:+.3f}, {fa[PERCEPTRON]['rmse']:.3f})."
    )
    return lines


def _signals(scan: Scan) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return scan.dwi.signals(), scan.sigma[scan.dwi.brain()]


def _middle(snrs: Sequence[float]) -> float:
    return sorted(snrs)[len(snrs) // 2]
