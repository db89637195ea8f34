"""Ringing removed by Fornix and by MRtrix3, against images that never rang; and how long both take.

Simulated slices are truncated as a scanner does it: an object on a finer grid, of whose k-space the middle is
kept, on one side only as far as partial Fourier goes. True is the mean over each voxel. The other judge is
`trxscan`, whose k-space is read out line by line. The removal was not tuned on it; the limits by which
interpolation and partial Fourier are recognised were set looking at its spectra and those of real scans too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.io import load
from fornix.physics import simulate
from fornix.physics.anatomy import embedded
from fornix.preprocess.gibbs import remove_gibbs
from fornix_bench.judge.phantom import REFERENCE, HeadConfig, build_head
from fornix_bench.judge.scan import scan_head
from fornix_bench.table import Row

Array = NDArray[np.float64]

SHARES = (1.0, 0.875, 0.75, 0.625)
SNRS = (float("inf"), 40.0, 20.0, 10.0)
#: Draws of the noise, over whose mean the error apart from noise is told.
_DRAWS = 6
_SLICES, _VOLUMES = 6, 7
#: How much finer than the scan the object is.
_FINER = 2

_OURS = """
import sys, warnings
warnings.simplefilter("ignore")
from fornix.io import load, save_scan
from fornix.preprocess.gibbs import remove_gibbs
save_scan(remove_gibbs(load(sys.argv[1]), threads=int(sys.argv[3])), sys.argv[2])
"""


def rows(
    scan: Path, threads: int = 2, quick: bool = False, seed: int = 0, judge: bool = True
) -> list[Row]:
    """Error by simulator, partial Fourier and SNR of each method, then seconds for one scan.

    `rmse b0` and `rmse weighted` are over the brain, per cent of white matter's b0. The same with `mean` are
    of the expected image, that is with the noise's own share taken off: what ringing and its removal leave.

    Args:
        scan: A scan that was not interpolated, for the times.
        threads: Of both.
        quick: Two SNRs and two shares.
        seed: Of all chance.
        judge: Also `trxscan`, which takes minutes.
    """
    shares = SHARES[::2] if quick else SHARES
    made = _simulated(shares, SNRS[::2] if quick else SNRS, threads, seed)
    if judge:
        made += _judged(shares, SNRS[::2] if quick else SNRS, threads, seed)
    return made + _times(scan, threads)


def truncated(
    fine: Array, partial_fourier: float, sigma: float, rng: np.random.Generator, phase: Array
) -> NDArray[np.float32]:
    """Magnitude slices (S, n, m) of an object of square pixels (S, 2 n, 2 m) with a phase (2 n, 2 m).

    Lines along the last axis beyond the share that was measured are zero; sigma is that of white noise in one
    channel of an image from all of k-space.
    """
    _, wide, high = fine.shape
    n, m = wide // _FINER, high // _FINER
    f, g = np.fft.fftfreq(wide)[:, None], np.fft.fftfreq(high)[None]
    # Pixels are squares, and the voxel's centre lies between them.
    k = np.fft.fft2(fine * np.exp(1j * phase)) * np.sinc(f) * np.sinc(g)
    k = k * np.exp(1j * np.pi * (_FINER - 1) * (f + g)) / _FINER**2
    rows, lines = (np.fft.fftfreq(s, 1 / s).astype(int) for s in (n, m))
    k = k[:, rows][:, :, lines]
    noise = rng.standard_normal((2, *k.shape)) * sigma * np.sqrt(n * m)
    k = (k + noise[0] + 1j * noise[1]) * (lines >= -(2 * partial_fourier - 1) * m / 2)
    return np.abs(np.fft.ifft2(k)).astype(np.float32)


def _simulated(
    shares: tuple[float, ...], snrs: tuple[float, ...], threads: int, seed: int
) -> list[Row]:
    head = embedded(1.5, 3 + seed)
    chosen = np.linspace(0.3, 0.75, _SLICES) * head.mask.shape[2]
    part: dict[str, Any] = {
        f.name: np.ascontiguousarray(getattr(head, f.name)[:, :, chosen.astype(int)])
        for f in fields(head)
        if isinstance(getattr(head, f.name), np.ndarray) and getattr(head, f.name).ndim > 2
    }
    made = simulate(replace(head, **part, bundles={}), "dti30", snr=float("inf"), seed=seed)
    table = made.dwi.gradients.subset(range(_VOLUMES))
    # (V S, X, Y) with air around, as in a field of view.
    clean = np.moveaxis(made.clean[..., :_VOLUMES], (3, 2), (0, 1)).astype(np.float64)
    clean = np.pad(clean, ((0, 0), (0, 0), (14, 14), (14, 14)))
    inside = np.pad(np.moveaxis(made.mask, 2, 0), ((0, 0), (14, 14), (14, 14)))
    true, brain = _coarse(clean), _coarse(inside.astype(np.float64)) > 0.5
    x, y = (np.linspace(-1, 1, s) for s in clean.shape[2:])
    phase = 1.5 * x[:, None] ** 2 + 2 * y - 1.5 * x[:, None] * y + y**3
    rng = np.random.default_rng([seed, 5])
    found: list[Row] = []
    for share in shares:
        for snr in snrs:
            draws = []
            for _ in range(_DRAWS if np.isfinite(snr) else 1):
                flat = clean.reshape(-1, *clean.shape[2:])
                image = truncated(flat, share, head.reference / snr, rng, phase)
                draws.append(_scan(image.reshape(true.shape), table))
            label: Row = {"simulator": "fornix", "partial fourier": share, "snr": snr}
            found += _errors(label, draws, true, brain, head.reference, share, threads)
    return found


def _judged(
    shares: tuple[float, ...], snrs: tuple[float, ...], threads: int, seed: int
) -> list[Row]:
    head = build_head(HeadConfig(block=(999, 999, _SLICES), seed=seed))
    angle = np.linspace(0, np.pi, _VOLUMES - 1, endpoint=False)
    axes = np.stack([np.cos(angle), np.sin(angle), 0.3 * np.ones_like(angle)], 1)
    axes = np.concatenate([np.zeros((1, 3)), axes / np.linalg.norm(axes, axis=1)[:, None]])
    table = Gradients(np.r_[0.0, np.full(_VOLUMES - 1, 1000.0)], axes)
    true = np.zeros((*head.mask.shape, _VOLUMES))
    true[head.mask] = head.clean(table)
    true, brain = np.moveaxis(true, (3, 2), (0, 1)), np.moveaxis(head.mask, 2, 0)
    found: list[Row] = []
    for share in shares:
        there = replace(head, protocol=head.protocol.replace(partial_fourier=share))
        for snr in snrs:
            count = _DRAWS if np.isfinite(snr) else 1
            draws = [scan_head(there, table, snr, seed=seed + i).dwi for i in range(count)]
            label: Row = {"simulator": "trxscan", "partial fourier": share, "snr": snr}
            found += _errors(label, draws, true, brain, REFERENCE, share, threads)
    return found


def _errors(
    label: Row, draws: list[DWI], true: Array, brain: NDArray[np.bool_], reference: float,
    share: float, threads: int,
) -> list[Row]:  # fmt: skip
    ours = [
        remove_gibbs(d, partial_fourier=share, phase_axis=1, threads=threads).data for d in draws
    ]
    methods = {"none": [d.data for d in draws], "fornix": ours}
    if shutil.which("mrdegibbs"):
        methods["mrdegibbs"] = [mrdegibbs(d, threads)[0] for d in draws]
    found: list[Row] = []
    for name, images in methods.items():
        stack = np.stack([np.moveaxis(np.asarray(i, np.float64), (3, 2), (0, 1)) for i in images])
        stack, wanted = stack[:, :, brain], true[:, brain]
        squared = ((stack - wanted) ** 2).mean(0)
        own = stack.var(0, ddof=1) if len(stack) > 1 else np.zeros_like(squared)
        # The mean of few draws keeps some of the noise; its expected share is taken off.
        expected = (stack.mean(0) - wanted) ** 2 - own / len(stack)
        row: Row = {**label, "method": name}
        for kind, volumes in (("b0", slice(0, 1)), ("weighted", slice(1, None))):
            row[f"rmse {kind}"] = 100 * float(np.sqrt(squared[volumes].mean())) / reference
            left = max(float(expected[volumes].mean()), 0.0)
            row[f"mean rmse {kind}"] = 100 * float(np.sqrt(left)) / reference
        found.append(row)
    return found


def mrdegibbs(dwi: DWI, threads: int) -> tuple[NDArray[np.float32], float]:
    """MRtrix3's result (X, Y, Z, N) and its seconds, files uncompressed."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "in.nii", Path(folder) / "out.nii"
        nib.save(nib.Nifti1Image(np.asarray(dwi.data), dwi.affine), before)
        seconds = _run(["mrdegibbs", str(before), str(after), "-quiet", "-nthreads", str(threads)])
        return np.asarray(nib.load(after).dataobj, dtype=np.float32), seconds


def _times(scan: Path, threads: int) -> list[Row]:
    """Seconds in memory and from file to file, the best of two."""
    dwi = load(scan)
    with use_threads(threads):
        remove_gibbs(dwi.subset([0]), threads=threads)  # compiles
        alone = min(_timed(lambda: remove_gibbs(dwi, threads=threads)) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out.nii.gz")
        command = [sys.executable, "-c", _OURS, str(scan), out, str(threads)]
        both = min(_run(command) for _ in range(2))
        found: list[Row] = [{"method": "fornix", "seconds": alone, "seconds with files": both}]
        if shutil.which("mrdegibbs"):
            command = ["mrdegibbs", str(scan), out, "-force", "-quiet", "-nthreads", str(threads)]
            theirs: Row = {"method": "mrdegibbs", "seconds": mrdegibbs(dwi, threads)[1]}
            found.append({**theirs, "seconds with files": min(_run(command) for _ in range(2))})
    return [{"simulator": f"time, {scan.parent.name}", **row} for row in found]


def _timed(work: object) -> float:
    start = time.perf_counter()
    assert callable(work)
    work()
    return time.perf_counter() - start


def _run(command: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise FornixError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - start


def _coarse(fine: Array) -> Array:
    *rest, x, y = fine.shape
    cells = fine.reshape(*rest, x // _FINER, _FINER, y // _FINER, _FINER)
    return np.asarray(cells.mean((-3, -1)))


def _scan(image: NDArray[np.float32], table: Gradients) -> DWI:
    """(V, S, n, m) as a scan, slices along its third axis."""
    return DWI(np.moveaxis(image, (0, 1), (3, 2)).copy(), table, np.diag([3.0, 3.0, 3.0, 1.0]))
