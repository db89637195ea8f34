"""`fornix bench reference-b`: how far the tensor moves with the b-value that was measured.

The same heads, and a real multi-shell scan, seen through one shell at a time: a map that is to be compared
between protocols should not move. `learned` describes b = 1000 whatever was measured; asked for the measured
b it should say what weighted least squares says there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.maps import Maps
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.io import load
from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.preprocess import estimate_noise
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

#: b-values of the simulated shells, s/mm².
SHELLS = (700.0, 1000.0, 1500.0, 2000.0, 3000.0)
_WHITE = 0.35
_PARAMS = ("md", "fa")


def run_reference_b(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Write reference-b.csv, .md and .png into `out`.

    Args:
        out: Folder.
        threads: Of the estimates.
        quick: Larger voxels, one head.
        seed: Of heads and noise.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with use_threads(threads):
        for head in range(1 if quick else 3):
            for b in SHELLS:
                phantom = simulate(
                    protocol=shells(3, (b, 30)), snr=30, voxel_size=6.0 if quick else 3.5,
                    seed=seed + head, threads=threads,
                )  # fmt: skip
                dwi = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)
                white = phantom.mask & (phantom.truth["dti_fa"].data > _WHITE)
                truth = {p: phantom.truth[f"dti_{p}"].data for p in _PARAMS}
                rows += _rows(f"head {head + 1}", dwi, white, b, truth)
        for name, dwi in _real():
            white = dwi.brain() & (microstructure(dwi)["dti_fa"].data > _WHITE)
            for shell in dwi.gradients.shells:
                keep = np.r_[np.flatnonzero(dwi.gradients.b0_mask), np.array(shell.volumes)]
                rows += _rows(name, dwi.subset(np.sort(keep)), white, shell.b, {})
    write_csv(folder / "reference-b.csv", rows)
    _figure(folder / "reference-b.png", rows)
    text = (
        "Medians in white matter (FA above 0.35) of heads simulated at SNR 30 with one shell of 30 "
        "directions each, and of single shells of a real scan. `wls`: weighted least squares. "
        "`learned`: the default, which describes b = 1000 whatever was measured. `learned at b`: the same "
        "with `--reference-b` set to the measured b, which should follow `wls`. `truth`: the tensor of the "
        "noise-free signal up to b = 1000. MD in 1e-3 mm²/s; `std`: median standard deviation of MD."
    )
    moved = "Range of the medians over the shells of a head (largest less smallest):"
    write_page(
        folder / "reference-b.md",
        "What the tensor means at another b-value",
        [
            text, environment(threads, seed) + ".", "Made by `fornix bench reference-b`.", moved,
            markdown(_moved(rows)), markdown(rows), "![MD and FA by shell](reference-b.png)",
        ],
    )  # fmt: skip
    return rows


def _rows(
    scan: str, dwi: DWI, white: NDArray[np.bool_], b: float, truth: dict[str, NDArray]
) -> Iterator[Row]:
    found: dict[str, Maps] = {
        "wls": microstructure(dwi, method="wls", dti_bmax=None),
        "learned": microstructure(dwi),
        "learned at b": microstructure(dwi, reference_b=float(np.clip(b, 500, 3000))),
    }
    for method, maps in found.items():
        md = maps["dti_md"]
        row: Row = {"scan": scan, "b": round(b), "method": method}
        row["MD"] = 1e3 * float(np.median(md.data[white]))
        row["FA"] = float(np.median(maps["dti_fa"].data[white]))
        row["MD std"] = "" if md.std is None else 1e3 * float(np.median(md.std[white]))
        if truth:
            row["MD truth"] = 1e3 * float(np.median(truth["md"][white]))
            row["FA truth"] = float(np.median(truth["fa"][white]))
        yield row


def _real() -> Iterator[tuple[str, DWI]]:
    folder = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "dwi" / "multishell_crop"
    if folder.is_dir():
        yield "multishell_crop", estimate_noise(brain_mask(load(folder / "dwi.nii.gz")))


def _moved(rows: list[Row]) -> list[Row]:
    table = []
    for scan in dict.fromkeys(r["scan"] for r in rows):
        row: Row = {"scan": scan}
        for method in ("wls", "learned"):
            for name in ("MD", "FA"):
                values = [r[name] for r in rows if r["scan"] == scan and r["method"] == method]
                row[f"{name} {method}"] = max(values) - min(values)
        table.append(row)
    return table


def _figure(path: Path, rows: list[Row]) -> None:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    colours = {"wls": "#8d99a6", "learned": "#1b6ca8", "learned at b": "#2a9d8f"}
    for ax, name in zip(figure.subplots(1, 2), ("MD", "FA"), strict=True):
        for scan in dict.fromkeys(r["scan"] for r in rows):
            for method, colour in colours.items():
                mine = [r for r in rows if r["scan"] == scan and r["method"] == method]
                ax.plot(
                    [r["b"] for r in mine], [r[name] for r in mine], color=colour, marker="o",
                    markersize=3, lw=1, label=method if scan == rows[0]["scan"] else None,
                )  # fmt: skip
        ax.set(xlabel="b of the shell, s/mm²", ylabel=f"median {name}")
    ax.legend(fontsize=8)
    figure.savefig(path, dpi=130)
