"""The figures of `fornix experiment ood`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fornix_bench.experiments.ood_real import Picture
from fornix_bench.experiments.ood_simulated import Group
from fornix_bench.table import Row

#: Scores above this are drawn as this.
TOP = 10.0


def scores(path: Path, groups: Sequence[Group]) -> None:
    """Quantiles of the score by kind."""
    figure = Figure(figsize=(8, 0.32 * len(groups) + 1.2), layout="constrained")
    axes = figure.subplots()
    for line, group in enumerate(groups):
        low, q1, middle, q3, high = np.clip(
            np.quantile(group.score, [0.05, 0.25, 0.5, 0.75, 0.95]), 0, TOP
        )
        colour = "#5c6670" if line == 0 else "#1b6ca8"
        axes.plot([low, high], [line, line], color=colour, lw=1.2)
        axes.barh(line, q3 - q1, 0.55, left=q1, color=colour, alpha=0.5)
        axes.plot([middle], [line], "|", color="black", ms=11, mew=1.6)
    axes.set_yticks(range(len(groups)), [g.kind for g in groups], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(3, color="#c1440e", lw=1, ls="--")
    axes.text(
        3.03, len(groups) - 0.4, "out of distribution", color="#c1440e", fontsize=8, va="bottom"
    )
    axes.set_xlim(0, TOP + 0.1)
    axes.set_xlabel(f"score, −log10 p (drawn up to {TOP:g})")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def errors(path: Path, rows: Sequence[Row]) -> None:
    """Error by score: FA on simulation, share outside the 99% interval, unseen on real scans."""
    bins = [r for r in rows if r["section"] == "bin"]
    real = [r for r in rows if r["section"] == "real bin"]
    order = list(dict.fromkeys(r["score"] for r in sorted(bins + real, key=_start)))
    count = 3 if real else 2
    figure = Figure(figsize=(4.0 * count, 3.5), layout="constrained")
    panels = figure.subplots(1, count)
    for protocol, colour in zip(dict.fromkeys(r["protocol"] for r in bins), ("#1b6ca8", "#2a9d8f")):
        here = [r for r in bins if r["protocol"] == protocol]
        place = [order.index(r["score"]) for r in here]
        name = f"{protocol} directions"
        panels[0].plot(place, [r["fa_rmse"] for r in here], "o-", color=colour, label=name)
        panels[0].plot(place, [r["fa_std"] for r in here], "s--", ms=4, lw=1, color=colour,
                       label=f"{name}, standard deviation")  # fmt: skip
        panels[1].plot(place, [r["outside 99%"] for r in here], "o-", color=colour, label=name)
    panels[0].set_ylabel("RMSE of FA")
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylabel("share outside the 99% interval")
    panels[1].axhline(0.01, color="black", lw=0.6)
    if real:
        for scan in dict.fromkeys(r["scan"] for r in real):
            here = [r for r in real if r["scan"] == scan]
            place = [order.index(r["score"]) for r in here]
            base = here[0]["unseen"]
            panels[2].plot(place, [r["unseen"] / base for r in here], "o-", ms=3, lw=1,
                           label=scan.split("_dir")[0])  # fmt: skip
        panels[2].set_ylabel("error of unseen measurements,\nover that in the lowest bin")
        panels[2].set_ylim(bottom=0)
        panels[2].legend(frameon=False, fontsize=5)
    panels[0].legend(frameon=False, fontsize=7)
    for axes in panels:
        axes.set_xticks(range(len(order)), order, fontsize=7, rotation=30)
        axes.set_xlabel("score, −log10 p")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def maps(path: Path, pictures: Sequence[Picture]) -> None:
    """b0, FA and score of one slice of each scan."""
    rows = (len(pictures) + 1) // 2
    figure = Figure(figsize=(11, 1.95 * rows), layout="constrained")
    grid = figure.subplots(rows, 6, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    for k, picture in enumerate(pictures):
        line = grid[k // 2, 3 * (k % 2) : 3 * (k % 2) + 3]
        bright = float(np.quantile(picture.b0, 0.98))
        for axes, values, top, colours in zip(
            line, (picture.b0, picture.fa, picture.score), (bright, 0.8, 4.0),
            ("gray", "gray", "magma"),
        ):  # fmt: skip
            image = axes.imshow(np.rot90(values), cmap=colours, vmin=0, vmax=top)
        line[1].set_title(picture.name, fontsize=7)
    figure.colorbar(image, ax=list(grid.ravel()), shrink=0.5, label="score, −log10 p")
    figure.savefig(path, dpi=120)


def _start(row: Row) -> float:
    return float(row["score"].split("–")[0].split(" ")[0])
