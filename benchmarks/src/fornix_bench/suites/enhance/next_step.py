"""What enhancement does for the next step: orientations with Fornix's network, with and without it."""

from __future__ import annotations

import numpy as np

from fornix.core.dwi import DWI
from fornix.enhance.space import sharpen
from fornix.estimators.fod import fod
from fornix.models.peak_matching import match
from fornix.physics.fod_truth import true_axes, true_fod
from fornix.physics.point_spread import Grid, along, centres, interpolator
from fornix.training.data.fine_heads import fine_head
from fornix_bench.suites.enhance.heads import block_of, measured
from fornix_bench.suites.enhance.space import BLOCK, BORDER, FINE, HEADS, _centre, data, protocol
from fornix_bench.table import Row

_MISSED = 45.0


def next_step(quick: bool, seed: int) -> list[Row]:
    """Orientations in small voxels: the measured voxels' interpolated, and the enhanced scan's own."""
    number = HEADS[0] + seed
    whole = fine_head(data() / "anatomy", number, voxel_size=FINE, lesions=8)
    head = block_of(whole, BLOCK, _centre(whole))
    rows: list[Row] = []
    inner = np.zeros(head.grid, bool)
    inner[(slice(BORDER, -BORDER),) * 3] = True
    tissue = head.tissue()
    axes, real = np.zeros((*head.grid, 3, 3), np.float32), np.zeros((*head.grid, 3), bool)
    truth = np.zeros((*head.grid, 45), np.float32)
    found_axes, exist = true_axes(tissue)
    axes[head.mask], real[head.mask] = found_axes.numpy(), exist.numpy()
    truth[head.mask] = true_fod(tissue).numpy()
    sizes = ((2.5, 2.5, 2.5),) if quick else ((2.5, 2.5, 2.5), (1.25, 1.25, 3.125))
    for size in sizes:
        scan = measured(head, protocol(), size, 20.0, number)
        coarse = Grid(scan.dwi.grid, scan.dwi.affine)
        step = scan.fine.voxel_size / coarse.voxel_size
        linear = tuple(
            interpolator(centres(n, m, s), n)
            for n, m, s in zip(coarse.shape, scan.fine.shape, step)
        )
        where = scan.mask & inner & (head.wm > 0.6) & real.any(-1)
        for method in ("voxelwise", "csd"):
            maps = fod(scan.dwi, method=method)
            large = along(linear, np.asarray(maps["fod"].data))
            small = fod(_as_scan(sharpen(scan.dwi, FINE).dwi), method=method)
            for label, values in (("measured", large), ("enhanced", np.asarray(small["fod"].data))):
                rows.append(
                    {
                        "measured": " x ".join(f"{v:g}" for v in size), "orientations": method, "from": label,
                        **_scores(values[where], truth[where], axes[where], real[where]),
                    }
                )  # fmt: skip
    return rows


def _as_scan(dwi: DWI) -> DWI:
    return dwi.with_(data=np.asarray(dwi.data))


def _scores(found: np.ndarray, truth: np.ndarray, axes: np.ndarray, real: np.ndarray) -> Row:
    from fornix.models.peaks import find_peaks

    count = min(found.shape[1], truth.shape[1])
    x, y = found[:, 1:count], truth[:, 1:count]
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(truth[:, 1:], axis=1)
    correlation = (x * y).sum(1) / np.maximum(size, 1e-12)
    peaks = find_peaks(found, 3, absolute=0.1)
    angle, partner = match(peaks, axes, real)
    missed = np.where(np.isfinite(angle), angle, _MISSED)
    extra = (np.linalg.norm(peaks, axis=-1) > 0).sum(1) - (partner >= 0).sum(1)
    return {
        "FOD": 1 - float(correlation.mean()), "peaks": float(missed[real].mean()),
        "spurious": float(extra.mean()), "voxels": len(found),
    }  # fmt: skip
