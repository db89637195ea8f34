"""The networks of microstructure on a whole scan: any protocol, all models in one pass, with trust.

`voxelwise` reads each voxel alone; `learned` also averages it with neighbours that its signals do not
tell apart from it. Where a voxel's signals are out of distribution, the classical fit stands instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks, in_parallel
from fornix.core.dwi import DWI
from fornix.estimators.classical import CLASSICAL
from fornix.estimators.ood_note import ood_note
from fornix.models import flags as why
from fornix.models import noddi, tensor
from fornix.models.base import Fit, Progress
from fornix.nets import weights as shipped
from fornix.nets.adaptation import adapt_to_scan
from fornix.nets.build import build_network
from fornix.nets.features import microstructure_features
from fornix.nets.fusion import Fused, Quantiles, precision_fusion, reliable_params, shrink_to_fit
from fornix.nets.likelihoods import signal_likelihood
from fornix.nets.microstructure_estimator import (
    INDEX,
    MicrostructureEstimates,
    MicrostructureEstimator,
)
from fornix.nets.neighbour_attention import NeighbourAttention
from fornix.nets.reference_b import TRAINED_B, checked_reference_b
from fornix.nets.scan_view import ScanView, typical_voxels
from fornix.preprocess.noise_correlation import noise_correlation
from fornix.uncertainty.fit_share import SHARES, Parts

#: Signals whose out-of-distribution score is above this are left to the classical fit.
OOD_SIGNALS = 3.0
#: Voxels whose invariants are further from the training's than this are not trusted.
OOD_INVARIANTS = 4.0
#: Codes of the source map.
FROM_NETWORK, FUSED, FROM_FIT = 1, 2, 3
#: Voxels that show whether a fit is reliable, and how far NODDI's fit lies from the network.
_SAMPLE, _COMPARED = 800, 1800
#: Voxels that are fitted at once: their signals are in memory.
_FITTED = 65536
_DKI_COLUMNS = {"mk": slice(0, 1), "ak": slice(1, 2), "rk": slice(2, 3), "kfa": slice(3, 4)}
_NODDI_COLUMNS = {**noddi.COLUMNS, "odiw": slice(7, 8)}
_COLUMNS = {"dti": tensor.COLUMNS, "dki": _DKI_COLUMNS, "noddi": _NODDI_COLUMNS}


@dataclass(frozen=True, eq=False)
class LearnedMicrostructure:
    """Fits by model over the voxels asked for, and what stands beside them.

    Attributes:
        fits: By model.
        quantiles: By model_param and level, (asked,), diffusivities in µm²/ms.
        ood: (asked,) out-of-distribution score.
        source: (asked,) FROM_NETWORK, FUSED or FROM_FIT, 0 where nothing could be said.
        notes: One line each.
        weights: Label of the weights.
        reference_b: b-value that the tensor describes, s/mm².
        shared: By model_param, share of the standard deviation that all voxels' errors have in common.
        parts: By model_param, what the estimate is put together of.
    """

    fits: dict[str, Fit]
    quantiles: Quantiles
    ood: NDArray[np.float32]
    source: NDArray[np.uint8]
    notes: list[str]
    weights: str
    reference_b: float
    shared: dict[str, float]
    parts: dict[str, Parts]


def context_attention(weights: str) -> NeighbourAttention | None:
    """The attention over neighbours that a network reads through; None for one of single voxels."""
    kind = shipped.load(weights).about["recipe"]["kind"]
    if kind not in ("spatial", "fod-spatial"):
        return None
    found = build_network(shipped.load("context"))
    assert isinstance(found, NeighbourAttention)
    return found.first_pass() if kind == "fod-spatial" else found


def read_scan(
    view: ScanView,
    estimator: MicrostructureEstimator,
    block: int = 16384,
    quantiles: Sequence[float] = (),
    adapt: bool = False,
    progress: Progress | None = None,
    seed: int = 0,
    reference_b: float = TRAINED_B,
    keep_signal: bool = False,
) -> tuple[list[MicrostructureEstimates], list[str]]:
    """Ask a network about every voxel of a view.

    Args:
        view: The scan as the network sees it.
        estimator: The network.
        block: Voxels at a time.
        quantiles: Levels to give.
        adapt: Fit what the network takes the scan to be to its own volumes first (`nets.adaptation`).
        progress: Called with (voxels done, voxels in all).
        seed: Which voxels and volumes an adaptation looks at.
        reference_b: b-value that the tensor describes, s/mm².
        keep_signal: Keep the features of the signal (`z`), which take as much memory as all else.

    Returns:
        Estimates block by block, and notes.
    """
    code = estimator.scan_code(view.typical(microstructure_features))
    notes = []
    if adapt:
        shift, note = adapt_to_scan(view, estimator.network, signal_likelihood, seed=seed)
        code = code + shift
        notes.append(note)

    def ask(rows: slice) -> MicrostructureEstimates:
        return estimator.estimate(view, rows, code, quantiles, reference_b)

    found = []
    for part in in_parallel(ask, list(view.blocks(block))):
        found.append(part if keep_signal else replace(part, z=part.z[:0]))
        if progress is not None:
            progress(min(len(found) * block, len(view)), len(view))
    return found, notes


def learned_microstructure(
    dwi: DWI,
    models: Sequence[str],
    sigma: NDArray[np.float64],
    voxels: NDArray[np.int64],
    device: torch.device,
    block: int = 16384,
    quantiles: Sequence[float] = (),
    adapt: bool = False,
    progress: Progress | None = None,
    *,
    weights: str,
    seed: int = 0,
    reference_b: float | None = None,
) -> LearnedMicrostructure:
    """Estimate models in some voxels by a network.

    Args:
        dwi: The scan.
        models: Of `dti`, `dki`, `noddi`.
        sigma: (asked,) noise standard deviation in units of the data.
        voxels: (asked,) flat indices of the scan's grid.
        device: Where it runs.
        block: Voxels at a time.
        quantiles: Levels to give.
        adapt: Adapt to the scan first, see `read_scan`.
        progress: Called with (voxels done, voxels in all), over all models.
        weights: Name of the network's weights.
        seed: Which voxels and volumes an adaptation looks at.
        reference_b: b-value that the tensor describes, s/mm²; None is what it was trained for.

    Raises:
        FornixError: The reference b lies outside what the networks know.
    """
    at = TRAINED_B if reference_b is None else checked_reference_b(reference_b)
    count = len(voxels)

    def done(here: int, total: int) -> None:
        if progress is not None:
            progress(count * len(models) * here // total, count * len(models))

    estimator = MicrostructureEstimator(weights, device)
    shared = noise_correlation(dwi, voxels)
    view = ScanView.of(dwi, voxels, sigma, device, context_attention(weights), shared)
    estimates, notes = read_scan(view, estimator, block, quantiles, adapt, done, seed, at)
    usable, flags = view.usable, view.flags.copy()
    scores = np.concatenate([e.ood for e in estimates])
    # Signals that do not fit call for the fit; tissue that is only unusual is told, not replaced.
    misfit = scores[:, 1:].max(1) > OOD_SIGNALS
    flagged = misfit | (scores[:, 0] > OOD_INVARIANTS)
    flags[usable[flagged]] |= why.OUT_OF_DISTRIBUTION
    line = ood_note(
        view.dwi, voxels[usable], flagged, scores, np.concatenate([e.worst_volume for e in estimates]),
        np.concatenate([e.mean[:, INDEX["dti_md"]] for e in estimates]),
        (OOD_INVARIANTS, OOD_SIGNALS, OOD_SIGNALS, OOD_SIGNALS),
    )  # fmt: skip
    notes = [*notes, *([line] if line else [])]
    fits = {m: _fit_of(m, estimates, view, flags) for m in models}
    source = np.zeros(count, dtype=np.uint8)
    source[usable] = FROM_NETWORK
    reasons = view.dwi.gradients.facts.why_not()
    outside = np.flatnonzero(misfit)
    for model in (m for m in models if len(outside) and not reasons[m]):
        fits[model] = _with_fit_in(fits[model], model, view, outside)
        source[usable[outside]] = FROM_FIT
    limits: Quantiles = {
        f"{model}_{param}": {
            q: _spread_out(
                np.concatenate([e.quantiles[q][:, INDEX[f"{model}_{param}"]] for e in estimates]),
                usable, count,
            )
            for q in quantiles
        }
        for model in models for param in _COLUMNS[model] if f"{model}_{param}" in INDEX
    }  # fmt: skip
    sure = source == FROM_NETWORK
    parts = _tensor_parts(estimates, sure[usable]) if at == TRAINED_B else {}
    for model, fuse in (("dki", _fused_kurtosis), ("noddi", _shrunk_noddi)):
        if model in fits and not reasons[model] and sure.any():
            made = fuse(fits[model], view, sure, limits)
            fits[model], limits = made.fit, made.quantiles
            source[made.where] = FUSED
            parts.update(made.parts)
    common = estimator.shared.of(np.concatenate([e.stratum for e in estimates]))
    return LearnedMicrostructure(
        fits, limits, _spread_out(scores.max(1), usable, count), source,
        [*view.notes, *notes], estimator.weights.label, at,
        {name: float(common[i]) for name, i in INDEX.items()}, parts,
    )  # fmt: skip


def _tensor_parts(
    estimates: list[MicrostructureEstimates], sure: NDArray[np.bool_]
) -> dict[str, Parts]:
    """Of FA, MD, AD and RD, over the voxels that the network was asked for."""
    if not sure.any():
        return {}
    of = np.concatenate([e.parts for e in estimates])[sure]
    return {name: Parts.of(*of[:, i].T) for name, i in INDEX.items() if i < SHARES}


def _fit_of(
    model: str,
    estimates: list[MicrostructureEstimates],
    view: ScanView,
    flags: NDArray[np.uint8],
) -> Fit:
    columns = _COLUMNS[model]
    width = max(c.stop for c in columns.values())
    values = np.zeros((len(flags), width), dtype=np.float32)
    std = np.zeros_like(values)
    for param, column in columns.items():
        if f"{model}_{param}" in INDEX:
            i = INDEX[f"{model}_{param}"]
            value = np.concatenate([e.mean[:, i : i + 1] for e in estimates])
            error = np.concatenate([e.std[:, i : i + 1] for e in estimates])
        elif param == "tensor":
            value = np.concatenate([e.tensor for e in estimates])
            error = np.concatenate([e.tensor_std for e in estimates])
        elif param in ("v1", "direction"):
            value = np.concatenate([e.v1 for e in estimates])
            error = np.concatenate([e.v1_std for e in estimates])
        else:  # s0: the scale of the encoded signals
            value = view.encoded.scale.cpu().numpy()[:, None]
            error = value * view.encoded.s0_std.cpu().numpy()[:, None]
        values[view.usable, column] = value
        std[view.usable, column] = error
    return Fit(columns, values, std, flags)


def _classical(model: str, view: ScanView, rows: NDArray[np.int64]) -> Fit:
    """The classical fit of some of the view's voxels."""
    gradients = view.dwi.gradients
    keep = np.ones(len(gradients), dtype=bool)
    if model == "dti":
        keep, _ = gradients.facts.tensor_volumes()
    table, parts = gradients.subset(keep), []
    for part in (rows[b] for b in blocks(len(rows), _FITTED)):
        signals = view.signals(part)
        signals = signals if keep.all() else np.ascontiguousarray(signals[:, keep])
        parts.append(CLASSICAL[model].run(signals, table, sigma=view.sigma[part], std=True))
    return Fit(
        parts[0].columns,
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.std for p in parts]),
        np.concatenate([p.flags for p in parts]),
    )


def _with_fit_in(fit: Fit, model: str, view: ScanView, rows: NDArray[np.int64]) -> Fit:
    """The estimates with the classical fit in some of the view's voxels."""
    classical = _classical(model, view, rows)
    # What only the network gives, its last columns, stays.
    width = min(fit.values.shape[1], classical.values.shape[1])
    assert fit.std is not None and classical.std is not None
    values, std = fit.values.copy(), fit.std.copy()
    values[view.usable[rows], :width] = classical.values[:, :width]
    std[view.usable[rows], :width] = np.nan_to_num(classical.std[:, :width])
    return replace(fit, values=values, std=std)


def _fused_kurtosis(
    fit: Fit, view: ScanView, sure: NDArray[np.bool_], quantiles: Quantiles
) -> Fused:
    """Combined with the classical fit where a sample of the voxels shows that fit to be reliable."""
    rows = np.flatnonzero(sure[view.usable])
    some = rows[typical_voxels(view.voxels[rows], view.asked, _SAMPLE)]
    params = reliable_params(_classical("dki", view, some), "dki")
    if not params:
        return Fused(fit, quantiles, np.zeros_like(sure), {})
    everywhere = _everywhere(_classical("dki", view, np.arange(len(view))), view)
    return precision_fusion(fit, everywhere, params, sure, quantiles, "dki")


def _shrunk_noddi(fit: Fit, view: ScanView, sure: NDArray[np.bool_], quantiles: Quantiles) -> Fused:
    """NODDI's estimates shrunk towards the fit of a sample of the voxels."""
    rows = np.flatnonzero(sure[view.usable])
    some = rows[typical_voxels(view.voxels[rows], view.asked, _COMPARED)]
    classical = _classical("noddi", view, some)
    return shrink_to_fit(fit, classical, view.usable[some], sure, quantiles)


def _everywhere(fit: Fit, view: ScanView) -> Fit:
    """A fit of the usable voxels over all voxels asked for; the others are flagged."""
    values = np.zeros((view.asked, fit.values.shape[1]), dtype=np.float32)
    std = np.zeros_like(values)
    assert fit.std is not None
    values[view.usable], std[view.usable] = fit.values, fit.std
    flags = view.flags.copy()
    flags[view.usable] = fit.flags
    return Fit(fit.columns, values, std, flags)


def _spread_out(values: NDArray, usable: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    out = np.zeros(count, dtype=np.float32)
    out[usable] = values
    return out
