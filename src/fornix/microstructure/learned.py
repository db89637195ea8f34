"""The learned estimators on a whole scan: any protocol, all models in one pass, with trust.

`voxelwise` reads each voxel alone; `learned` also averages it with neighbours that its signals do not
tell apart from it. Where a voxel is unlike anything trained on, the classical fit stands instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.learn import weights as shipped
from fornix.learn.context import Attention, neighbourhood
from fornix.learn.estimator import INDEX, Around, Estimates, Estimator
from fornix.learn.observe import Observed, Observer
from fornix.microstructure import flags as why
from fornix.microstructure import noddi, tensor
from fornix.microstructure.design import dti_volumes, what_can_be_estimated
from fornix.microstructure.fit import Fit, Progress, gather
from fornix.qspace.prior import BMAX

#: Weights behind each method.
NETWORKS = {"learned": "spatial", "voxelwise": "voxelwise"}
#: Signals more surprising than this (decades) are left to the classical fit.
FOREIGN_FROM = 3.0
#: Invariants further from the training's than this (decades) are not trusted.
DISTANT_FROM = 4.0
#: Codes of the source map.
LEARNED, CLASSICAL = 1, 3
_HALO = 4
_DKI_COLUMNS = {"mk": slice(0, 1), "ak": slice(1, 2), "rk": slice(2, 3), "kfa": slice(3, 4)}
_COLUMNS = {"dti": tensor.COLUMNS, "dki": _DKI_COLUMNS, "noddi": noddi.COLUMNS}


@dataclass(frozen=True, eq=False)
class Learned:
    """Fits by model over the voxels asked for, and what stands beside them.

    quantiles: by model_param and level, (n,), diffusivities in µm²/ms. score: (n,) surprise in
    decades. source: (n,) LEARNED or CLASSICAL, 0 where nothing could be said. notes; weights: label.
    """

    fits: dict[str, Fit]
    quantiles: dict[str, dict[float, NDArray[np.float32]]]
    score: NDArray[np.float32]
    source: NDArray[np.uint8]
    notes: list[str]
    weights: str


@dataclass(frozen=True, eq=False)
class Reading:
    """What a network read in a scan: the observer, signals (n, N) and flags (n,) of the voxels asked
    for, which of them were `good`, and for these, block by block, what was seen and estimated."""

    observer: Observer
    estimator: Estimator
    signals: NDArray[np.float32]
    flags: NDArray[np.uint8]
    good: NDArray[np.int64]
    seen: list[Observed]
    made: list[Estimates]
    around: Around | None
    notes: list[str]


def read_scan(
    dwi: DWI,
    method: str,
    sigma: NDArray[np.float64],
    inside: NDArray[np.int64],
    device: torch.device,
    size: int = 16384,
    quantiles: Sequence[float] = (),
    progress: Progress | None = None,
) -> Reading:
    """Ask a network about the voxels `inside` (flat indices of the grid).

    method: of `NETWORKS`. sigma: (n,) noise. size: voxels per block. quantiles: levels to give.
    progress: called with (voxels done, voxels in all).
    """
    dwi, notes = _known_range(dwi)
    estimator = Estimator(NETWORKS[method], device)
    observer = Observer(dwi.gradients, device)
    signals = gather(dwi.data, np.arange(dwi.data.shape[3]), inside)
    flags = _flags(signals)
    good = np.flatnonzero(flags == 0)
    if not len(good):
        raise FornixError("no voxel of the mask holds usable signals (NaN, inf or all zero)")
    level = _usable_noise(sigma, good, notes)
    seen: list[Observed] = [
        observer.observe(signals[good[b]], level[b]) for b in blocks(len(good), size)
    ]
    around = None
    if method == "learned":
        around = _contexts(dwi, Observed.joined(seen), inside[good], device)
    made: list[Estimates] = []
    start = 0
    for part in seen:
        rows = slice(start, start + len(part.scale))
        near = None if around is None else (around[0][rows], around[1][rows])
        made.append(estimator.estimate(observer, part, signals[good[rows]], near, quantiles))
        start = rows.stop
        if progress is not None:
            progress(start, len(good))
    return Reading(observer, estimator, signals, flags, good, seen, made, around, notes)


def estimate(
    dwi: DWI,
    models: Sequence[str],
    method: str,
    sigma: NDArray[np.float64],
    inside: NDArray[np.int64],
    device: torch.device,
    size: int = 16384,
    quantiles: Sequence[float] = (),
    progress: Progress | None = None,
) -> Learned:
    """Estimate the models in the voxels `inside`; see `read_scan`."""
    count = len(inside)

    def done(voxels: int, total: int) -> None:
        if progress is not None:
            progress(count * len(models) * voxels // total, count * len(models))

    read = read_scan(dwi, method, sigma, inside, device, size, quantiles, done)
    flags, good, made = read.flags, read.good, read.made
    evidence = np.concatenate([m.surprise for m in made])
    surprise = evidence.max(1)
    # Signals that do not fit call for the fit; tissue that is only unusual is told, not replaced.
    misfit = evidence[:, 1:].max(1) > FOREIGN_FROM
    foreign = good[misfit]
    flags[good[misfit | (evidence[:, 0] > DISTANT_FROM)]] |= why.FOREIGN
    source = np.zeros(count, dtype=np.uint8)
    source[good] = LEARNED
    fits = {m: _fit_of(m, made, read.seen, good, flags) for m in models}
    for model in models:
        _fall_back(
            fits[model], model, read.signals, read.observer.gradients, sigma, foreign, source
        )
    found = {
        f"{model}_{param}": {
            q: _spread_out(np.concatenate([m.quantiles[q][:, INDEX[f"{model}_{param}"]]
                                           for m in made]), good, count)
            for q in quantiles
        }
        for model in models for param in _COLUMNS[model] if f"{model}_{param}" in INDEX
    }  # fmt: skip
    score = _spread_out(surprise, good, count)
    return Learned(fits, found, score, source, read.notes, read.estimator.weights.label)


def _known_range(dwi: DWI) -> tuple[DWI, list[str]]:
    far = dwi.gradients.b > BMAX
    if not far.any():
        return dwi, []
    note = (
        f"{int(far.sum())} volumes above b={1000 * BMAX:.0f} s/mm² were left out: no network was "
        "trained there"
    )
    return dwi.subset(~far), [note]


def _flags(signals: NDArray[np.float32]) -> NDArray[np.uint8]:
    flags = np.zeros(len(signals), dtype=np.uint8)
    flags[~np.isfinite(signals).all(1)] |= why.BAD_DATA
    flags[~(np.nan_to_num(signals) > 0).any(1)] |= why.EMPTY
    return flags


def _usable_noise(
    sigma: NDArray[np.float64], good: NDArray[np.int64], notes: list[str]
) -> NDArray[np.float64]:
    level = sigma[good]
    usable = np.isfinite(level) & (level > 0)
    if not usable.any():
        raise FornixError(
            "the noise level is zero or not a number everywhere; estimate it (fornix run does) or "
            "give --sigma"
        )
    if not usable.all():
        notes.append(
            f"{int((~usable).sum())} voxels have no noise level; the median of the others stands in"
        )
        level = np.where(usable, level, np.median(level[usable]))
    return np.asarray(level)


def _contexts(dwi: DWI, seen: Observed, voxels: NDArray[np.int64], device: torch.device) -> Around:
    """Every voxel averaged with its like, slab by slab along the first axis."""
    attention = shipped.network(shipped.load("context")).to(device)
    assert isinstance(attention, Attention)
    index = np.stack(np.unravel_index(voxels, dwi.grid), 1)
    low = index.min(0)
    shape = [int(v) for v in index.max(0) + 1 - low]
    place = torch.zeros((len(index), 4), dtype=torch.long, device=device)
    place[:, 1:] = torch.as_tensor(index - low)
    made, noise = torch.empty_like(seen.projected), torch.empty_like(seen.sigma)
    width = max(1, 40_000 // (shape[1] * shape[2]))
    x, y, z = (float(v) for v in dwi.voxel_size)
    for first in range(0, shape[0], width):
        last, start = min(first + width, shape[0]), max(first - _HALO, 0)
        end = min(last + _HALO, shape[0])
        here = ((place[:, 1] >= start) & (place[:, 1] < end)).nonzero()[:, 0]
        if not len(here):
            continue
        at = place[here] - torch.tensor([0, start, 0, 0], device=device)
        grid = (end - start, shape[1], shape[2])
        with torch.inference_mode():
            average, left = attention(neighbourhood(seen.take(here), at, 1, grid, (x, y, z)))
        own = (place[here, 1] >= first) & (place[here, 1] < last)
        where = tuple(at[own].T)
        made[here[own]] = average[where]
        noise[here[own]] = left[where]
    return made, noise


def _fit_of(
    model: str,
    made: list[Estimates],
    parts: list[Observed],
    good: NDArray[np.int64],
    flags: NDArray[np.uint8],
) -> Fit:
    columns = _COLUMNS[model]
    width = max(c.stop for c in columns.values())
    values = np.zeros((len(flags), width), dtype=np.float32)
    spread = np.zeros_like(values)
    for param, column in columns.items():
        if f"{model}_{param}" in INDEX:
            i = INDEX[f"{model}_{param}"]
            value = np.concatenate([m.mean[:, i : i + 1] for m in made])
            error = np.concatenate([m.std[:, i : i + 1] for m in made])
        elif param == "tensor":
            value = np.concatenate([m.tensor for m in made])
            error = np.concatenate([m.tensor_std for m in made])
        elif param in ("v1", "direction"):
            value = np.concatenate([m.v1 for m in made])
            error = np.concatenate([m.v1_std for m in made])
        else:  # s0: the scale of the observation
            value = torch.cat([p.scale for p in parts]).cpu().numpy()[:, None]
            error = value * torch.cat([p.s0_std for p in parts]).cpu().numpy()[:, None]
        values[good, column] = value
        spread[good, column] = error
    return Fit(columns, values, spread, flags)


def _fall_back(
    fit: Fit,
    model: str,
    signals: NDArray[np.float32],
    gradients: Gradients,
    sigma: NDArray[np.float64],
    foreign: NDArray[np.int64],
    source: NDArray[np.uint8],
) -> None:
    """Put the classical fit into foreign voxels, where the protocol gives one."""
    from fornix.microstructure.tables import CLASSICAL_DEFAULT, TABLES

    if not len(foreign) or what_can_be_estimated(gradients)[model]:
        return
    keep = np.ones(len(gradients), dtype=bool)
    if model == "dti":
        keep, _ = dti_volumes(gradients)
    method = TABLES[model][CLASSICAL_DEFAULT[model]]
    classical = method.run(
        signals[np.ix_(foreign, keep)], gradients.subset(keep), sigma=sigma[foreign], std=True
    )
    width = fit.values.shape[1]
    assert fit.std is not None and classical.std is not None
    fit.values[foreign] = classical.values[:, :width]
    fit.std[foreign] = np.nan_to_num(classical.std[:, :width])
    source[foreign] = CLASSICAL


def _spread_out(values: NDArray, good: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    out = np.zeros(count, dtype=np.float32)
    out[good] = values
    return out
