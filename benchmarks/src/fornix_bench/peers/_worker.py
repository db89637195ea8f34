"""One timed task in a fresh process, so that peak memory and threads are the task's own.

`python -m fornix_bench.peers._worker FOLDER TASK VOXELS THREADS` prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix_bench.peers import microstructure as peers

WARM_UP = 64

PEERS: dict[str, peers.Peer] = {
    "DIPY tensor WLS": peers.dipy_tensor("WLS"),
    "DIPY tensor NLLS": peers.dipy_tensor("NLLS"),
    "DIPY kurtosis WLS": peers.dipy_kurtosis,
    "MRtrix3 dwi2tensor": peers.mrtrix_tensor,
    "AMICO NODDI": peers.amico_noddi,
}


def main(folder: str, task: str, voxels: int, threads: int) -> dict[str, object]:
    """Run `task` on the first `voxels` voxels of the benchmark's file."""
    place = Path(folder)
    gradients = Gradients.from_mrtrix(np.loadtxt(place / "grad.txt"))
    signals = np.load(place / "signals.npy", mmap_mode="r")[:voxels]
    sigma = float(np.loadtxt(place / "sigma.txt"))
    children = ChildMemory()
    if task.startswith("MRtrix3"):
        children.start()
    if task in PEERS:
        data = np.array(signals)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                PEERS[task](data[:WARM_UP], gradients, sigma, threads)
                seconds = PEERS[task](data, gradients, sigma, threads).seconds
        except peers.PeerMissing as missing:
            return {"skipped": str(missing)}
    else:
        seconds = _ours(task, np.asarray(signals), gradients, sigma, threads)
    peak = children.peak if task.startswith("MRtrix3") else peak_memory()
    return {"seconds": seconds, "peak_mb": peak / 1e6, "voxels": len(signals)}


def peak_memory() -> int:
    """Largest resident size of this process so far, bytes.

    Not `ru_maxrss`, which on Linux starts at the size of the process that forked this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class ChildMemory(threading.Thread):
    """Samples the resident size of child processes every 5 ms; `peak` in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        me = psutil.Process()
        while True:
            for child in me.children():
                with contextlib.suppress(psutil.Error):
                    if child.exe() != sys.executable and "python" not in child.name():
                        self.peak = max(self.peak, child.memory_info().rss)
            time.sleep(0.005)


def _ours(
    task: str, signals: np.ndarray, gradients: Gradients, sigma: float, threads: int
) -> float:
    """`Fornix MODEL[+MODEL…] METHOD [std] [sigma]`: the stage, from a scan in memory to maps."""
    from fornix.estimators.microstructure import microstructure

    if task == "Fornix physics signal":
        return _physics(len(signals), gradients, threads)
    words = task.split()
    models = tuple(words[1].split("+"))
    dwi = _scan(signals, gradients, compact=len(models) > 1)
    run = partial(
        microstructure,
        models=models,
        method=words[2],
        std="std" in words,
        threads=threads,
        sigma=sigma if "sigma" in words else None,
        dti_bmax=None,
    )
    few = _scan(signals[:WARM_UP], gradients, compact=len(models) > 1)
    run(few)
    began = time.perf_counter()
    run(dwi)
    return time.perf_counter() - began


def _scan(signals: np.ndarray, gradients: Gradients, compact: bool) -> DWI:
    """The voxels in a row, or `compact`: in a cube, as a brain is, for methods that see neighbours."""
    if not compact:
        return DWI(signals[:, None, None], gradients, np.eye(4))
    side = int(np.ceil(len(signals) ** (1 / 3)))
    mask = (np.arange(side**3) < len(signals)).reshape(side, side, side)
    data = np.zeros((side, side, side, len(gradients)), dtype=np.float32)
    data[mask] = signals
    return DWI(data, gradients, np.eye(4), mask=mask)


def _physics(voxels: int, gradients: Gradients, threads: int) -> float:
    """The noise-free signal of random tissue of three populations, float32."""
    from fornix.core.compute import use_threads
    from fornix.physics import random_tissue, signal

    tissue = random_tissue(voxels, seed=1)
    with use_threads(threads):
        signal(tissue[slice(0, WARM_UP)], gradients)
        began = time.perf_counter()
        signal(tissue, gradients)
        return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5]))))
