"""The stage: from a scan to maps of diffusion tensor, kurtosis and NODDI.

A model's methods stand in its table in `MICROSTRUCTURE_METHODS`; whoever adds a method writes one
function and one line there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.compute import block_size, blocks, pick_device, use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.gradients import Gradients
from fornix.core.maps import UNITS, Map, Maps
from fornix.core.methods import Method
from fornix.core.protocol import DTI_BMAX
from fornix.estimators.classical import CLASSICAL
from fornix.estimators.microstructure_methods import MICROSTRUCTURE_METHODS
from fornix.models import flags as why
from fornix.models.base import Fit, Progress, gather
from fornix.preprocess.noise import noise_doubt, noise_of_voxels

if TYPE_CHECKING:
    import torch

    from fornix.estimators.microstructure_learned import LearnedMicrostructure
    from fornix.uncertainty.fit_share import Parts

#: Which parameters of each model become maps, and one line on each.
DESCRIPTIONS = {
    "dti": {
        "fa": "fractional anisotropy of the diffusion tensor",
        "md": "mean diffusivity of the diffusion tensor",
        "ad": "axial diffusivity, along the first eigenvector",
        "rd": "radial diffusivity, across the first eigenvector",
        "tensor": "diffusion tensor Dxx Dyy Dzz Dxy Dxz Dyz in world (RAS+) axes",
        "v1": "first eigenvector of the diffusion tensor in world (RAS+) axes",
        "s0": "signal without diffusion weighting from the tensor fit",
    },
    "dki": {
        "mk": "mean kurtosis over the sphere",
        "ak": "axial kurtosis, along the first eigenvector of the diffusion tensor",
        "rk": "radial kurtosis, mean over the circle across the first eigenvector",
        "kfa": "anisotropy of the kurtosis tensor",
    },
    "noddi": {
        "ndi": "neurite density index: intra-neurite fraction of the tissue",
        "odi": "orientation dispersion index of all neurites of the voxel together",
        "odiw": "orientation dispersion index within each fibre population, mean weighted by their shares",
        "fwf": "free-water fraction",
        "direction": "mean neurite direction in world (RAS+) axes",
        "s0": "signal without diffusion weighting from the NODDI fit",
    },
}
_FILE_SCALE = {"mm^2/s": 1e-3}  # inside µm²/ms


def microstructure(
    dwi: DWI,
    *,
    models: Sequence[str] | str = ("dti",),
    method: str = "auto",
    sigma: float | ArrayLike | None = None,
    std: bool = True,
    quantiles: Sequence[float] = (),
    adapt: bool = False,
    dti_bmax: float | None = DTI_BMAX,
    reference_b: float | None = None,
    threads: int | None = None,
    device: str | torch.device = "auto",
    max_memory: str | int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Maps:
    """Estimate tissue maps in every voxel of the mask, each with its standard deviation.

    Args:
        dwi: The scan; its mask says where, its noise level how sure.
        models: Of `dti`, `dki`, `noddi`; or `auto`: all that the protocol can give.
        method: `auto` is `learned`; `classical` each model's reference fit (wls, constrained, exact); or a
            word of the tables in `MICROSTRUCTURE_METHODS`: it applies to the models that have it, the
            others use their reference fit. `learned` sees neighbours, `voxelwise` does not; both give
            every model the protocol allows, from fewer measurements than a fit needs.
        sigma: Noise standard deviation of the complex channels in units of the data, a number or a map
            (X, Y, Z); None takes `dwi.sigma`; where that is None too, a fit's residuals tell, and for
            networks it is estimated from the scan.
        std: Also estimate standard deviations (about a third of a fit's time).
        quantiles: Levels (0.005 to 0.995) of calibrated quantile maps; networks only.
        adapt: Fit the network's idea of this scan to the scan's own volumes first, without labels, kept
            only if volumes it was not shown are predicted better (`nets.adaptation`); networks only.
        dti_bmax: `dti` fits use the volumes with b <= this (s/mm²) where they give a well conditioned
            tensor, since kurtosis biases it above; None uses all.
        reference_b: b-value (500 to 3000 s/mm²) that a network's tensor is to describe, whatever was
            measured; None is the 1000 that it was trained for. A fit describes what was measured.
        threads: None leaves numba's and torch's numbers as they are. Results do not depend on it, nor
            on `max_memory`.
        device: `auto`, `cpu` or `cuda`, for networks; fits run on the CPU.
        max_memory: Limits the size of the blocks, for example `4G`.
        seed: Which voxels and volumes an adaptation looks at; nothing else is left to chance.
        progress: Called with (voxels done, voxels in all), over all models.

    Returns:
        Maps `dti_fa`, … in file units (diffusivities mm²/s), 0 outside the mask and where a voxel could
        not be estimated. `trust` is False outside the mask, where the data are bad (NaN, inf, all zero),
        where a fit's unconstrained solution is not physical or did not settle, and where a voxel is out
        of the network's distribution; `source` then says what stands there (1 network, 2 network and fit
        combined, see `nets.fusion`, 3 fit) and `ood` its out-of-distribution score (-log10 p).

    Raises:
        FornixError: Unknown models or methods, models that the protocol cannot give, options that the
            method cannot serve.
    """
    notes: list[str] = []
    if method == "auto" and (reason := dwi.gradients.facts.why_no_network):
        # Where no tensor can be had at all, the choice of models says so.
        method = "classical" if not dwi.gradients.facts.why_not_dti else method
        if method == "classical":
            notes.append(tell(f"{reason}: the classical fits are used"))
    chosen = _choose_models(dwi, models, method)
    methods = _choose_methods(chosen, method)
    _check_options(methods, quantiles, adapt, reference_b)
    inside = np.flatnonzero(dwi.brain())
    noise = _sigma_of(dwi, sigma, inside)
    if sigma is not None and noise is not None and (doubt := noise_doubt(dwi, noise, inside)):
        notes.append(tell(doubt))
    together = [m for m in chosen if methods[m].whole_scan]
    # Fits need no torch, which takes a second to load; only a word that it must judge does.
    where = pick_device(device) if together or str(device) not in ("auto", "cpu") else None
    result = Maps()
    with use_threads(threads):
        if together:
            level = noise_of_voxels(dwi, inside) if noise is None else noise
            # Blocks that stay in the caches: twice as fast as large ones.
            size = block_size(4.0 * (3 * len(dwi.gradients) + 2000), max_memory, default=4096)
            entry = methods[together[0]]
            learned = entry.run(
                dwi, together, np.broadcast_to(np.asarray(level, np.float64), inside.shape), inside,
                where, size, quantiles, adapt, progress, seed=seed, reference_b=reference_b,
            )  # fmt: skip
            named = replace(entry, name=f"{entry.name} ({learned.weights})")
            for model in together:
                maps, more = _to_maps(
                    dwi,
                    model,
                    named,
                    [learned.fits[model]],
                    inside,
                    learned.quantiles,
                    {"ReferenceBValue": learned.reference_b} if model == "dti" else {},
                    learned.shared,
                    learned.parts,
                )
                result = result.merged(maps)
                notes += more
            result = result.merged(_ood_and_source(dwi, learned, named, inside))
            notes = learned.notes + notes
        for order, model in enumerate(chosen):
            if model in together:
                continue
            keep, note = np.ones(len(dwi.gradients), dtype=bool), ""
            if model == "dti":
                keep, note = dwi.gradients.facts.tensor_volumes(dti_bmax)
            notes += [note] if note else []
            gradients, rows = dwi.gradients.subset(keep), np.flatnonzero(keep)
            size = block_size(4.0 * 8 * len(rows) + 400, max_memory, default=65536)
            parts: list[Fit] = []
            for block in blocks(len(inside), size):
                signals = gather(dwi.data, rows, inside[block])
                known = noise[block] if isinstance(noise, np.ndarray) else noise
                parts.append(methods[model].run(signals, gradients, sigma=known, std=std))
                if progress is not None:
                    progress(order * len(inside) + block.stop, len(inside) * len(chosen))
            maps, more = _to_maps(
                dwi, model, methods[model], parts, inside, details={"BValues": _b_values(gradients)}
            )
            notes += more
            result = result.merged(maps)
    return Maps(result.maps, result.trust, tuple(why.merged(notes, chosen)))


def _b_values(gradients: Gradients) -> list[int]:
    """B of the b0s (0) and of each shell that a fit uses, s/mm²."""
    return [0] * bool(gradients.b0_mask.any()) + [round(s.b) for s in gradients.shells]


def _check_options(
    methods: Mapping[str, Method],
    quantiles: Sequence[float],
    adapt: bool,
    reference_b: float | None,
) -> None:
    for model, entry in methods.items():
        if quantiles:
            MICROSTRUCTURE_METHODS[model].check(entry.name, "quantiles", "--quantiles")
    if reference_b is not None and "dti" in methods:
        MICROSTRUCTURE_METHODS["dti"].check(methods["dti"].name, "reference_b", "--reference-b")
    if adapt and not any(entry.adapts for entry in methods.values()):
        model, entry = next(iter(methods.items()))
        MICROSTRUCTURE_METHODS[model].check(entry.name, "adapts", "--adapt")


def _choose_models(dwi: DWI, models: Sequence[str] | str, method: str) -> list[str]:
    default = next(iter(MICROSTRUCTURE_METHODS.values())).default
    word = default if method == "auto" else method
    network = any(word in t and t[word].network for t in MICROSTRUCTURE_METHODS.values())
    possible = dwi.gradients.facts.why_not(network)
    if isinstance(models, str):
        if models == "auto":
            found = [m for m, reason in possible.items() if not reason]
            if not found:
                raise FornixError(
                    f"no model can be estimated from this protocol ({dwi.gradients}): "
                    f"{possible['dti']}"
                )
            return found
        models = [m.strip() for m in models.split(",") if m.strip()]
    chosen = list(dict.fromkeys(models))
    if not chosen:
        raise FornixError(f"no model was named; choose of: {', '.join(possible)}, or auto")
    for model in chosen:
        if model not in possible:
            raise FornixError(f"unknown model {model!r}; choose of: {', '.join(possible)}, or auto")
        if possible[model]:
            raise FornixError(
                f"{model} cannot be estimated from this protocol ({dwi.gradients}): "
                f"{possible[model]}"
            )
    return chosen


def _choose_methods(models: list[str], method: str) -> dict[str, Method]:
    tables = {m: MICROSTRUCTURE_METHODS[m] for m in models}
    if method == "auto":
        return {m: table[table.default] for m, table in tables.items()}
    if method != "classical" and not any(method in table for table in tables.values()):
        choices = "; ".join(f"{m}: {', '.join(table)}" for m, table in tables.items())
        raise FornixError(f"no method {method!r} for {', '.join(models)}; there are {choices}")
    return {m: table[method] if method in table else CLASSICAL[m] for m, table in tables.items()}


def _sigma_of(
    dwi: DWI, sigma: float | ArrayLike | None, inside: NDArray[np.int64]
) -> float | NDArray[np.float64] | None:
    level = dwi.sigma if sigma is None else sigma
    if level is None:
        return None
    found = np.asarray(level, dtype=np.float64)
    if found.ndim == 0:
        if not (np.isfinite(found) and found > 0):
            raise FornixError(f"sigma must be a positive number, not {float(found)}")
        return float(found)
    if found.shape != dwi.grid:
        raise FornixError(f"the noise map has shape {found.shape}, the scan {dwi.grid}")
    return np.asarray(found.reshape(-1)[inside])


def _to_maps(
    dwi: DWI,
    model: str,
    method: Method,
    parts: list[Fit],
    inside: NDArray[np.int64],
    quantiles: Mapping[str, Mapping[float, NDArray]] | None = None,
    details: Mapping[str, object] | None = None,
    shared: Mapping[str, float] | None = None,
    mixed: Mapping[str, Parts] | None = None,
) -> tuple[Maps, list[str]]:
    flags = np.concatenate([p.flags for p in parts])
    maps = {}
    for param, description in DESCRIPTIONS[model].items():
        if param not in parts[0].columns:
            continue
        units = UNITS[param]
        scale = _FILE_SCALE.get(units, 1.0)
        values = np.concatenate([p[param] for p in parts]) * np.float32(scale)
        spread = None
        if parts[0].std is not None:
            spread = np.concatenate([p.std_of(param) for p in parts]) * np.float32(scale)
            if np.isnan(spread).all():
                spread = None
        data = _on_grid(dwi, values, inside)
        error = None if spread is None else _on_grid(dwi, spread, inside)
        levels = (quantiles or {}).get(f"{model}_{param}") or {}
        limits = {q: _on_grid(dwi, v * np.float32(scale), inside) for q, v in levels.items()}
        more = dict(details or {})
        share = (shared or {}).get(f"{model}_{param}")
        if share is not None and spread is not None and (flags == 0).any():
            more["SharedShare"] = round(share, 2)
            more["SharedStd"] = float(f"{share * np.median(spread[flags == 0]):.3g}")
        if of := (mixed or {}).get(f"{model}_{param}"):
            more["FitShare"] = round(of.share, 3)
            more["NetworkMedian"] = float(f"{of.network * scale:.3g}")
            more["FitMedian"] = float(f"{of.fit * scale:.3g}")
        maps[f"{model}_{param}"] = Map(
            model, param, data, dwi.affine, error, units, method.name, description,
            method.reference, limits or None, more,
        )  # fmt: skip
    trusted = np.zeros(int(np.prod(dwi.grid)), dtype=bool)
    trusted[inside] = flags == 0
    missing = parts[0].std is not None and all(m.std is None for m in maps.values())
    return Maps(maps, trusted.reshape(dwi.grid)), why.notes(model, flags, missing)


def _ood_and_source(
    dwi: DWI, learned: LearnedMicrostructure, method: Method, inside: NDArray[np.int64]
) -> Maps:
    """The out-of-distribution score of each voxel, and which estimate stands in it."""
    texts: dict[str, tuple[NDArray, str]] = {
        "ood": (learned.ood, "out-of-distribution score, -log10 p (3: one voxel in a thousand)"),
        "source": (
            learned.source,
            "1 network, 2 kurtosis or NODDI of network and fit combined, 3 classical fit, 0 none",
        ),
    }
    return Maps(
        {
            name: Map(
                "", name, _on_grid(dwi, values, inside), dwi.affine, method=method.name,
                description=text,
            )
            for name, (values, text) in texts.items()
        }
    )  # fmt: skip


def _on_grid(dwi: DWI, values: NDArray, inside: NDArray[np.int64]) -> NDArray[np.float32]:
    out = np.zeros((int(np.prod(dwi.grid)), *values.shape[1:]), dtype=np.float32)
    out[inside] = values
    return out.reshape(*dwi.grid, *values.shape[1:])
