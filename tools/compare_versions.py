"""Two versions of Fornix on the same three scans: are the numbers the same, and what does a run cost?

    python tools/compare_versions.py run OUT [--source SRC] [--data DATA]
    python tools/compare_versions.py diff OLD NEW [--tolerance 1e-6]
    python tools/compare_versions.py cost OLD_SRC NEW_SRC [--repeats 3] [--data DATA]

`run` makes maps, FODs, peaks and tractograms of a phantom, a whole brain and a multi-shell crop with the
code in SRC (the folder that holds the package `fornix`; the installed one if absent). `diff` compares two
such folders file by file. `cost` runs the main job with both in turn and prints time and peak memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

_SCANS = ("philips-achieva_b1000x32", "multishell_crop")
_THREADS = ["--threads", "2", "--seed", "0"]


def fornix(source: Path | None, *words: str | Path, quiet: bool = True) -> tuple[float, float]:
    """Run a command of one version; seconds and peak memory in GiB. Fails where the command fails."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    if source is not None:
        environment["PYTHONPATH"] = str(source)
    command = [sys.executable, "-m", "fornix", *map(str, words)]
    start = time.perf_counter()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL if quiet else None)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    scale = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, usage.ru_maxrss * scale / 2**30


def make(out: Path, source: Path | None, data: Path) -> None:
    """Every result that is compared, below `out`."""
    phantom = out / "phantom"
    fornix(
        source, "simulate", "-o", phantom, "--protocol", "demo", "--voxel-size", "4", "--seed", "0"
    )
    scans = {"phantom": phantom / "sub-phantom_dwi.nii.gz"}
    scans |= {name: data / "dwi" / name / "dwi.nii.gz" for name in _SCANS}
    for name, scan in scans.items():
        fornix(source, "run", scan, "-o", out / name / "run", "--streamlines", "20000", *_THREADS)
        fornix(
            source,
            "microstructure",
            scan,
            "-o",
            out / name / "classical",
            "--method",
            "classical",
            *_THREADS,
        )
        fornix(
            source,
            "microstructure",
            scan,
            "-o",
            out / name / "voxelwise",
            "--method",
            "voxelwise",
            "--quantiles",
            "0.05,0.95",
            *_THREADS,
        )
        fornix(source, "fod", scan, "-o", out / name / "csd", "--method", "csd", *_THREADS)
        fornix(
            source,
            "fod",
            scan,
            "-o",
            out / name / "adapted",
            "--method",
            "learned",
            "--adapt",
            *_THREADS,
        )
        print(f"{name}: done", flush=True)


def difference(old: Path, new: Path) -> float:
    """Largest difference of two files, relative to the largest value; inf where shapes differ."""
    if old.suffix == ".trx":
        a, b = _points(old), _points(new)
    else:
        a, b = (np.asarray(nib.load(p).dataobj, dtype=np.float64) for p in (old, new))
    if a.shape != b.shape:
        return float("inf")
    apart = np.abs(np.nan_to_num(a) - np.nan_to_num(b))
    return float(apart.max(initial=0) / max(np.abs(np.nan_to_num(a)).max(initial=0), 1e-12))


def _points(path: Path) -> np.ndarray:
    from trx.trx_file_memmap import load

    made = load(str(path))
    return np.array(made.streamlines._data, dtype=np.float64)


def compare(old: Path, new: Path, tolerance: float) -> int:
    """Print every file that differs; the number of such files."""
    wrong = same = 0
    for path in sorted([*old.rglob("*.nii.gz"), *old.rglob("*.trx")]):
        other = new / path.relative_to(old)
        apart = difference(path, other) if other.exists() else float("nan")
        if apart <= tolerance:
            same += 1
            continue
        wrong += 1
        print(f"{path.relative_to(old)}: {'missing' if np.isnan(apart) else f'{apart:.2e}'}")
    print(f"{same} files agree to {tolerance:g}, {wrong} do not")
    return wrong


def cost(old: Path, new: Path, data: Path, repeats: int) -> None:
    """The main job on the whole brain with both versions in turn: medians and ratios."""
    scan = data / "dwi" / _SCANS[0] / "dwi.nii.gz"
    seconds: dict[Path, list[float]] = {old: [], new: []}
    memory: dict[Path, list[float]] = {old: [], new: []}
    for _ in range(repeats):
        for source in (old, new):
            with tempfile.TemporaryDirectory() as folder:
                took, peak = fornix(
                    source, "run", scan, "-o", folder, "--streamlines", "20000", *_THREADS
                )
            seconds[source].append(took)
            memory[source].append(peak)
    for name, found, unit in (("time", seconds, "s"), ("peak memory", memory, "GiB")):
        a, b = (statistics.median(found[s]) for s in (old, new))
        print(f"{name}: old {a:.2f} {unit}, new {b:.2f} {unit}, new / old {b / a:.3f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("out", type=Path)
    run.add_argument("--source", type=Path)
    diff = commands.add_parser("diff")
    diff.add_argument("old", type=Path)
    diff.add_argument("new", type=Path)
    diff.add_argument("--tolerance", type=float, default=1e-6)
    costs = commands.add_parser("cost")
    costs.add_argument("old", type=Path)
    costs.add_argument("new", type=Path)
    costs.add_argument("--repeats", type=int, default=3)
    for one in (run, costs):
        one.add_argument("--data", type=Path, default=data)
    asked = parser.parse_args()
    if asked.command == "run":
        make(asked.out, asked.source, asked.data)
    elif asked.command == "diff":
        sys.exit(compare(asked.old, asked.new, asked.tolerance) > 0)
    else:
        cost(asked.old, asked.new, asked.data, asked.repeats)


if __name__ == "__main__":
    main()
