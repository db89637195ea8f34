"""The stage: from a scan to maps of diffusion tensor, kurtosis and NODDI.

A model's methods stand in its table in `TABLES`; whoever adds a method writes one function and one
line there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.compute import block_size, blocks, pick_device, use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import UNITS, Map, Maps
from fornix.core.methods import Method
from fornix.microstructure import flags as why
from fornix.microstructure.design import DTI_BMAX, dti_volumes, what_can_be_estimated
from fornix.microstructure.fit import Fit, Progress, gather
from fornix.microstructure.tables import CLASSICAL_DEFAULT, TABLES

if TYPE_CHECKING:
    import torch

    from fornix.microstructure.learned import Learned

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
        "odi": "orientation dispersion index of the neurites",
        "fwf": "free-water fraction",
        "direction": "mean neurite direction in world (RAS+) axes",
        "s0": "signal without diffusion weighting from the NODDI fit",
    },
}
_FILE_SCALE = {"mm^2/s": 1e-3}  # inside µm²/ms


def microstructure(
    dwi: DWI,
    models: Sequence[str] | str = ("dti",),
    method: str = "auto",
    sigma: float | ArrayLike | None = None,
    threads: int | None = None,
    device: str | torch.device = "auto",
    max_memory: str | int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    dti_bmax: float | None = DTI_BMAX,
    std: bool = True,
    quantiles: Sequence[float] = (),
    adapt: bool = False,
) -> Maps:
    """Estimate tissue maps in every voxel of the mask, each with its standard deviation.

    models: of `dti`, `dki`, `noddi`; or `auto`: all that the protocol can give.
    method: `auto` is `learned`; `classical` each model's fit (wls, constrained, exact); or a word of
        the tables in `TABLES`: it applies to the models that have it, the others use their fit.
        `learned` sees neighbours, `voxelwise` does not; both give every model the protocol allows,
        from fewer measurements than a fit needs.
    sigma: noise standard deviation of the complex channels in units of the data, a number or a map
        (X, Y, Z); None takes `dwi.sigma`; where that is None too, a fit's residuals tell, and for
        the learned methods it is estimated from the scan.
    threads: None leaves numba's and torch's numbers as they are. Results do not depend on it, nor
        on max_memory, which limits the size of the blocks.
    device, seed: for methods that use a GPU or chance; the classical ones run on the CPU and use
        neither.
    progress: called with (voxels done, voxels in all), over all models.
    dti_bmax: `dti` uses the volumes with b <= this (s/mm²) where they give a well conditioned
        tensor, since kurtosis biases it above; None uses all.
    std: also estimate standard deviations (about a third of a fit's time).
    quantiles: levels (0.005 to 0.995) of calibrated quantile maps; learned methods only.
    adapt: fit the network's idea of this scan to the scan's own volumes first, without labels, kept
        only if volumes it was not shown are predicted better (`learn.adapt`); learned methods only.

    Returns Maps `dti_fa`, … in file units (diffusivities mm²/s), 0 outside the mask and where a
    voxel could not be estimated. `trust` is False outside the mask, where the data are bad (NaN, inf,
    all zero), where a fit's unconstrained solution is not physical or did not settle, and where a
    voxel is foreign to the network; `source` then says what stands there (1 learned, 2 learned and
    fit combined where `combination` finds that it helps, 3 classical) and `ood` how foreign each
    voxel is, in decades.
    Raises FornixError for unknown models and methods and for models that the protocol cannot give.
    """
    chosen = _choose_models(dwi, models, method)
    methods = _choose_methods(chosen, method)
    inside = np.flatnonzero(dwi.brain())
    noise = _sigma_of(dwi, sigma, inside)
    joint = [m for m in chosen if methods[m].joint]
    # Fits need no torch, which takes a second to load; only a word that it must judge does.
    where = pick_device(device) if joint or str(device) not in ("auto", "cpu") else None
    if quantiles and len(joint) < len(chosen):
        raise FornixError("quantile maps are given by the methods learned and voxelwise only")
    if adapt and not joint:
        raise FornixError(
            "only the methods learned and voxelwise adapt to a scan; leave --adapt out"
        )
    notes: list[str] = []
    result = Maps()
    total = len(inside) * len(chosen)
    with use_threads(threads):
        if joint:
            if noise is None:
                noise = _estimated_noise(dwi, inside)
            level = np.broadcast_to(np.asarray(noise, dtype=np.float64), inside.shape)
            # Blocks that stay in the caches: twice as fast as large ones.
            size = block_size(4.0 * (3 * len(dwi.gradients) + 2000), max_memory, default=4096)
            learned = methods[joint[0]].run(
                dwi,
                joint,
                methods[joint[0]].name,
                level,
                inside,
                where,
                size,
                quantiles,
                adapt,
                progress,
            )
            for model in joint:
                named = replace(methods[model], name=_label(methods[model], learned))
                maps, told = _to_maps(
                    dwi, model, named, [learned.fits[model]], inside, learned.quantiles
                )
                result = result.merged(maps)
                notes += told
            result = result.merged(_beside(dwi, learned, methods[joint[0]], inside))
            notes = learned.notes + notes
        for order, model in enumerate(chosen):
            if model in joint:
                continue
            keep = np.ones(len(dwi.gradients), dtype=bool)
            if model == "dti":
                keep, note = dti_volumes(dwi.gradients, dti_bmax)
                notes += [note] if note else []
            gradients = dwi.gradients.subset(keep)
            rows = np.flatnonzero(keep)
            size = block_size(4.0 * 8 * len(rows) + 400, max_memory, default=65536)
            parts: list[Fit] = []
            for block in blocks(len(inside), size):
                signals = gather(dwi.data, rows, inside[block])
                known = noise[block] if isinstance(noise, np.ndarray) else noise
                parts.append(methods[model].run(signals, gradients, sigma=known, std=std))
                if progress is not None:
                    progress(order * len(inside) + block.stop, total)
            maps, told = _to_maps(dwi, model, methods[model], parts, inside)
            notes += told
            result = result.merged(maps)
    return Maps(result.maps, result.trust, tuple(why.merged(notes, chosen)))


def _estimated_noise(dwi: DWI, inside: NDArray[np.int64]) -> NDArray[np.float64]:
    from fornix.preprocess import estimate_noise

    found = np.asarray(estimate_noise(dwi).sigma, dtype=np.float64)
    return np.asarray(np.broadcast_to(found, dwi.grid).reshape(-1)[inside])


def _choose_models(dwi: DWI, models: Sequence[str] | str, method: str) -> list[str]:
    learned = method == "auto" or any(method in t and t[method].joint for t in TABLES.values())
    possible = what_can_be_estimated(dwi.gradients, learned)
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
    known = {m: tuple(TABLES[m]) for m in models}
    if method == "classical":
        return {m: TABLES[m][CLASSICAL_DEFAULT[m]] for m in models}
    if method != "auto" and not any(method in known[m] for m in models):
        choices = "; ".join(f"{m}: {', '.join(known[m])}" for m in models)
        raise FornixError(f"no method {method!r} for {', '.join(models)}; there are {choices}")
    if method == "auto":
        return {m: TABLES[m][TABLES[m].default] for m in models}
    return {m: TABLES[m][method if method in known[m] else CLASSICAL_DEFAULT[m]] for m in models}


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
) -> tuple[Maps, list[str]]:
    flags = np.concatenate([p.flags for p in parts])
    maps = {}
    for param, description in DESCRIPTIONS[model].items():
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
        maps[f"{model}_{param}"] = Map(
            model, param, data, dwi.affine, error, units, method.name, description,
            method.reference, limits or None,
        )  # fmt: skip
    trusted = np.zeros(int(np.prod(dwi.grid)), dtype=bool)
    trusted[inside] = flags == 0
    missing = parts[0].std is not None and all(m.std is None for m in maps.values())
    return Maps(maps, trusted.reshape(dwi.grid)), why.notes(model, flags, missing)


def _label(method: Method, learned: Learned) -> str:
    """The method with the weights it used, as sidecars say it: `learned (spatial:0123456789ab)`."""
    return f"{method.name} ({learned.weights})"


def _beside(dwi: DWI, learned: Learned, method: Method, inside: NDArray[np.int64]) -> Maps:
    """How foreign each voxel is, and which estimate stands in it."""
    told = _label(method, learned)
    score = Map(
        "",
        "ood",
        _on_grid(dwi, learned.score, inside),
        dwi.affine,
        method=told,
        description="how foreign the voxel is to the training family, decades (3: one in a thousand)",
    )
    source = Map(
        "",
        "source",
        _on_grid(dwi, learned.source, inside),
        dwi.affine,
        method=told,
        description="1 learned estimate, 2 kurtosis or NODDI combined with the fit, 3 classical fit, 0 none",
    )
    return Maps({"ood": score, "source": source})


def _on_grid(dwi: DWI, values: NDArray, inside: NDArray[np.int64]) -> NDArray[np.float32]:
    out = np.zeros((int(np.prod(dwi.grid)), *values.shape[1:]), dtype=np.float32)
    out[inside] = values
    return out.reshape(*dwi.grid, *values.shape[1:])
