"""`fornix experiment calibration`: do the intervals hold, and does the spread know the error?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.gradients import Gradients
from fornix.physics.protocol import scheme
from fornix_bench.experiments.page import Page, Table, write
from fornix_bench.experiments.shipped import shipped
from fornix_bench.experiments.training import Tell
from fornix_bench.metrics import scores
from fornix_bench.suites.microstructure.accuracy import two_shells
from fornix_bench.suites.microstructure.estimates import INTERVALS, Estimate, estimate
from fornix_bench.suites.microstructure.populations import (
    Block,
    TestPopulation,
    anatomical,
    exchanging,
)
from fornix_bench.table import Row

#: Shares that intervals promise.
PROMISED = (*INTERVALS, 0.99)
#: Coverage should be within this, and the rank correlation of spread and error at least this.
COVERAGE_GOAL, SPEARMAN_GOAL = 0.02, 0.5
#: Points of a sparsification curve.
STEPS = 25
COLOURS = {"learned": "#1b6ca8", "voxelwise": "#2a9d8f"}

Curves = dict[tuple[str, str], list[tuple[NDArray, NDArray]]]


@dataclass(frozen=True)
class CalibrationConfig:
    """How much is measured. directions: at b = 1000; shells: directions at 1000 and 2000."""

    block: Block = (26, 30, 12)
    voxel_size: float = 2.5
    directions: tuple[int, ...] = (6, 12, 30)
    shells: tuple[tuple[int, int], ...] = ((6, 12), (30, 30))
    snrs: tuple[float, ...] = (8.0, 15.0, 30.0, 60.0)
    methods: tuple[str, ...] = ()


QUICK = CalibrationConfig(
    block=(12, 14, 6), voxel_size=5.0, directions=(6,), shells=((6, 12),), snrs=(20.0,)
)  # fmt: skip


def run_calibration(
    out: str | Path = "docs/experiments",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    size: CalibrationConfig | None = None,
    tell: Tell = print,
) -> list[Row]:
    """Score the shipped estimators' uncertainty; calibration.csv, .md and calibration_*.png.

    Raises FornixError where no weights ship.
    """
    wanted = size or (QUICK if quick else CalibrationConfig())
    methods = [m for m in shipped() if not wanted.methods or m in wanted.methods]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    curves: Curves = {}
    with use_threads(threads):
        populations = [
            make(wanted.block, 950 + k + seed, wanted.voxel_size)
            for k, make in enumerate((anatomical, exchanging))
        ]
        for population in populations:
            for label, gradients in protocols(wanted).items():
                for snr in wanted.snrs:
                    scan = population.scan(gradients, snr, seed + round(10 * snr))
                    for method in methods:
                        models = ["dti"]
                        if len(gradients.shells) > 1:
                            models += [m for m in ("dki", "noddi") if _known(population, m)]
                        found = estimate(scan, method, models)
                        about: Row = {
                            "population": population.name, "protocol": label, "snr": snr, "method": method,
                        }  # fmt: skip
                        rows += scored(about, population, found, curves)
            tell(f"{population.name}: {len(rows)} rows")
    coverage(folder / "calibration_coverage.png", rows)
    sparsification(folder / "calibration_sparsification.png", curves)
    where(folder / "calibration_where.png", rows)
    write(folder, _page(rows, wanted, methods), threads, seed, quick)
    return rows


def protocols(wanted: CalibrationConfig) -> dict[str, Gradients]:
    """Protocols by what they are called on the page: directions at 1000, or at 1000 + 2000."""
    made = {str(n): scheme(f"dti{n}") for n in wanted.directions}
    return made | {f"{a}+{b}": two_shells(a, b) for a, b in wanted.shells}


def scored(about: Row, population: TestPopulation, found: Estimate, curves: Curves) -> list[Row]:
    """Per metric: coverage of every interval, its width, rank correlation and sparsification."""
    rows: list[Row] = []
    for name, values in found.values.items():
        if name not in population.truth or name not in found.std:
            continue
        true, std, param = population.truth[name], found.std[name], name.split("_")[1]
        apart = values - true
        row: Row = {**about, "param": param, "n": len(true)}
        for share in PROMISED:
            row[f"{share:.0%}"] = scores.coverage(true, *found.interval(name, share))
        row["miss"] = max(abs(row[f"{s:.0%}"] - s) for s in INTERVALS)
        low, high = found.interval(name, 0.9)
        row["width90"] = float(np.nanmedian(high - low))
        row["rmse"] = scores.errors(values, true)["rmse"]
        row["spearman"] = scores.spearman(std, np.abs(apart))
        row["ause"] = scores.ause(apart, std)
        rows.append(row)
        pair = tuple(scores.sparsification(apart, o, STEPS)[1] for o in (std, np.abs(apart)))
        curves.setdefault((about["method"], param), []).append((pair[0], pair[1]))
    return rows


def summary(rows: Sequence[Row], key: str) -> list[Row]:
    """Means over scans by method, metric and `key`; `worst`: the largest miss of a single scan."""
    made: list[Row] = []
    for group in dict.fromkeys((r["method"], r["param"], r[key]) for r in rows):
        here = [r for r in rows if (r["method"], r["param"], r[key]) == group]
        row: Row = dict(zip(("method", "param", key), group)) | {"scans": len(here)}
        for share in PROMISED:
            row[f"{share:.0%}"] = float(np.mean([r[f"{share:.0%}"] for r in here]))
        row["miss"] = max(abs(row[f"{s:.0%}"] - s) for s in INTERVALS)
        row["worst"] = max(r["miss"] for r in here)
        for name in ("spearman", "ause"):
            row[name] = float(np.nanmean([r[name] for r in here]))
        made.append(row)
    return made


def coverage(path: Path, rows: Sequence[Row]) -> None:
    """Found against promised coverage per metric: a line per SNR (shade), a style per method."""
    params = list(dict.fromkeys(r["param"] for r in rows))
    methods = list(dict.fromkeys(r["method"] for r in rows))
    snrs = sorted({r["snr"] for r in rows})
    wide = (len(params) + 1) // 2
    figure = Figure(figsize=(2.6 * wide + 0.4, 5.8), layout="constrained")
    grid = figure.subplots(2, wide, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, param in zip(grid, params):
        axes.plot([0.4, 1], [0.4, 1], color="black", lw=0.7)
        for method, style in zip(methods, ("-", "--")):
            for k, snr in enumerate(snrs):
                here = [r for r in rows
                        if (r["param"], r["method"], r["snr"]) == (param, method, snr)]  # fmt: skip
                found = [float(np.mean([r[f"{s:.0%}"] for r in here])) for s in PROMISED]
                shade = (0.1 + 0.6 * k / max(len(snrs) - 1, 1),) * 3
                colour = COLOURS.get(method, "#444444") if len(snrs) == 1 else shade
                axes.plot(PROMISED, found, "o", ls=style, ms=3, lw=1.1, color=colour,
                          label=f"{method}, SNR {snr:g}")  # fmt: skip
        axes.set_title(param.upper(), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(params) :]:
        axes.set_visible(False)
    for axes in grid[::wide]:
        axes.set_ylabel("share of truths inside")
    for axes in grid[wide:]:
        axes.set_xlabel("promised")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def sparsification(path: Path, curves: Curves) -> None:
    """RMSE left when the voxels of largest spread (dashed: of largest error) are taken away, over
    the RMSE of all; means over scans."""
    params = list(dict.fromkeys(p for _, p in curves))
    wide = (len(params) + 1) // 2
    removed = np.arange(STEPS) / STEPS
    figure = Figure(figsize=(2.6 * wide + 0.4, 5.6), layout="constrained")
    grid = figure.subplots(2, wide, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, param in zip(grid, params):
        axes.axhline(1, color="black", lw=0.6)
        for method in dict.fromkeys(m for m, p in curves if p == param):
            ours, oracle = (
                np.mean([c[k] for c in curves[method, param]], axis=0) for k in (0, 1)
            )  # fmt: skip
            colour = COLOURS.get(method, "#444444")
            axes.plot(removed, ours, color=colour, lw=1.6, label=method)
            axes.plot(
                removed, oracle, color=colour, lw=1.0, ls="--", label=f"{method}, by the error"
            )
        axes.set_title(param.upper(), fontsize=10)
        axes.set_ylim(0, 1.15)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(params) :]:
        axes.set_visible(False)
    for axes in grid[::wide]:
        axes.set_ylabel("RMSE left, of all")
    for axes in grid[wide:]:
        axes.set_xlabel("share of voxels removed")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def where(path: Path, rows: Sequence[Row], share: float = 0.9) -> None:
    """Found minus promised coverage by metric (down), protocol and SNR (across); one per method."""
    methods = list(dict.fromkeys(r["method"] for r in rows))
    params = list(dict.fromkeys(r["param"] for r in rows))
    scans = sorted({(r["protocol"], r["snr"]) for r in rows}, key=lambda s: (*_sizes(s[0]), s[1]))
    figure = Figure(
        figsize=(0.42 * len(scans) + 3.5, 2.6 * len(methods) + 0.6), layout="constrained"
    )
    for axes, method in zip(np.atleast_1d(figure.subplots(len(methods), 1)), methods):
        table = np.full((len(params), len(scans)), np.nan)
        for i, param in enumerate(params):
            for j, scan in enumerate(scans):
                found = [r[f"{share:.0%}"] for r in rows if (r["method"], r["param"]) == (method, param)
                         and (r["protocol"], r["snr"]) == scan]  # fmt: skip
                table[i, j] = np.mean(found) - share if found else np.nan
        image = axes.imshow(100 * table, cmap="RdBu", vmin=-10, vmax=10, aspect="auto")
        axes.set_facecolor("#d5d5d5")  # not estimated from this protocol
        axes.set_yticks(range(len(params)), [p.upper() for p in params], fontsize=8)
        axes.set_xticks(
            range(len(scans)), [f"{p}, {s:g}" for p, s in scans], fontsize=7, rotation=60
        )
        axes.set_title(f"{method}: directions, SNR", fontsize=9)
        figure.colorbar(image, ax=axes, label=f"{share:.0%} interval, points off", extend="both")
    figure.savefig(path, dpi=120)


def _page(rows: list[Row], wanted: CalibrationConfig, methods: Sequence[str]) -> Page:
    setting = (
        f"The shipped estimators ({', '.join(methods)}) on two populations unlike training (`anatomy` and "
        "`exchange` of `fornix bench microstructure`: other anatomy, other noise, other tissue models), "
        f"protocols of {', '.join(protocols(wanted))} directions (at b = 1000; a+b: at 1000 and 2000 "
        f"s/mm²), SNR {', '.join(f'{s:g}' for s in wanted.snrs)}. Every voxel of the brain counts. "
        "`50%` …: share of the true values inside the interval of that promise; `miss`: largest distance "
        "from the promise (50 to 95%); `worst`: of any single scan; `spearman`: rank correlation of the "
        "standard deviation with the absolute error; `ause`: area between the sparsification curve and "
        "the oracle's, 0 is perfect."
    )
    whole = summary([{**r, "all": "all"} for r in rows], "all")
    shares = tuple(f"{s:.0%}" for s in PROMISED)
    last = ("miss", "worst", "spearman", "ause")
    return Page(
        "calibration", "Do the intervals hold?",
        "Does an interval hold the truth as often as it says, and is the standard deviation large where "
        "the error is?",
        setting, rows,
        (
            Table("By metric", whole, ("method", "param", "scans", *shares, *last)),
            Table("By SNR", summary(rows, "snr"), ("method", "param", "snr", *shares, *last)),
            Table("By protocol", summary(rows, "protocol"),
                  ("method", "param", "protocol", *shares, *last)),
        ),
        (("calibration_coverage.png", "Share of true values inside, by promise; a line per SNR, darkest "
          "the lowest"),
         ("calibration_where.png", "Where the 90% interval holds too few (red) or too many (blue) true "
          "values, by protocol and SNR"),
         ("calibration_sparsification.png", "RMSE of what is left when the voxels of largest standard "
          "deviation are taken away; dashed: of largest error, the best possible")),
        _seen(whole, rows),
    )  # fmt: skip


def _seen(whole: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    made = []
    for method in dict.fromkeys(r["method"] for r in whole):
        here = [r for r in whole if r["method"] == method]
        within = [r["param"].upper() for r in here if r["miss"] <= COVERAGE_GOAL]
        far = max(here, key=lambda r: r["miss"])
        name = max(INTERVALS, key=lambda s: abs(far[f"{s:.0%}"] - s))
        side = "too narrow" if far[f"{name:.0%}"] < name else "too wide"
        made.append(
            f"`{method}`: averaged over scans the intervals of {', '.join(within) or 'no metric'} are "
            f"within {100 * COVERAGE_GOAL:g} points of their promise; furthest off is "
            f"{far['param'].upper()}, whose {name:.0%} interval holds {far[f'{name:.0%}']:.0%} ({side})."
        )
        mine = [r for r in rows if r["method"] == method]
        worst = max(mine, key=lambda r: r["miss"])
        made.append(
            f"`{method}`: the worst single scan is {worst['population']}, {worst['protocol']} directions, "
            f"SNR {worst['snr']:g}, {worst['param'].upper()}, off by {100 * worst['miss']:.0f} points."
        )
        ranked = sorted(here, key=lambda r: r["spearman"])
        good = [r["param"].upper() for r in here if r["spearman"] >= SPEARMAN_GOAL]
        made.append(
            f"`{method}`: the rank correlation of standard deviation and error is from "
            f"{ranked[0]['spearman']:.2f} ({ranked[0]['param'].upper()}) to {ranked[-1]['spearman']:.2f} "
            f"({ranked[-1]['param'].upper()}); at least {SPEARMAN_GOAL:g} for "
            f"{', '.join(good) or 'no metric'}."
        )
    return made


def _sizes(protocol: str) -> tuple[int, int]:
    """Shells and directions of a protocol's name."""
    counts = [int(n) for n in protocol.split("+")]
    return len(counts), sum(counts)


def _known(population: TestPopulation, model: str) -> bool:
    return any(name.startswith(f"{model}_") for name in population.truth)
