"""Measures of a scan by volume and slice, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import blocks
from fornix.core.dwi import DWI
from fornix.core.signals import Signals
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.geometry.alignment import Aligned, Level, align
from fornix.preprocess.geometry.correction import too_little
from fornix.preprocess.geometry.transform import displacement
from fornix.preprocess.noise import snr
from fornix.preprocess.quality.agreement import Agreement, agreement
from fornix.preprocess.quality.ghosts import ghost_share
from fornix.preprocess.quality.spikes import SPIKE, spike_power

Array = NDArray[np.float64]

#: Passes of the alignment where it is only looked at, not corrected by.
LEVELS = (Level(12, 8000, 5, 0, 1.0), Level(6, 16000, 6, 4, 0.3), Level(0, 30000, 3, 4, 0.1))
#: mm at which a turn counts in the framewise displacement (Power et al., NeuroImage 2012).
_RADIUS = 50.0


@dataclass(frozen=True, eq=False)
class Quality:
    """What was measured.

    Attributes:
        volumes: Columns of a table with one row a volume.
        slices: (N, slices) deviations by which a slice's signal is above its prediction.
        lost: (N, slices) bool, slices that lost or gained signal.
        summary: Of the whole scan, under the names of eddy_quad and MRIQC where they measure the same.
        carpet: (voxels, N), see `Agreement`.
    """

    volumes: Mapping[str, list[float | int | None]]
    slices: Array
    lost: NDArray[np.bool_]
    summary: Mapping[str, object]
    carpet: NDArray[np.float32]


def measure_quality(
    dwi: DWI, acquisition: Acquisition | None = None, aligned: Aligned | None = None
) -> Quality:
    """Measure a scan as it was taken.

    Args:
        dwi: The raw scan with its mask and noise level.
        acquisition: What is known of how it was taken; what the sidecar says if absent.
        aligned: Poses and lost slices, where they are known already; found here if absent.
    """
    acquisition = acquisition or Acquisition.of(dwi)
    axis = acquisition.slice_axis
    if aligned is None and not too_little(dwi):
        aligned = align(dwi, acquisition.encoding, slice_axis=axis, levels=LEVELS)
    spikes = spike_power(dwi, axis) > SPIKE
    scores = np.zeros(spikes.shape) if aligned is None else aligned.scores
    lost = np.zeros(spikes.shape, bool) if aligned is None else aligned.lost
    level = snr_by_volume(dwi)
    alike = agreement(dwi, 1 / max(float(np.nanmedian(level[_b0s(dwi)])), 1.0))
    volumes = _table(dwi, alike, level, aligned, lost, spikes)
    ghost = None if acquisition.encoding is None else ghost_share(dwi, acquisition.encoding.axis)
    there = dwi.brain().any(tuple(a for a in range(3) if a != axis))
    summary = _summary(dwi, alike, level, aligned, lost[:, there], spikes[:, there], ghost)
    return Quality(volumes, scores, lost, summary, alike.carpet)


def snr_by_volume(dwi: DWI) -> Array:
    """(N,) median over the brain of the signal over the noise level."""
    brain = dwi.brain()
    sigma = np.broadcast_to(np.asarray(dwi.sigma), dwi.grid)
    noise = np.maximum(sigma[brain], 1e-12)[:, None]
    found: list[float] = []
    for lot in blocks(len(dwi.gradients), 16):
        signals = Signals(dwi, np.flatnonzero(brain), np.arange(lot.start, lot.stop))[:]
        found += np.median(signals / noise, axis=0).tolist()
    return np.array(found)


def _b0s(dwi: DWI) -> NDArray[np.bool_]:
    return dwi.gradients.b0_mask if dwi.gradients.b0_mask.any() else ~dwi.gradients.b0_mask


def _moves(aligned: Aligned) -> tuple[Array, Array, Array]:
    """(N,) displacement from the head at rest and from the volume before, and the sum of changes, mm."""
    geometry = aligned.geometry
    still = np.tile(np.eye(4), (len(geometry.poses), 1, 1))
    far = displacement(still, geometry.poses, geometry.centre)
    before = np.r_[geometry.poses[:1], geometry.poses[:-1]]
    step = displacement(before, geometry.poses, geometry.centre)
    values = np.c_[geometry.translations, geometry.angles * _RADIUS]
    change = np.abs(np.diff(values, axis=0, prepend=values[:1])).sum(1)
    return far, step, change


def _table(
    dwi: DWI, alike: Agreement, level: Array, aligned: Aligned | None, lost: NDArray[np.bool_],
    spikes: NDArray[np.bool_],
) -> dict[str, list[float | int | None]]:  # fmt: skip
    table = dwi.gradients
    columns: dict[str, list[float | int | None]] = {
        "volume": [int(v) for v in table.numbers],
        "b": [round(float(b), 1) for b in table.bvals],
        "snr": _plain(level),
        "neighbour_correlation": _plain(alike.neighbour),
    }
    if aligned is not None:
        far, step, change = _moves(aligned)
        columns |= {
            "motion_abs": _plain(far), "motion_rel": _plain(step), "framewise_displacement": _plain(change),
            "outlier_slices": [int(n) for n in lost.sum(1)], "residual": _plain(aligned.residual),
        }  # fmt: skip
    columns["spike_slices"] = [int(n) for n in spikes.sum(1)]
    return columns


def _summary(
    dwi: DWI, alike: Agreement, level: Array, aligned: Aligned | None, lost: NDArray[np.bool_],
    spikes: NDArray[np.bool_], ghost: float | None,
) -> dict[str, object]:  # fmt: skip
    table = dwi.gradients
    shells = sorted({int(round(float(b) / 100) * 100) for b in table.bvals[~table.b0_mask]})
    made: dict[str, object] = {
        "data_no_dw_vols": int((~table.b0_mask).sum()), "data_no_b0_vols": int(table.b0_mask.sum()),
        "data_no_shells": len(shells), "data_unique_bvals": shells,
        "data_vox_size": [round(float(v), 4) for v in dwi.voxel_size],
        "snr_b0": _number(float(np.median(snr(dwi)[dwi.brain()]))),
        "snr_by_shell": {b: _number(float(np.median(level[_near(dwi, b)]))) for b in shells},
        "ndc": _number(float(np.nanmean(alike.neighbour))) if np.isfinite(alike.neighbour).any() else None,
        "qc_cnr_avg": {b: _number(v) for b, v in alike.contrast.items()},
        "qc_cnr_std": {b: _number(v) for b, v in alike.contrast_std.items()},
        "spikes_tot": _number(100 * float(spikes.mean())),
        "gsr": None if ghost is None else _number(ghost),
    }  # fmt: skip
    if aligned is not None:
        far, step, change = _moves(aligned)
        weighted = ~table.b0_mask
        geometry = aligned.geometry
        parts = np.c_[geometry.translations, geometry.angles]
        made |= {
            "qc_mot_abs": _number(float(far.mean())), "qc_mot_rel": _number(float(step[1:].mean())),
            "fd_mean": _number(float(change[1:].mean())), "fd_max": _number(float(change.max())),
            "qc_params_avg": [_number(float(v)) for v in parts.mean(0)],
            "qc_outliers_tot": _number(100 * float(lost.mean())),
            "qc_outliers_b": {
                b: _number(100 * float(lost[_near(dwi, b)].mean())) for b in shells
            },
            "volumes_lost": _number(
                100 * float((lost[weighted].mean(1) > 0.5).mean()) if weighted.any() else 0.0
            ),
        }  # fmt: skip
    return made


def _near(dwi: DWI, b: int) -> NDArray[np.bool_]:
    rounded = np.round(dwi.gradients.bvals / 100) * 100
    return np.asarray((rounded == b) & ~dwi.gradients.b0_mask)


def _number(value: float) -> float | None:
    """Four digits; None where it is not known."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _plain(values: Array) -> list[float | int | None]:
    return [_number(float(v)) for v in values]
