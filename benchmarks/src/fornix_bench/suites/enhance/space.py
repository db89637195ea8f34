"""Smaller voxels on simulated heads: signals, FA, orientations, thin bundles, the error's spread."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import Gradients
from fornix.enhance.deconvolution import deconvolved
from fornix.enhance.noise import denoised_with_level
from fornix.enhance.space import sharpen
from fornix.physics.anatomy import Anatomy
from fornix.physics.fod_truth import true_axes
from fornix.physics.point_spread import Grid
from fornix.physics.protocol import shells
from fornix.training.data.fine_heads import THIN, fine_head
from fornix_bench.judge.phantom import REFERENCE, HeadConfig, build_head
from fornix_bench.peers.upsampling import cubic, lanczos
from fornix_bench.suites.enhance.heads import Array, Measured, block_of, measured, measured_signals
from fornix_bench.suites.enhance.scores import Target, fibres, scored, target_of
from fornix_bench.table import Row

#: Heads never trained on; those of training are numbered 1 to 5, of the calibration 901 and 902.
HEADS = (911,)
#: Small voxels, mm; edge of the block that is looked at, and of what is left out at its border, in them.
FINE, BLOCK, BORDER = 1.25, 60, 6
#: Voxels as measured, and SNR of white matter at b = 0.
CASES = (
    ((2.5, 2.5, 2.5), 20.0), ((2.5, 2.5, 2.5), 10.0), ((2.5, 2.5, 2.5), 40.0),
    ((1.25, 1.25, 3.125), 20.0), ((1.875, 1.875, 1.875), 20.0), ((3.75, 3.75, 3.75), 20.0),
)  # fmt: skip
#: The rival gets whichever of these has the least error of weighted signals against the truth.
STRENGTHS = (0.01, 0.03, 0.1, 0.2)


def data() -> Path:
    """Folder of anatomy and real scans."""
    return Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))


def protocol() -> Gradients:
    """Two b0s and 30 directions at b = 2000."""
    return shells(2, (2000, 30))


def space(quick: bool, seed: int) -> list[Row]:
    """Own simulator, by measured voxel, SNR and method."""
    rows: list[Row] = []
    for number in HEADS:
        whole = fine_head(data() / "anatomy", number + seed, voxel_size=FINE, lesions=8)
        head = block_of(whole, BLOCK, _centre(whole))
        for size, snr in CASES[:1] if quick else CASES:
            scan = measured(head, protocol(), size, snr, number + seed)
            target = _target(scan, head, number + seed)
            about = {"head": number, "measured": _words(size), "SNR": snr}
            rows += [
                {**about, **row} for row in _methods(scan, target, head.lesions, quick, REFERENCE)
            ]
    return rows


def thin(quick: bool, seed: int) -> list[Row]:
    """Orientations in the fornix and the anterior commissure, by method."""
    rows: list[Row] = []
    for number in HEADS:
        whole = fine_head(data() / "anatomy", number + seed, voxel_size=FINE, lesions=0)
        for name in THIN:
            places = whole.bundles[name].mask
            middle = np.argwhere(places).mean(0)
            head = block_of(whole, BLOCK, middle)
            start = np.round((head.affine[:3, 3] - whole.affine[:3, 3]) / FINE).astype(int)
            start *= np.sign(np.diag(whole.affine[:3, :3])).astype(int)
            box = tuple(slice(a, a + n) for a, n in zip(start, head.grid))
            scan = measured(head, protocol(), (2.5, 2.5, 2.5), 20.0, number + seed)
            target = _target(scan, head, number + seed, places[box])
            if not len(target.white):
                continue
            for method, found, seconds, _ in _found(scan, quick):
                told = fibres(found[target.inside][target.white], target)
                rows.append(
                    {
                        "head": number, "tract": name, "voxels": len(target.white), "method": method,
                        **told, "seconds": seconds,
                    }
                )  # fmt: skip
    return rows


def second(quick: bool, seed: int) -> list[Row]:
    """The head of `trxscan`: signals of its own in small voxels, measured in large ones."""
    config = HeadConfig(voxel_size=FINE, block=(BLOCK, BLOCK, BLOCK), seed=905 + seed)
    head = build_head(config, data())
    table = protocol()
    clean = np.zeros((*head.mask.shape, len(table)), np.float32)
    clean[head.mask] = head.clean(table)
    white = np.zeros(head.mask.shape, np.float32)
    white[head.mask] = head.fractions[:, 0]
    rows: list[Row] = []
    for size, snr in (CASES[0],) if quick else (CASES[0], CASES[1], CASES[3]):
        scan = measured_signals(
            clean, head.mask, head.affine, table, size, REFERENCE, snr, seed + 1
        )
        inside = _inner(scan.mask)
        target = target_of(scan.truth, table, inside, REFERENCE, white > 0.6, seed=seed)
        about = {"head": "trxscan", "measured": _words(size), "SNR": snr}
        none = np.zeros(head.mask.shape, np.uint8)
        rows += [{**about, **row} for row in _methods(scan, target, none, quick, REFERENCE)]
    return rows


def _methods(
    scan: Measured, target: Target, lesions: NDArray[np.uint8], quick: bool, reference: float
) -> Iterator[Row]:
    flat = _flat(scan.truth, target.inside)
    for method, found, seconds, std in _found(scan, quick):
        row: Row = {"method": method, **scored(found, target), "seconds": seconds}
        row["invented"] = _invented(found, scan.truth, flat) / reference
        if std is not None:
            row |= _spread(found, std, scan.truth, target, lesions)
        yield row


def _found(scan: Measured, quick: bool) -> Iterator[tuple[str, Array, float, Array | None]]:
    """Every method's signals in small voxels, seconds, and standard deviation where it has one."""
    coarse = Grid(scan.dwi.grid, scan.dwi.affine)
    raw, unit = np.asarray(scan.dwi.data), np.float32(REFERENCE)
    start = time.perf_counter()
    clean, _ = denoised_with_level(scan.dwi)
    took = time.perf_counter() - start
    for words, image, more in (("", raw, 0.0), (" of the denoised", clean, took)):
        start = time.perf_counter()
        first = cubic(image, coarse, scan.fine)
        seconds = time.perf_counter() - start
        yield f"cubic{words}", first, seconds + more, None
        if not words:
            start = time.perf_counter()
            found = lanczos(image, coarse, scan.fine)
            yield "Lanczos", found, time.perf_counter() - start, None
        best, least, seconds = first, np.inf, 0.0
        for strength in STRENGTHS[1:3] if quick else STRENGTHS:
            start = time.perf_counter()
            made = deconvolved(
                (image / unit).astype(np.float32),
                scan.operator,
                first / unit,
                strength / (3 if words else 1),
            )
            seconds = time.perf_counter() - start
            wrong = float(((made * unit - scan.truth)[scan.mask][:, 2:] ** 2).mean())
            if wrong < least:
                best, least = made * unit, wrong
        yield f"deconvolution{words}", best, seconds + more, None
    for words, network in (("Fornix without the network", False), ("Fornix", True)):
        start = time.perf_counter()
        enhanced = sharpen(scan.dwi, FINE, network=network)
        seconds = time.perf_counter() - start
        yield (
            words,
            np.asarray(enhanced.dwi.data),
            seconds,
            np.asarray(enhanced.std) if network else None,
        )


def _spread(
    found: Array, std: Array, truth: Array, target: Target, lesions: NDArray[np.uint8]
) -> Row:
    """Coverage of 90% intervals, and how the spread is in lesions against other white matter."""
    z = np.abs(found - truth)[target.inside] / np.maximum(std[target.inside], 1e-6)
    b0 = target.gradients.b0_mask
    row: Row = {
        "90% b0": float((z[:, b0] < 1.645).mean()), "90% weighted": float((z[:, ~b0] < 1.645).mean()),
    }  # fmt: skip
    sick = (lesions > 0) & target.inside
    if sick.sum() > 50:
        well = target.inside & (lesions == 0)
        white = np.zeros_like(well)
        white[target.inside] = target.fa > 0.3
        weighted = std[..., ~b0].mean(-1)
        row["std in lesions"] = float(weighted[sick].mean() / weighted[well & white].mean())
        wrong = np.sqrt(((found - truth)[..., ~b0] ** 2).mean(-1))
        row["error in lesions"] = float(wrong[sick].mean() / wrong[well & white].mean())
    return row


def _flat(truth: Array, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels whose neighbours are truly like them: the tenth with the least slopes of the mean."""
    mean = truth.mean(-1)
    slope = np.sqrt(sum(g**2 for g in np.gradient(mean)))
    return inside & (slope <= np.quantile(slope[inside], 0.1))


def _invented(found: Array, truth: Array, flat: NDArray[np.bool_]) -> float:
    """Slopes of the mean error over volumes, which has hardly any noise, where the truth has none."""
    wrong = (found - truth).mean(-1)
    return float(np.sqrt(np.mean(sum(g[flat] ** 2 for g in np.gradient(wrong)))))


def _target(
    scan: Measured, head: Anatomy, seed: int, fibrous: NDArray[np.bool_] | None = None
) -> Target:
    axes = np.zeros((*head.grid, 3, 3), np.float32)
    real = np.zeros((*head.grid, 3), bool)
    found, exist = true_axes(head.tissue())
    axes[head.mask], real[head.mask] = found.numpy(), exist.numpy()
    where = head.wm > 0.6 if fibrous is None else fibrous
    return target_of(
        scan.truth, scan.dwi.gradients, _inner(scan.mask), head.reference, where & real.any(-1), axes, real,
        seed,
    )  # fmt: skip


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    made = np.zeros_like(mask)
    part = (slice(BORDER, -BORDER),) * 3
    made[part] = mask[part]
    return made


def _centre(head: Anatomy) -> NDArray[np.float64]:
    """A place a third of the way from the middle to the left: white matter, ventricle and cortex."""
    middle = np.argwhere(head.mask).mean(0)
    return np.asarray(middle + [0.0, -8.0, 6.0])


def _words(size: tuple[float, float, float]) -> str:
    return " x ".join(f"{v:g}" for v in size)
