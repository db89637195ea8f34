"""`fornix bench tracking-speed`: accepted streamlines per second against MRtrix3 and DIPY.

One phantom, one FOD, one seed mask, one segmentation, the same lengths, the same number of threads.
Every tracker keeps the streamlines that end in grey matter (anatomically constrained tracking). Each is
timed twice in a round, for a few and for more streamlines, and the difference counts: starting a
program, reading the FOD and compiling are in both. The fastest of three rounds over all counts.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.physics import Anatomy, simulate
from fornix.physics.bundles import from_bundles
from fornix.tractography.criteria import TrackingCriteria
from fornix.tractography.dipy_tracker import dipy_batch
from fornix.tractography.engine import track_engine
from fornix.tractography.tissue_fractions import TissueFractions
from fornix_bench.suites.speed import _writable
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

ROUNDS = 3
GOAL = 5.0

#: Fewer and more streamlines of each; of DIPY, seeds.
OURS = {
    "Fornix probabilistic": (4_000, 40_000),
    "Fornix probabilistic, FOD uncertainty": (4_000, 40_000),
    "Fornix deterministic": (4_000, 40_000),
    "Fornix ptt": (1_000, 10_000),
    "Fornix learned": (1_000, 10_000),
}
PEERS = {
    "MRtrix3 tckgen iFOD2": (500, 4_000),
    "MRtrix3 tckgen iFOD1": (500, 4_000),
    "DIPY probabilistic": (2_000, 10_000),
    "DIPY ptt": (500, 2_000),
}
#: Streaming runs of so many, for the memory that they take; quick: fewer.
STREAMED, STREAMED_QUICK = (100_000, 1_000_000, 10_000_000), (5_000, 50_000)
#: Free bytes that a streamline on its way to disk asks for, twice as long as it is in the end.
_ROOM = 2_000


@dataclass(frozen=True, eq=False)
class TrackingInputs:
    """What every tracker gets."""

    fod: NDArray[np.float32]
    affine: NDArray[np.float64]
    tissue: TissueFractions
    seeds: NDArray[np.bool_]
    folder: Path


def run_tracking_speed(
    out: str | Path = "docs/benchmarks",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    bundles: str | Path | None = None,
) -> list[Row]:
    """Time every tracker and write tracking_speed.csv and .md into `out`.

    quick: fewer streamlines, one round. bundles: a folder for `from_bundles`, whose phantom is tracked
    in; None takes the embedded anatomy. Returns the rows of the table.
    """
    folder = _writable(out)
    with tempfile.TemporaryDirectory() as temporary:
        inputs = make_inputs(Path(temporary), seed, bundles, quick)
        rounds = [
            [
                _timed(inputs, name, sizes, threads, quick, seed)
                for name, sizes in {**PEERS, **OURS}.items()
            ]
            for _ in range(1 if quick else ROUNDS)
        ]
        streamed = [
            _streamed(inputs, n, threads, seed)
            for n in (STREAMED_QUICK if quick else STREAMED)
            if shutil.disk_usage(inputs.folder).free > _ROOM * n
        ]
    rows = [max(same, key=lambda row: row.get("per_s", 0.0)) for same in zip(*rounds)]
    speed = {row["tracker"]: row.get("per_s") for row in rows}
    for row in rows:
        mine = row.get("per_s")
        if not row["tracker"].startswith("Fornix") or not mine:
            continue
        smooth = row["tracker"].endswith("ptt")
        for peer, column in (
            ("MRtrix3 tckgen iFOD2", "ratio_ifod2"),
            ("DIPY ptt" if smooth else "DIPY probabilistic", "ratio_dipy"),
        ):
            if speed.get(peer):
                row[column] = mine / speed[peer]
        if row["tracker"] == "Fornix probabilistic":
            row["goal"] = GOAL
    write_csv(folder / "tracking_speed.csv", [*rows, *streamed])
    _page(folder, rows, streamed, environment(threads, seed), inputs)
    return rows


def make_inputs(
    folder: Path, seed: int = 0, bundles: str | Path | None = None, quick: bool = False
) -> TrackingInputs:
    """A phantom's scan (30 directions, b = 1000, SNR 25), its CSD FOD and true tissue, also as files."""
    from fornix.estimators.fod import fod
    from fornix.io import write_image

    size = 4.0 if quick else 2.5
    head: str | Anatomy = "embedded"
    if bundles is not None:
        head = from_bundles(bundles, seed=seed, voxel_size=size)
    made = simulate(head, protocol="dti30", snr=25, seed=seed, voxel_size=size)
    anatomy = made.anatomy
    assert anatomy is not None
    dwi = made.dwi.with_(mask=made.mask, sigma=made.sigma)
    found = fod(dwi, method="csd")["fod"].data
    tissue = TissueFractions(anatomy.wm, anatomy.gm, anatomy.csf)
    seeds = (anatomy.wm > 0.5) & made.mask
    five = np.zeros((*dwi.grid, 5), np.float32)
    five[..., 0], five[..., 2], five[..., 3] = tissue.gm, tissue.wm, tissue.csf
    for name, data in (("fod", found), ("5tt", five), ("seeds", seeds)):
        write_image(folder / f"{name}.nii", data, dwi.affine)
    return TrackingInputs(found, dwi.affine, tissue, seeds, folder)


def _timed(
    inputs: TrackingInputs, name: str, sizes: tuple[int, int], threads: int, quick: bool, seed: int
) -> Row:
    """Accepted streamlines per second, from the difference of two runs."""
    row: Row = {"tracker": name}
    if name.startswith("MRtrix3") and shutil.which("tckgen") is None:
        return {**row, "skipped": "MRtrix3 is not installed: apt install mrtrix3"}
    few, many = (max(50, n // 10) for n in sizes) if quick else sizes
    run = _runner(inputs, name, threads, seed)
    run(few)
    first, second = _clock(run, few), _clock(run, many)
    if second[0] <= first[0]:
        raise FornixError(f"{name}: {many} took no longer than {few} streamlines; run it again")
    return {
        **row,
        "streamlines": second[1],
        "seconds": second[0],
        "per_s": (second[1] - first[1]) / (second[0] - first[0]),
        "mean_mm": second[2],
    }


def _clock(run: Callable[[int], tuple[int, float]], count: int) -> tuple[float, int, float]:
    began = time.perf_counter()
    found, length = run(count)
    return time.perf_counter() - began, found, length


def _runner(
    inputs: TrackingInputs, name: str, threads: int, seed: int
) -> Callable[[int], tuple[int, float]]:
    """count -> (streamlines found, their mean length)."""
    step = min(1.0, float(np.linalg.norm(inputs.affine[:3, :3], axis=0).min()) / 2)
    smooth = name.endswith("ptt")
    criteria = TrackingCriteria(step=step, angle=15.0 if smooth else 30.0)
    deviation = None
    if name.endswith("uncertainty"):
        deviation = (0.1 * np.abs(inputs.fod)).astype(np.float32)

    def ours(count: int) -> tuple[int, float]:
        made = track_engine(
            inputs.fod, inputs.affine, inputs.tissue, inputs.seeds, criteria,
            algorithm=name.split()[1].rstrip(","), count=count, seed=seed, threads=threads, fod_std=deviation,
        )  # fmt: skip
        assert not isinstance(made, int)
        return len(made), float(made.lengths().mean())

    def dipys(count: int) -> tuple[int, float]:
        # So many seeds, all of whose streamlines count.
        track = dipy_batch(
            inputs.fod, inputs.affine, inputs.tissue, criteria,
            algorithm="ptt" if smooth else "probabilistic", seed=seed, threads=threads,
        )  # fmt: skip
        rng = np.random.default_rng(seed)
        voxels = np.argwhere(inputs.seeds)[rng.integers(int(inputs.seeds.sum()), size=count)]
        places = voxels + rng.uniform(-0.5, 0.5, voxels.shape)
        points, sizes = track(places @ inputs.affine[:3, :3].T + inputs.affine[:3, 3])
        made = Tractogram(points, np.r_[0, np.cumsum(sizes)], inputs.affine, (1, 1, 1))
        return len(made), float(made.lengths().mean())

    def mrtrix(count: int) -> tuple[int, float]:
        path = inputs.folder / "out.tck"
        subprocess.run(
            ["tckgen", inputs.folder / "fod.nii", path, "-algorithm", name.split()[-1],
             "-act", inputs.folder / "5tt.nii", "-seed_image", inputs.folder / "seeds.nii",
             "-select", str(count), "-minlength", f"{criteria.min_length:g}",
             "-maxlength", f"{criteria.max_length:g}", "-nthreads", str(threads), "-force", "-quiet"],
            check=True,
        )  # fmt: skip
        return _tck(path)

    return mrtrix if name.startswith("MRtrix3") else dipys if name.startswith("DIPY") else ours


def _tck(path: Path) -> tuple[int, float]:
    from fornix.io.tractograms import read_streamlines

    points, offsets = read_streamlines(path)
    made = Tractogram(points, offsets, np.eye(4), (1, 1, 1))
    return len(made), float(made.lengths().mean())


def _streamed(inputs: TrackingInputs, count: int, threads: int, seed: int) -> Row:
    """Peak memory of a process of its own that tracks `count` streamlines to disk."""
    np.savez(
        inputs.folder / "inputs.npz", fod=inputs.fod, affine=inputs.affine, seeds=inputs.seeds,
        wm=inputs.tissue.wm, gm=inputs.tissue.gm, csf=inputs.tissue.csf,
    )  # fmt: skip
    words = [str(inputs.folder), str(count), str(threads), str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "fornix_bench.suites.tractography.speed", *words],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise FornixError(f"streaming {count} streamlines failed: {last[0]}")
    seconds, peak, size = (float(v) for v in done.stdout.split()[-3:])
    return {
        "tracker": "Fornix probabilistic, to disk",
        "streamlines": count,
        "seconds": seconds,
        "per_s": count / seconds,
        "peak_mb": peak / 1e6,
        "file_mb": size / 1e6,
    }


def stream(folder: str, count: int, threads: int, seed: int) -> None:
    """Track a saved inputs to disk; prints seconds, peak memory and the file's size in bytes."""
    from fornix.io.trx import TrxWriter
    from fornix_bench.peers._worker import peak_memory

    with np.load(Path(folder) / "inputs.npz") as saved:
        kept = dict(saved)
    tissue = TissueFractions(kept["wm"], kept["gm"], kept["csf"])
    fod, affine = kept["fod"], kept["affine"]
    path = Path(folder) / "streamed.trx"
    began = time.perf_counter()
    with TrxWriter(path, affine, (fod.shape[0], fod.shape[1], fod.shape[2])) as writer:
        track_engine(
            fod, affine, tissue, kept["seeds"], TrackingCriteria(step=1.0),
            algorithm="probabilistic", count=count, seed=seed, threads=threads, sink=writer,
        )  # fmt: skip
    print(time.perf_counter() - began, peak_memory(), path.stat().st_size)


def _page(
    folder: Path, rows: list[Row], streamed: list[Row], machine: str, inputs: TrackingInputs
) -> None:
    skipped = [f"{r['tracker']}: {r['skipped']}" for r in rows if "skipped" in r]
    columns = (
        "tracker", "streamlines", "seconds", "per_s", "mean_mm", "ratio_ifod2", "ratio_dipy", "goal",
    )  # fmt: skip
    blocks = [
        f"{int(inputs.seeds.sum()):,} seed voxels of {np.linalg.norm(inputs.affine[:3, 0]):.1f} mm, FOD by "
        f"CSD (lmax 8) from 30 directions at b = 1000, SNR 25, true tissue. {machine}.",
        "Made by `fornix bench tracking-speed`.",
        markdown([r for r in rows if "skipped" not in r], columns),
        "per_s: accepted streamlines per second, 20 to 250 mm long, with both ends in grey matter, from "
        "the difference of two runs, so that starting, reading and compiling do not count; the fastest "
        "of three rounds over all trackers. MRtrix3's step and angle are its defaults; Fornix and DIPY "
        "take 1 mm and 30 degrees (15 for ptt). The ratios of `ptt` with DIPY are to DIPY's ptt.",
        "## Streaming to disk",
        markdown(streamed, ("streamlines", "seconds", "per_s", "peak_mb", "file_mb")),
        "Probabilistic. peak_mb: of the whole process, libraries and data included; streamlines are not "
        f"kept in memory. Runs that ask for more room than the disk has ({_ROOM:,} bytes a streamline) are "
        "left out.",
    ]
    if skipped:
        blocks.insert(3, "Skipped: " + "; ".join(skipped))
    write_page(folder / "tracking_speed.md", "Speed of tracking", blocks)


if __name__ == "__main__":
    stream(sys.argv[1], *map(int, sys.argv[2:5]))
