"""`fornix bench speed`: voxels per second and peak memory against DIPY, MRtrix3 and AMICO.

The file is the one of the project's goals: 235,375 voxels of 96 volumes (6 b0, 30 at b = 1000, 60
at b = 2000), simulated by `fornix.physics` with Rician noise at SNR 30. Every task runs in a fresh
process with the same number of threads, in three rounds, and the fastest counts; slow ones get fewer
voxels, which the table says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fornix.core.errors import FornixError
from fornix.physics.phantom import random_tissue
from fornix.physics.protocol import scheme
from fornix.physics.tissue import signal
from fornix.testing.model_truth import add_noise
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

VOXELS = 235_375
SNR = 30.0
ROUNDS = 3

#: (task, fraction of the voxels, the peer it is compared with, the goal of the ratio)
TASKS: tuple[tuple[str, float, str, float | None], ...] = (
    ("DIPY tensor WLS", 1.0, "", None),
    ("DIPY tensor NLLS", 0.03, "", None),
    ("MRtrix3 dwi2tensor", 1.0, "", None),
    ("DIPY kurtosis WLS", 0.03, "", None),
    ("AMICO NODDI", 0.05, "", None),
    ("Fornix dti ols", 1.0, "DIPY tensor WLS", None),
    ("Fornix dti wls", 1.0, "DIPY tensor WLS", 10.0),
    ("Fornix dti wls std", 1.0, "DIPY tensor WLS", 10.0),
    ("Fornix dti iwls std", 0.3, "MRtrix3 dwi2tensor", None),
    ("Fornix dti nlls std", 0.3, "DIPY tensor NLLS", None),
    ("Fornix dti nlls std sigma", 0.3, "DIPY tensor NLLS", None),
    ("Fornix dki wls", 1.0, "DIPY kurtosis WLS", 30.0),
    ("Fornix dki wls std", 1.0, "DIPY kurtosis WLS", 30.0),
    ("Fornix dki constrained std", 1.0, "DIPY kurtosis WLS", 30.0),
    ("Fornix noddi exact", 0.3, "AMICO NODDI", 5.0),
    ("Fornix noddi exact std", 0.3, "AMICO NODDI", 5.0),
    ("Fornix noddi exact std sigma", 0.3, "AMICO NODDI", 5.0),
    ("Fornix physics signal", 0.3, "", None),
)
SCALING = ("Fornix dti wls std", "Fornix dki constrained std", "Fornix noddi exact std")


def run_speed(
    out: str | Path = "docs/benchmarks",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
) -> list[Row]:
    """Time every task and write speed.csv, speed.md and speed.png into `out`.

    quick: a tenth of the voxels. Returns the rows of the table.
    """
    folder = _writable(out)
    total = VOXELS // 10 if quick else VOXELS
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        make_file(work, total, seed)
        rounds = [
            [
                {"task": task, **timed(work, task, int(total * share), threads)}
                for task, share, _, _ in TASKS
            ]
            for _ in range(1 if quick else ROUNDS)
        ]
        rows = [max(same, key=lambda row: row.get("voxels_per_s", 0.0)) for same in zip(*rounds)]
        scaling = [
            {"task": task, **timed(work, task, int(total * share), threads)}
            for task in SCALING
            for share in (0.01, 0.1, 1.0)
        ]
    _add_ratios(rows)
    _add_ratios(scaling)
    write_csv(folder / "speed.csv", rows)
    write_csv(folder / "speed_scaling.csv", scaling)
    _page(folder, rows, scaling, environment(threads, seed), total)
    _plot(folder / "speed.png", rows, scaling)
    return rows


def make_file(folder: Path, voxels: int, seed: int) -> None:
    """signals.npy (voxels, 96), grad.txt and sigma.txt of the benchmark's scan."""
    gradients = scheme("bench96")
    clean = 1000 * signal(random_tissue(voxels, seed), gradients).numpy()
    sigma = 1000 / SNR
    np.save(folder / "signals.npy", add_noise(clean, sigma, seed).astype(np.float32))
    np.savetxt(folder / "grad.txt", gradients.to_mrtrix())
    np.savetxt(folder / "sigma.txt", [sigma])


def timed(folder: Path, task: str, voxels: int, threads: int) -> Row:
    """Seconds, voxels per second and peak memory (MB) of one task of `_worker` on `make_file`'s scan."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    words = [str(folder), task, str(voxels), str(threads)]
    done = subprocess.run(
        [sys.executable, "-m", "fornix_bench.peers._worker", *words],
        env={**os.environ, **dict.fromkeys(names, str(threads))},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise FornixError(f"the benchmark task {task!r} failed: {last[0]}")
    found: Row = json.loads(done.stdout.strip().splitlines()[-1])
    if "seconds" in found:
        found["voxels_per_s"] = found["voxels"] / found["seconds"]
    return found


def _add_ratios(rows: list[Row]) -> None:
    speed = {r["task"]: r.get("voxels_per_s") for r in rows}
    goals = {task: (peer, goal) for task, _, peer, goal in TASKS}
    for row in rows:
        peer, goal = goals[row["task"]]
        mine, theirs = row.get("voxels_per_s"), speed.get(peer)
        if peer and mine and theirs:
            row["ratio"], row["against"] = mine / theirs, peer
            if goal:
                row["goal"] = goal


def _page(folder: Path, rows: list[Row], scaling: list[Row], machine: str, total: int) -> None:
    skipped = [f"{r['task']}: {r['skipped']}" for r in rows if "skipped" in r]
    columns = ("task", "voxels", "seconds", "voxels_per_s", "peak_mb", "ratio", "against", "goal")
    blocks = [
        f"{total:,} voxels, 96 volumes (6 b0, 30 at b = 1000, 60 at b = 2000), SNR {SNR:g}. {machine}.",
        "Made by `fornix bench speed`.",
        markdown([r for r in rows if "skipped" not in r], columns),
        "All tasks include their metrics; `std` means with the standard deviation of every metric, "
        "`sigma` with the noise level known (Rician likelihood). Fornix is timed from a scan in "
        "memory to maps, after a warm-up that compiles or loads the kernels; DIPY and AMICO from "
        "signals in memory; MRtrix3 with its reading and writing of files. The fastest of "
        "three rounds over all tasks counts. Tasks timed on fewer voxels show so. peak_mb: of the whole "
        "process, libraries and data included. `physics signal` simulates three dispersed populations "
        "per voxel, float32; its goal is 50,000 voxels/s.",
        "![speed](speed.png)",
        "## How time and memory grow with the number of voxels",
        markdown(scaling, ("task", "voxels", "seconds", "voxels_per_s", "peak_mb")),
    ]
    if skipped:
        blocks.insert(3, "Skipped: " + "; ".join(skipped))
    write_page(folder / "speed.md", "Speed", blocks)


def _plot(path: Path, rows: list[Row], scaling: list[Row]) -> None:
    from matplotlib.figure import Figure

    shown = [r for r in rows if "voxels_per_s" in r]
    shown.sort(key=lambda r: r["voxels_per_s"])
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    colours = ["#1b6ca8" if r["task"].startswith("Fornix") else "#b9bec4" for r in shown]
    left.barh([r["task"] for r in shown], [r["voxels_per_s"] for r in shown], color=colours)
    for k, r in enumerate(shown):
        left.text(r["voxels_per_s"] * 1.1, k, f"{r['voxels_per_s']:,.0f}", va="center", size=8)
    left.set_xscale("log")
    left.set_xlim(right=max(r["voxels_per_s"] for r in shown) * 5)
    left.set_xlabel("voxels per second, 96 volumes")
    for task in dict.fromkeys(r["task"] for r in scaling):
        part = [r for r in scaling if r["task"] == task]
        right.plot([r["voxels"] for r in part], [r["seconds"] for r in part], "o-", label=task)
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("voxels")
    right.set_ylabel("seconds")
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    right.grid(alpha=0.25)
    figure.savefig(path, dpi=120)


def _writable(out: str | Path) -> Path:
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FornixError(f"cannot write the benchmark into {folder}: {error.strerror}") from None
    return folder
