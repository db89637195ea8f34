"""`fornix bench commands`: whole commands, from start to last file, against MRtrix3's in turn.

Kernels are timed by `speed`; here a process is what a user waits for: imports, reading, mask, noise, fit,
writing. Every command of a round runs once, ours and its peer's one after the other, in a fresh process
with the same number of threads; the median of the rounds counts.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fornix.core.errors import FornixError
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

#: The scan of the project's goals, below FORNIX_TEST_DATA.
SCAN = "philips-achieva_b1000x32"
ROUNDS = 3

_COLUMNS = ("command", "seconds", "cpu_s", "peak_mb", "peer", "peer_seconds", "ratio", "goal")


@dataclass(frozen=True)
class Task:
    """One command. words: after `fornix`, SCAN and OUT filled in. peer: MRtrix3's command for the same
    work. needs: commands whose results must be in OUT before. goal: seconds on the machine of the goals."""

    name: str
    words: str
    peer: str = ""
    needs: tuple[str, ...] = ()
    goal: float | None = None


TASKS = (
    Task("info", "info SCAN", goal=2.5),
    Task(
        "microstructure --models dti --method wls",
        "microstructure SCAN -o OUT --models dti --method wls",
        "dwi2tensor SCAN OUT/tensor.nii.gz -fslgrad BVEC BVAL",
        goal=2.0,
    ),
    Task("microstructure --models dti", "microstructure SCAN -o OUT --models dti", goal=7.0),
    Task(
        "fod --method csd",
        "fod SCAN -o OUT --method csd",
        "dwi2fod csd SCAN RESPONSE OUT/fod.nii.gz -mask MASK -lmax 8 -fslgrad BVEC BVAL",
        goal=5.0,
    ),
    Task("fod", "fod SCAN -o OUT", goal=7.0),
    Task(
        "track --streamlines 20000",
        "track SCAN -o OUT --streamlines 20000",
        "tckgen FOD OUT/tracks.tck -seed_image MASK -mask MASK -select 20000",
        needs=("microstructure SCAN -o OUT --models dti", "fod SCAN -o OUT"),
        goal=5.0,
    ),
    Task("run", "run SCAN -o OUT", goal=55.0),
)


def run_commands(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Time every command and its peer, and write commands.csv and commands.md into `out`.

    The scan is `SCAN` in the folder that FORNIX_TEST_DATA names, or a simulated head where it is not
    there. quick: a small simulated head, one round, without the whole job. Returns the rows.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        scan = data / "dwi" / SCAN / "dwi.nii.gz"
        if quick or not scan.is_file():
            scan = _simulated(work, 5.0 if quick else 2.0, seed)
        names = _names(scan, work, threads)
        tasks = [t for t in TASKS if not (quick and t.name == "run")]
        ready = {t.needs: _prepared(t, names, work, threads) for t in tasks if t.needs}
        rounds = [
            [_row(task, names, ready.get(task.needs), work, threads) for task in tasks]
            for _ in range(1 if quick else ROUNDS)
        ]
        rows = [_median(same) for same in zip(*rounds)]
        rows.append(_import_time())
    write_csv(folder / "commands.csv", rows)
    blocks = [
        f"{scan.parent.name if scan.is_relative_to(data) else 'A simulated head'}, from the start of the "
        f"process to its end. {environment(threads, seed)}.",
        "Made by `fornix bench commands`.",
        markdown(rows, _COLUMNS),
        "`peer_seconds`: MRtrix3's command for the same work, run in turn; it is given a mask and a "
        "response, which ours makes itself, with the noise level. `ratio` is ours to the peer's. `cpu_s` "
        "counts all threads. `goal`: seconds on two quiet threads of the machine that the goals were "
        "set on.",
    ]
    write_page(folder / "commands.md", "Whole commands", blocks)
    return rows


def _names(scan: Path, work: Path, threads: int) -> dict[str, str]:
    """What SCAN, BVAL, … stand for; MASK, RESPONSE and FOD are made by MRtrix3 where it is installed."""
    base = str(scan).removesuffix(".nii.gz")
    names = {"SCAN": str(scan), "BVAL": f"{base}.bval", "BVEC": f"{base}.bvec"}
    if not _peers():
        return names
    names |= {k: str(work / v) for k, v in (("MASK", "mask.nii.gz"), ("RESPONSE", "response.txt"),
                                            ("FOD", "fod.nii.gz"))}  # fmt: skip
    for words in (
        "dwi2mask SCAN MASK -fslgrad BVEC BVAL",
        "dwi2response tournier SCAN RESPONSE -mask MASK -lmax 8 -fslgrad BVEC BVAL",
        "dwi2fod csd SCAN RESPONSE FOD -mask MASK -lmax 8 -fslgrad BVEC BVAL",
    ):
        _timed([*_filled(words, names), "-nthreads", str(threads), "-quiet", "-force"], work)
    return names


def _peers() -> bool:
    return all(shutil.which(name) for name in ("dwi2tensor", "dwi2fod", "dwi2response", "tckgen"))


def _simulated(work: Path, voxel_size: float, seed: int) -> Path:
    words = ["simulate", "-o", str(work / "scan"), "--protocol", "dti32"]
    _fornix([*words, "--voxel-size", str(voxel_size), "--seed", str(seed)], work)
    return work / "scan" / "sub-phantom_dwi.nii.gz"


def _prepared(task: Task, names: dict[str, str], work: Path, threads: int) -> Path:
    """A folder with the results that a task starts from."""
    folder = work / "ready"
    for words in task.needs:
        _fornix([*_filled(words, {**names, "OUT": str(folder)}), "--threads", str(threads)], work)
    return folder


def _row(task: Task, names: dict[str, str], ready: Path | None, work: Path, threads: int) -> Row:
    folder = work / "out"
    shutil.rmtree(folder, ignore_errors=True)
    if ready is None:
        folder.mkdir()
    else:
        shutil.copytree(ready, folder)
    names = {**names, "OUT": str(folder)}
    more = [] if task.name == "info" else ["--threads", str(threads)]
    seconds, cpu, peak = _fornix([*_filled(task.words, names), *more], work)
    row: Row = {"command": f"fornix {task.name}", "seconds": seconds, "cpu_s": cpu, "peak_mb": peak}
    if task.peer and _peers():
        words = [*_filled(task.peer, names), "-nthreads", str(threads), "-quiet", "-force"]
        row["peer"] = " ".join(task.peer.split()[: 2 if "dwi2fod" in task.peer else 1])
        row["peer_seconds"] = _timed(words, work)[0]
    row["goal"] = task.goal
    return row


def _median(rows: Sequence[Row]) -> Row:
    made = {k: statistics.median(r[k] for r in rows) if isinstance(v, float) else v
            for k, v in rows[0].items()}  # fmt: skip
    if "peer_seconds" in made:
        made["ratio"] = made["seconds"] / made["peer_seconds"]
    return made


def _import_time() -> Row:
    seconds, cpu, peak = _timed([sys.executable, "-c", "import fornix"], Path.cwd())
    return {
        "command": "import fornix",
        "seconds": seconds,
        "cpu_s": cpu,
        "peak_mb": peak,
        "goal": 1.0,
    }


def _filled(words: str, names: dict[str, str]) -> list[str]:
    """The words with SCAN, OUT/x and so on replaced."""
    out = []
    for word in words.split():
        head, _, rest = word.partition("/")
        out.append(names[head] + (f"/{rest}" if rest else "") if head in names else word)
    return out


def _fornix(words: Sequence[str], folder: Path) -> tuple[float, float, float]:
    return _timed([sys.executable, "-m", "fornix", *words], folder)


def _timed(words: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Seconds, seconds of processor time and peak memory (MB) of a process, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, *words], capture_output=True, text=True, cwd=folder
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise FornixError(f"the benchmark command {' '.join(words)!r} failed: {last[0]}")
    seconds, cpu, peak = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds, cpu, peak / (2**20 if sys.platform == "darwin" else 2**10)


#: A small process in between: the peak of one that is started here would count this one's memory.
_LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, used = os.wait4(child.pid, 0)
child.returncode = os.waitstatus_to_exitcode(status)
print(json.dumps([time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss]))
sys.exit(child.returncode)
"""
