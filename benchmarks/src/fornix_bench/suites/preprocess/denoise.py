"""Denoising by Fornix and by others: error against the noise-free scan, bias of maps, residuals, time.

True is the same simulated scan without noise. `trxscan` is the judge on which nothing was tuned: its k-space
is read out line by line. Real scans have no truth; what a method took away there should hold no anatomy.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.io import load
from fornix.physics import simulate
from fornix.physics.anatomy import embedded
from fornix.physics.protocol import shells
from fornix.preprocess import denoise, estimate_noise
from fornix.preprocess.qspace_denoise import expected_magnitude
from fornix_bench.judge.phantom import REFERENCE, HeadConfig, build_head
from fornix_bench.judge.scan import scan_head
from fornix_bench.table import Row

Method = Callable[[DWI, int], NDArray[np.float32]]

PROTOCOLS = {13: ((1000.0, 12),), 33: ((1000.0, 32),), 96: ((1000.0, 30), (2000.0, 60))}
SNRS = (8.0, 15.0, 30.0)
#: Methods whose results are signals and not magnitudes.
_UNBIASED = ("qspace", "nlmeans")
#: Voxels around the middle of the head that are simulated.
_BLOCK = (48, 56, 16)


def rows(
    scans: list[Path], threads: int = 2, quick: bool = False, seed: int = 0, judge: bool = True
) -> list[Row]:
    """Simulated scans, then real ones.

    Columns: `rmse`, and `shift` of the mean of weighted volumes, over the noise level, in the brain; `fa` and
    `md` (mm²/s) the mean error of maps by weighted least squares; `edges` the correlation of the residual's
    local size with edges of the mean image, `edges, mean` that of its mean over volumes; seconds.

    Args:
        scans: Real scans.
        threads: Of all methods.
        quick: 33 volumes only, at one SNR.
        seed: Of all chance.
        judge: Also `trxscan`.
    """
    counts = (33,) if quick else tuple(PROTOCOLS)
    snrs = SNRS[1:2] if quick else SNRS
    made: list[Row] = []
    with use_threads(threads):
        for count in counts:
            made += _simulated(count, snrs, threads, seed)
            if judge:
                made += _judged(count, snrs, threads, seed)
        for path in scans:
            made += _real(path, threads)
    return made


def methods() -> dict[str, Method]:
    """What is compared: signals (X, Y, Z, N) of a scan with mask and noise level."""
    found: dict[str, Method] = {"none": lambda dwi, threads: np.asarray(dwi.data)}
    for name in ("qspace", "mppca", "patch2self"):
        found[name] = _ours(name)
    found["nlmeans"] = _nlmeans
    if shutil.which("dwidenoise"):
        found["dwidenoise"] = dwidenoise
    return found


def dwidenoise(dwi: DWI, threads: int) -> NDArray[np.float32]:
    """MRtrix3's MP-PCA, inside the mask where there is one."""
    with tempfile.TemporaryDirectory() as folder:
        before, after, mask = (str(Path(folder) / n) for n in ("a.nii", "b.nii", "m.nii"))
        nib.save(nib.Nifti1Image(np.asarray(dwi.data), dwi.affine), before)
        command = ["dwidenoise", before, after, "-quiet", "-nthreads", str(threads)]
        if dwi.mask is not None:
            nib.save(nib.Nifti1Image(dwi.mask.astype(np.uint8), dwi.affine), mask)
            command += ["-mask", mask]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise FornixError(f"dwidenoise failed: {done.stderr.strip()[-300:]}")
        return np.asarray(nib.load(after).dataobj, dtype=np.float32)


def _ours(name: str) -> Method:
    def run(dwi: DWI, threads: int) -> NDArray[np.float32]:
        return np.asarray(denoise(dwi, method=name, threads=threads).data)

    return run


def _nlmeans(dwi: DWI, threads: int) -> NDArray[np.float32]:
    from dipy.denoise.nlmeans import nlmeans

    level = float(np.median(np.broadcast_to(np.asarray(dwi.sigma), dwi.grid)[dwi.brain()]))
    made = nlmeans(
        np.asarray(dwi.data, dtype=np.float64), np.full(dwi.data.shape[3], level), mask=dwi.mask,
        patch_radius=1, block_radius=2, rician=True, num_threads=threads,
    )  # fmt: skip
    return np.asarray(made, dtype=np.float32)


def _simulated(count: int, snrs: tuple[float, ...], threads: int, seed: int) -> list[Row]:
    head = embedded(2.5, 7 + seed)
    middle = np.argwhere(head.mask).mean(0).astype(int)
    window = tuple(slice(max(c - n // 2, 0), c - n // 2 + n) for c, n in zip(middle, _BLOCK))
    part: dict[str, Any] = {
        f.name: np.ascontiguousarray(getattr(head, f.name)[window])
        for f in fields(head)
        if isinstance(getattr(head, f.name), np.ndarray) and getattr(head, f.name).ndim > 2
    }
    block = replace(head, **part, bundles={})
    found: list[Row] = []
    for snr in snrs:
        made = simulate(block, shells(_b0s(count), *PROTOCOLS[count]), snr=snr, seed=seed)
        dwi = made.dwi.with_(mask=made.mask)
        label: Row = {"scan": "fornix", "volumes": count, "snr": snr}
        level = float(np.mean(np.asarray(made.sigma)))
        found += _against_truth(label, dwi, made.clean, level, threads)
    return found


def _judged(count: int, snrs: tuple[float, ...], threads: int, seed: int) -> list[Row]:
    head = build_head(HeadConfig(block=_BLOCK, seed=seed))
    table: Gradients = shells(_b0s(count), *PROTOCOLS[count])
    true = np.asarray(scan_head(head, table, float("inf"), seed=seed).dwi.data)
    found: list[Row] = []
    for snr in snrs:
        dwi = scan_head(head, table, snr, seed=seed).dwi
        label: Row = {"scan": "trxscan", "volumes": count, "snr": snr}
        found += _against_truth(label, dwi, true, REFERENCE / snr, threads)
    return found


def _b0s(count: int) -> int:
    return count - sum(n for _, n in PROTOCOLS[count])


def _against_truth(
    label: Row, dwi: DWI, true: NDArray[np.float32], level: float, threads: int
) -> list[Row]:
    known = estimate_noise(dwi)
    inside, weighted = dwi.brain(), ~dwi.gradients.b0_mask
    fa, md = _maps(dwi, true)
    found: list[Row] = []
    for name, run in methods().items():
        start = time.perf_counter()
        made = run(known, threads)
        seconds = time.perf_counter() - start
        error = (made - true)[inside] / level
        own_fa, own_md = _maps(dwi, made)
        found.append({
            **label, "method": name, "rmse": float(np.sqrt((error**2).mean())),
            "shift": float(error[:, weighted].mean()), "fa": float((own_fa - fa).mean()),
            "md": float((own_md - md).mean()), "seconds": seconds,
        })  # fmt: skip
    return found


def _maps(
    dwi: DWI, signals: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """FA and MD of the brain's voxels."""
    scan = dwi.with_(data=np.maximum(signals, 0), sigma=None)
    low = scan.subset(scan.gradients.bvals < 1500)
    maps = microstructure(estimate_noise(low), models=("dti",), method="wls")
    return tuple(np.nan_to_num(maps[n].data[dwi.brain()]) for n in ("fa", "md"))  # type: ignore[return-value]


def _real(path: Path, threads: int) -> list[Row]:
    dwi = estimate_noise(brain_mask(load(path)))
    sigma = np.broadcast_to(np.asarray(dwi.sigma), dwi.grid)
    inner = ndimage.binary_erosion(dwi.brain(), iterations=2)
    weighted = ~dwi.gradients.b0_mask
    edges = ndimage.gaussian_gradient_magnitude(dwi.mean_dwi(), 0.7)
    found: list[Row] = []
    for name, run in list(methods().items())[1:]:
        start = time.perf_counter()
        made = run(dwi, threads)
        seconds = time.perf_counter() - start
        # What takes the Rician bias off is compared with the magnitude that it means.
        shown = expected_magnitude(made, sigma[..., None]) if name in _UNBIASED else made
        left = ((np.asarray(dwi.data) - shown) / sigma[..., None])[..., weighted]
        left = left - np.median(left[inner], 0)
        size = np.sqrt(ndimage.gaussian_filter((left**2).mean(3), 1.0))
        mean = np.abs(ndimage.gaussian_filter(left.mean(3), 0.7))
        row: Row = {"scan": path.parent.name, "volumes": len(dwi.gradients), "method": name}
        row["edges"] = float(np.corrcoef(size[inner], edges[inner])[0, 1])
        row["edges, mean"] = float(np.corrcoef(mean[inner], edges[inner])[0, 1])
        found.append({**row, "seconds": seconds})
    return found
