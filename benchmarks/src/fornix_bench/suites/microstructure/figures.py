"""The figures of `fornix bench microstructure`, each from the rows of one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fornix_bench.suites.microstructure.estimates import INTERVALS, learned
from fornix_bench.table import Row

COLOURS = {
    "wls": "#8d99a6", "nlls": "#5c6670", "classical": "#8d99a6", "voxelwise": "#2a9d8f",
    "learned": "#1b6ca8", "DIPY WLS": "#f2b134", "DIPY NLLS": "#f28e2b", "DIPY RESTORE": "#c1440e",
    "DIPY FORCE": "#8c564b", "MRtrix3": "#b5838d",
}  # fmt: skip


#: Panels beside each other.
_ABREAST = 5


def tensor(path: Path, rows: Sequence[Row]) -> None:
    """FA's RMSE and, below, bias by directions and method, one panel per population and region."""
    fa = [r for r in rows if r["param"] == "fa"]
    panels = list(dict.fromkeys((r["population"], r["region"]) for r in fa))
    panels = [p for p in panels if p[1] != "brain" or (p[0], "white") not in panels]
    wide = min(len(panels), _ABREAST)
    bands = -(-len(panels) // wide)
    figure = Figure(figsize=(2.7 * wide, 4.8 * bands), layout="constrained")
    grid = figure.subplots(2 * bands, wide, squeeze=False, sharey="row")
    for axes in grid.reshape(bands, 2, wide).transpose(0, 2, 1).reshape(-1, 2)[len(panels) :].flat:
        axes.set_visible(False)
    seen: dict[str, Any] = {}
    for number, panel in enumerate(panels):
        band, column = divmod(number, wide)
        here = [r for r in fa if (r["population"], r["region"]) == panel]
        methods = list(dict.fromkeys(r["method"] for r in here))
        numbers = sorted({r["directions"] for r in here})
        for line, score in enumerate(("rmse", "bias")):
            axes = grid[2 * band + line, column]
            for k, method in enumerate(methods):
                part = {r["directions"]: r[score] for r in here if r["method"] == method}
                place = [i + 0.8 * ((k + 0.5) / len(methods) - 0.5) for i in range(len(numbers))]
                height = [part.get(n, np.nan) for n in numbers]
                seen[method] = axes.bar(
                    place, height, 0.8 / len(methods), color=COLOURS.get(method, "#444444")
                )
            axes.set_xticks(range(len(numbers)), [str(n) for n in numbers])
            axes.axhline(0, color="black", lw=0.6)
            if column == 0:
                axes.set_ylabel("RMSE of FA" if score == "rmse" else "bias of FA")
            if line == 0:
                axes.set_title(f"{panel[0]}, {panel[1]}", fontsize=10)
            else:
                axes.set_xlabel("directions")
            axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        list(seen.values()), list(seen), loc="outside lower center", ncols=6, frameon=False,
        fontsize=8,
    )  # fmt: skip
    figure.savefig(path, dpi=120)


def sweep(path: Path, rows: Sequence[Row]) -> None:
    """Ratio of FA's and the direction's error to WLS's, by directions and SNR; the default method."""
    rows = [r for r in rows if r["method"] == "learned"]
    populations = list(dict.fromkeys(r["population"] for r in rows))
    numbers = [n for n in (1, 2) if any(r["shells"] == n for r in rows)]
    columns = [(p, n) for p in ("fa_ratio", "v1_ratio") for n in numbers]
    figure = Figure(
        figsize=(1 + 2.9 * len(columns), 0.6 + 3 * len(populations)), layout="constrained"
    )
    grid = figure.subplots(len(populations), len(columns), squeeze=False)
    image = None
    for line, population in enumerate(populations):
        for axes, (param, number) in zip(grid[line], columns):
            here = [r for r in rows if (r["population"], r["shells"]) == (population, number)]
            snrs = sorted({r["snr"] for r in here})
            counts = sorted({r["directions"] for r in here})
            table = np.full((len(counts), len(snrs)), np.nan)
            for r in here:
                table[counts.index(r["directions"]), snrs.index(r["snr"])] = r[param]
            image = axes.imshow(table, cmap="RdBu_r", vmin=0.5, vmax=1.5, aspect="auto")
            for (y, x), value in np.ndenumerate(table):
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8)
            axes.set_xticks(range(len(snrs)), [f"{s:g}" for s in snrs])
            axes.set_yticks(range(len(counts)), [str(c) for c in counts])
            what = "FA" if param == "fa_ratio" else "first direction"
            axes.set_title(f"{population}, {what}, {number} shell{'s' * (number > 1)}", fontsize=9)
        grid[line, 0].set_ylabel("directions")
    for axes in grid[-1]:
        axes.set_xlabel("SNR")
    if image is not None:
        figure.colorbar(image, ax=grid, label="error over that of WLS")
    figure.savefig(path, dpi=110)


def random(path: Path, rows: Sequence[Row]) -> None:
    """Ratio to WLS against the number of volumes, coloured by SNR; a column per method."""
    methods = list(dict.fromkeys(r["method"] for r in rows))
    figure = Figure(figsize=(1.2 + 3.4 * len(methods), 5.6), layout="constrained")
    grid = figure.subplots(2, len(methods), squeeze=False, sharex=True, sharey="row")
    for column, method in enumerate(methods):
        here = [r for r in rows if r["method"] == method]
        for line, (score, label) in enumerate(
            (("fa_ratio", "FA"), ("v1_ratio", "first direction"))
        ):
            axes = grid[line, column]
            dots = axes.scatter(
                [r["volumes"] for r in here], [r[score] for r in here],
                c=np.log10([r["snr"] for r in here]), cmap="viridis", s=22,
                vmin=np.log10(8), vmax=np.log10(60),
            )  # fmt: skip
            axes.axhline(1, color="black", lw=0.8)
            axes.set_xscale("log")
            axes.set_xticks([7, 13, 25, 50, 97], ["7", "13", "25", "50", "97"], minor=False)
            axes.minorticks_off()
            if column == 0:
                axes.set_ylabel(f"{label}: error against WLS")
            if line == 0:
                axes.set_title(method)
            else:
                axes.set_xlabel("volumes")
            axes.spines[["top", "right"]].set_visible(False)
    bar = figure.colorbar(dots, ax=grid, label="SNR")
    bar.set_ticks(np.log10([8, 15, 30, 60]).tolist(), labels=["8", "15", "30", "60"])
    figure.savefig(path, dpi=120)


def cells(path: Path, rows: Sequence[Row]) -> None:
    """Bias with the spread as bars, per cell of the true value, by parameter; the first population."""
    population = rows[0]["population"]
    best = {"fa": "dti12", "md": "dti12"}
    shown = [
        r for r in rows
        if r["population"] == population and r["protocol"] == best.get(r["param"], "6+12")
    ]  # fmt: skip
    params = list(dict.fromkeys(r["param"] for r in shown))
    width = min(max(len(params), 2), 4)
    lines = -(-len(params) // width)
    figure = Figure(figsize=(2.9 * width, 3.2 * lines), layout="constrained")
    grid = figure.subplots(lines, width, squeeze=False).ravel()
    for axes in grid[len(params) :]:
        axes.set_visible(False)
    for axes, param in zip(grid, params):
        part = [r for r in shown if r["param"] == param]
        labels = list(dict.fromkeys(r["cell"] for r in part))
        methods = list(dict.fromkeys(r["method"] for r in part))
        for k, method in enumerate(methods):
            mine = [r for r in part if r["method"] == method]
            place = [labels.index(r["cell"]) + 0.18 * (k - (len(methods) - 1) / 2) for r in mine]
            axes.errorbar(
                place, [r["bias"] for r in mine], [r["spread"] / 2 for r in mine], fmt="o", ms=4,
                lw=1.4, color=COLOURS.get(method, "#444444"), label=method,
            )  # fmt: skip
        axes.axhline(0, color="black", lw=0.6)
        axes.set_xticks(range(len(labels)), labels, fontsize=7)
        axes.set_title(f"{param.upper()}, {part[0]['protocol']}", fontsize=10)
        axes.set_xlabel("true value")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[::width]:
        axes.set_ylabel("bias, bar ± half the spread")
    grid[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def coverage(path: Path, rows: Sequence[Row]) -> None:
    """Found against promised coverage per parameter, one line per method and noise factor."""
    params = list(dict.fromkeys(r["param"] for r in rows))
    methods = list(dict.fromkeys(r["method"] for r in rows))
    width = (len(params) + 1) // 2
    figure = Figure(figsize=(2.6 * width, 5.6), layout="constrained")
    grid = figure.subplots(2, width, squeeze=False, sharex=True, sharey=True).ravel()
    styles = {0.5: ":", 0.8: "--", 1.0: "-", 1.2: "-.", 2.0: (0, (1, 3))}
    seen: dict[str, Any] = {}
    for axes, param in zip(grid, params):
        axes.plot([0.4, 1], [0.4, 1], color="black", lw=0.6)
        for method in methods:
            for factor in sorted({r["sigma_factor"] for r in rows}):
                if method not in learned() and factor != 1:
                    continue
                part = [
                    r for r in rows
                    if (r["param"], r["method"], r["sigma_factor"]) == (param, method, factor)
                ]  # fmt: skip
                if not part:
                    continue
                found = [float(np.mean([r[f"{s:.0%}"] for r in part])) for s in INTERVALS]
                (line,) = axes.plot(
                    INTERVALS, found, "o", ls=styles.get(factor, "-"), ms=3, lw=1.2,
                    color=COLOURS.get(method, "#444444"),
                )  # fmt: skip
                seen[f"{method}, noise ×{factor:g}"] = line
        axes.set_title(param.upper(), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(params) :]:
        axes.set_visible(False)
    for axes in grid[::width]:
        axes.set_ylabel("share of truths inside")
    for axes in grid[width:]:
        axes.set_xlabel("promised")
    figure.legend(
        list(seen.values()), list(seen), loc="outside lower center", ncols=5, frameon=False,
        fontsize=7,
    )  # fmt: skip
    figure.savefig(path, dpi=120)


def repeat(path: Path, pictures: dict[str, np.ndarray]) -> None:
    """FA slices of the two scans side by side, a row per method, with their difference."""
    methods = list(dict.fromkeys(name.rsplit(", ", 1)[0] for name in pictures))
    wide, high = next(iter(pictures.values())).shape  # drawn turned: the first axis lies across
    figure = Figure(figsize=(9, (0.3 + 3 * high / wide) * len(methods)), layout="constrained")
    grid = figure.subplots(len(methods), 3, squeeze=False)
    for line, method in enumerate(methods):
        first, second = (pictures[f"{method}, {k}"] for k in ("first", "second"))
        for axes, values, title in zip(
            grid[line], (first, second, second - first), ("first scan", "second scan", "difference")
        ):
            apart = title == "difference"
            axes.imshow(
                np.rot90(values), cmap="RdBu_r" if apart else "gray",
                vmin=-0.4 if apart else 0, vmax=0.4 if apart else 0.9,
            )  # fmt: skip
            axes.set_title(f"{method}: {title}", fontsize=9)
            axes.axis("off")
    figure.savefig(path, dpi=120)
