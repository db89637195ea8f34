"""The learned estimators on a whole scan: any protocol, all models in one pass, with trust.

`voxelwise` reads each voxel alone; `learned` also averages it with neighbours that its signals do not
tell apart from it. Where a voxel is unlike anything trained on, the classical fit stands instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks, in_parallel
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.core.signals import Signals
from fornix.learn.estimator import INDEX, Estimates, Estimator
from fornix.learn.observe import Observed, Observer
from fornix.learn.scan import known_range, typical, usable_noise
from fornix.microstructure import flags as why
from fornix.microstructure import noddi, tensor
from fornix.microstructure.adaptation import neighbours, to_scan
from fornix.microstructure.combination import combine, draw, rich
from fornix.microstructure.design import dti_volumes, what_can_be_estimated
from fornix.microstructure.fit import Fit, Progress
from fornix.microstructure.tables import CLASSICAL_DEFAULT, TABLES

#: Weights behind each method.
NETWORKS = {"learned": "spatial", "voxelwise": "voxelwise"}
#: Signals more surprising than this (decades) are left to the classical fit.
FOREIGN_FROM = 3.0
#: Invariants further from the training's than this (decades) are not trusted.
DISTANT_FROM = 4.0
#: Codes of the source map.
LEARNED, COMBINED, CLASSICAL = 1, 2, 3
#: Voxels that show whether a scan is rich, and how far NODDI's fit lies from the network.
_SAMPLE, _COMPARED = 800, 1800
#: Voxels that are fitted at once: their signals are in memory.
_FITTED = 65536
_DKI_COLUMNS = {"mk": slice(0, 1), "ak": slice(1, 2), "rk": slice(2, 3), "kfa": slice(3, 4)}
_COLUMNS = {"dti": tensor.COLUMNS, "dki": _DKI_COLUMNS, "noddi": noddi.COLUMNS}


@dataclass(frozen=True, eq=False)
class Learned:
    """Fits by model over the voxels asked for, and what stands beside them.

    quantiles: by model_param and level, (n,), diffusivities in µm²/ms. score: (n,) surprise in
    decades. source: (n,) LEARNED, COMBINED or CLASSICAL, 0 where nothing could be said. notes;
    weights: label.
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
    for, which of them were `good`, and for these, block by block, what was seen, what averages over
    neighbours show (none for `voxelwise`) and what was estimated."""

    observer: Observer
    estimator: Estimator
    signals: Signals
    flags: NDArray[np.uint8]
    good: NDArray[np.int64]
    seen: list[Observed]
    around: list[tuple[Observed, ...]]
    made: list[Estimates]
    notes: list[str]


def read_scan(
    dwi: DWI,
    method: str,
    sigma: NDArray[np.float64],
    inside: NDArray[np.int64],
    device: torch.device,
    size: int = 16384,
    quantiles: Sequence[float] = (),
    adapted: bool = False,
    progress: Progress | None = None,
    whole: bool = False,
) -> Reading:
    """Ask a network about the voxels `inside` (flat indices of the grid).

    method: of `NETWORKS`. sigma: (n,) noise. size: voxels per block. quantiles: levels to give.
    adapted: fit what the network takes the scan to be to its own volumes first (`learn.adapt`).
    progress: called with (voxels done, voxels in all). whole: keep `around` and the features of the
    signal (`Estimates.z`) too, which take as much memory as all else.
    """
    dwi, notes = known_range(dwi)
    estimator = Estimator(NETWORKS[method], device)
    observer = Observer(dwi.gradients, device)
    signals = Signals(dwi, inside)
    flags = np.concatenate([_flags(signals[b]) for b in blocks(len(inside), size)])
    good = np.flatnonzero(flags == 0)
    if not len(good):
        raise FornixError("no voxel of the mask holds usable signals (NaN, inf or all zero)")
    level = usable_noise(sigma[good], notes)

    def observe(rows: slice) -> Observed:
        return observer.observe(signals[good[rows]], level[rows])

    # The first block alone: it makes what the others share.
    first, *others = blocks(len(good), size)
    lots = chain([observe(first)], in_parallel(observe, others))
    every = Observed.joined(lots, len(good))
    seen = every.parts(size)
    wide = neighbours(dwi, observer, every, inside[good]) if method == "learned" else []
    some = torch.as_tensor(typical(inside[good], len(inside)), device=device)
    shown = every.take(some)
    with_near = tuple(observer.averaged(shown, mean[some], noise[some]) for mean, noise in wide)
    scan = estimator.population(observer, shown, with_near)
    if adapted:
        shift, note = to_scan(estimator, dwi, method, signals.of(good), level, inside[good], device)
        scan = scan + shift
        notes.append(note)

    def ask(i: int) -> tuple[tuple[Observed, ...], Estimates]:
        rows, part = slice(i * size, (i + 1) * size), seen[i]
        near = tuple(observer.averaged(part, mean[rows], noise[rows]) for mean, noise in wide)
        return near, estimator.estimate(observer, part, signals[good[rows]], scan, near, quantiles)

    around: list[tuple[Observed, ...]] = []
    made: list[Estimates] = []
    for i, (near, answer) in enumerate(in_parallel(ask, range(len(seen)))):
        around.append(near if whole else ())
        made.append(answer if whole else replace(answer, z=answer.z[:0]))
        if progress is not None:
            progress(min((i + 1) * size, len(good)), len(good))
    if not whole:
        seen = [replace(part, projected=part.projected[:, :0].clone()) for part in seen]
    return Reading(observer, estimator, signals, flags, good, seen, around, made, notes)


def estimate(
    dwi: DWI,
    models: Sequence[str],
    method: str,
    sigma: NDArray[np.float64],
    inside: NDArray[np.int64],
    device: torch.device,
    size: int = 16384,
    quantiles: Sequence[float] = (),
    adapted: bool = False,
    progress: Progress | None = None,
) -> Learned:
    """Estimate the models in the voxels `inside`; see `read_scan`."""
    count = len(inside)

    def done(voxels: int, total: int) -> None:
        if progress is not None:
            progress(count * len(models) * voxels // total, count * len(models))

    read = read_scan(dwi, method, sigma, inside, device, size, quantiles, adapted, done)
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
    sure = np.zeros(count, dtype=bool)
    sure[good] = source[good] == LEARNED
    if "dki" in fits:
        source[_combined(fits["dki"], "dki", read, sigma, inside, sure, found)] = COMBINED
    if "noddi" in fits:
        source[_drawn(fits["noddi"], read, sigma, inside, sure, found)] = COMBINED
    score = _spread_out(surprise, good, count)
    return Learned(fits, found, score, source, read.notes, read.estimator.weights.label)


def _flags(signals: NDArray[np.float32]) -> NDArray[np.uint8]:
    flags = np.zeros(len(signals), dtype=np.uint8)
    flags[~np.isfinite(signals).all(1)] |= why.BAD_DATA
    flags[~(signals > 0).any(1)] |= why.EMPTY
    return flags


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


def _combined(
    fit: Fit,
    model: str,
    read: Reading,
    sigma: NDArray[np.float64],
    inside: NDArray[np.int64],
    sure: NDArray[np.bool_],
    quantiles: dict[str, dict[float, NDArray[np.float32]]],
) -> NDArray[np.bool_]:
    """Combine with the classical fit what a sample of the voxels shows to be rich; (n,) where."""
    gradients = read.observer.gradients
    nothing = np.zeros(len(sure), dtype=bool)
    places = np.flatnonzero(sure)
    if what_can_be_estimated(gradients)[model] or not len(places):
        return nothing

    some = places[typical(inside[places], len(inside), _SAMPLE)]
    params = rich(_classical(model, read, sigma, some), model)
    if not params:
        return nothing
    everywhere = _classical(model, read, sigma, np.arange(len(sure)))
    return combine(fit, everywhere, params, sure, quantiles, model)


def _drawn(
    fit: Fit,
    read: Reading,
    sigma: NDArray[np.float64],
    inside: NDArray[np.int64],
    sure: NDArray[np.bool_],
    quantiles: dict[str, dict[float, NDArray[np.float32]]],
) -> NDArray[np.bool_]:
    """Draw NODDI's estimates to the fit of a sample of the voxels; (n,) where."""
    places = np.flatnonzero(sure)
    if what_can_be_estimated(read.observer.gradients)["noddi"] or not len(places):
        return np.zeros(len(sure), dtype=bool)
    sample = places[typical(inside[places], len(inside), _COMPARED)]
    return draw(fit, _classical("noddi", read, sigma, sample), sample, sure, quantiles)


def _classical(
    model: str, read: Reading, sigma: NDArray[np.float64], voxels: NDArray[np.int64]
) -> Fit:
    """The classical fit of some of the voxels asked for."""
    method, parts = TABLES[model][CLASSICAL_DEFAULT[model]], []
    for block in (voxels[b] for b in blocks(len(voxels), _FITTED)):
        parts.append(
            method.run(read.signals[block], read.observer.gradients, sigma=sigma[block], std=True)
        )
    return Fit(
        parts[0].columns,
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.std for p in parts]),
        np.concatenate([p.flags for p in parts]),
    )


def _fall_back(
    fit: Fit,
    model: str,
    signals: Signals,
    gradients: Gradients,
    sigma: NDArray[np.float64],
    foreign: NDArray[np.int64],
    source: NDArray[np.uint8],
) -> None:
    """Put the classical fit into foreign voxels, where the protocol gives one."""
    if not len(foreign) or what_can_be_estimated(gradients)[model]:
        return
    keep = np.ones(len(gradients), dtype=bool)
    if model == "dti":
        keep, _ = dti_volumes(gradients)
    method = TABLES[model][CLASSICAL_DEFAULT[model]]
    classical = method.run(
        np.ascontiguousarray(signals[foreign][:, keep]),
        gradients.subset(keep),
        sigma=sigma[foreign],
        std=True,
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
