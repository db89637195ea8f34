"""Learned and classical estimates of the same voxels put together.

A network's standard deviation holds for tissue like that it was trained on. A scan with many measurements
shows where it does not: averaged over many voxels of like estimate, the classical fit has next to no noise
left, and what it differs by is the network's bias. That bias is added to the network's variance, and the
two are weighted by precision (a random-effects combination: DerSimonian & Laird, Control Clin Trials
1986), so that tissue unlike the training goes to the fit, and tissue it knows stays with the network.

NODDI's fit is biased too: its diffusivities are constants, and in a subject that has others its neurite
density is off as a whole, as is the network's, which has to guess them. Neither is right, so the network's
estimates are shrunk towards the fit's by the share that their errors give it. A sample of the voxels tells
the bias; the noise of the fit stays out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fornix.models.base import Fit
from fornix.nets.targets import METRICS, SPREAD
from fornix.uncertainty.fit_share import Parts

#: A parameter is reliable where the fit's median standard deviation is below this share of its spread
#: over tissue: noisier fits are biased themselves, by their noise.
RELIABLE = 0.25
#: Voxels of like estimate that show a bias, and how many such groups at most.
_GROUP, _GROUPS = 300, 12
#: How far the fit is off as a whole where a subject's constants are not those that it assumes: root mean
#: square over subjects drawn as in training (`training.data.tissue.random_subject`), noise-free. Water is
#: left out: the fit's cannot fall below 0, so that noise alone biases it.
MODEL_ERROR = {"noddi_ndi": 0.105, "noddi_odi": 0.05}
#: More free water than this leaves no neurites to compare.
_FLUID = 0.8
#: Correlation that is assumed between the errors of the two: they come from the same noise.
_SHARED = 0.5

#: By model_param and level, (n,).
Quantiles = Mapping[str, Mapping[float, NDArray[np.float32]]]


@dataclass(frozen=True, eq=False)
class Fused:
    """The outcome.

    Attributes:
        fit: Of all n voxels.
        quantiles: By model_param and level, (n,).
        where: (n,) which voxels changed.
        parts: By model_param that changed.
    """

    fit: Fit
    quantiles: Quantiles
    where: NDArray[np.bool_]
    parts: Mapping[str, Parts]


def reliable_params(classical: Fit, model: str) -> list[str]:
    """The parameters that a fit of some of the scan's voxels gives well enough to be combined."""
    found = []
    assert classical.std is not None
    usable = classical.flags == 0
    for name, spread in zip(METRICS, SPREAD, strict=True):
        of, _, param = name.partition("_")
        if of == model and param in classical.columns and usable.sum() >= _GROUP:
            error = np.nanmedian(classical.std_of(param)[usable])
            if np.isfinite(error) and error < RELIABLE * spread:
                found.append(param)
    return found


def precision_fusion(
    learned: Fit,
    classical: Fit,
    params: list[str],
    use: NDArray[np.bool_],
    quantiles: Quantiles,
    model: str,
) -> Fused:
    """Weight the network's and the fit's estimates of some parameters by their precision.

    Args:
        learned: n voxels, with standard deviations.
        classical: The same voxels.
        params: Of `reliable_params`.
        use: (n,) where both hold.
        quantiles: Of the learned estimates.
        model: Whose parameters these are.
    """
    both = use & (classical.flags == 0)
    changed = np.zeros(len(both), dtype=bool)
    values, std, limits = _copies(learned, quantiles)
    parts: dict[str, Parts] = {}
    assert classical.std is not None
    for param in params:
        column = learned.columns[param].start
        mean, own_std = values[both, column], std[both, column]
        fit, error = classical[param][both], classical.std_of(param)[both]
        fine = np.isfinite(error) & (error > 0)
        error = np.where(fine, error, np.inf)
        bias = bias_curve(mean[fine], fit[fine])(mean)
        wide = own_std**2 + bias**2
        share = wide / (wide + error**2)  # of the fit
        value = np.where(fine, mean + share * (fit - mean), mean)
        own, other = (1 - share) * np.sqrt(wide), np.where(fine, share * error, 0.0)
        spread = _together(own, other)
        for level in (limits.get(f"{model}_{param}") or {}).values():
            level[both] = value + (level[both] - mean) * spread / np.maximum(own_std, 1e-9)
        values[both, column] = value
        std[both, column] = spread
        changed[both] |= fine
        if fine.any():
            parts[f"{model}_{param}"] = Parts.of(share[fine], mean[fine], fit[fine])
    return Fused(replace(learned, values=values, std=std), limits, changed, parts)


def shrink_to_fit(
    learned: Fit,
    classical: Fit,
    sample: NDArray[np.int64],
    use: NDArray[np.bool_],
    quantiles: Quantiles,
) -> Fused:
    """Shrink neurite density and dispersion towards the fit of a sample of the voxels.

    Each is moved by the bias that estimates of its height have, times the share that precision gives the
    fit; standard deviations shrink by what the two errors leave.

    Args:
        learned: n voxels, with standard deviations.
        classical: The voxels `sample` alone.
        sample: Indices of them.
        use: (n,) which voxels are moved.
        quantiles: Of the learned estimates.
    """
    values, std, limits = _copies(learned, quantiles)
    assert classical.std is not None
    fine = (classical.flags == 0) & (learned["fwf"][sample] < _FLUID)
    if fine.sum() < _GROUP:
        return Fused(learned, quantiles, np.zeros(len(use), dtype=bool), {})
    parts: dict[str, Parts] = {}
    for name, model_error in MODEL_ERROR.items():
        param = name.partition("_")[2]
        column = learned.columns[param].start
        own = np.median(std[sample[fine], column])
        error = classical.std_of(param)[fine]
        other = np.median(error[np.isfinite(error)]) if np.isfinite(error).any() else np.inf
        share = own**2 / (own**2 + other**2 + model_error**2)  # of the fit
        left = _together((1 - share) * own, share * model_error) / own
        mean = values[use, column]
        bias = bias_curve(learned[param][sample[fine]], classical[param][fine])(mean)
        moved = np.clip(mean + share * bias, 0, 1)
        for level in (limits.get(name) or {}).values():
            level[use] = np.clip(moved + left * (level[use] - mean), 0, 1)
        parts[name] = Parts.of(share, learned[param][sample[fine]], classical[param][fine])
        values[use, column] = moved
        std[use, column] *= left
    return Fused(replace(learned, values=values, std=std), limits, use, parts)


def bias_curve(mean: NDArray, fit: NDArray) -> Callable[[NDArray], NDArray]:
    """A function from estimates to how far the fit lies from them on average, at that height."""
    groups = min(_GROUPS, len(mean) // _GROUP)
    if groups < 1:
        return lambda at: np.zeros_like(at)
    edges = np.quantile(mean, np.linspace(0, 1, groups + 1)[1:-1])
    group = np.searchsorted(edges, mean)
    bias = np.array([np.median((fit - mean)[group == g]) for g in range(groups)])
    height = np.array([np.median(mean[group == g]) for g in range(groups)])
    return lambda at: np.interp(at, height, bias)


def _copies(
    learned: Fit, quantiles: Quantiles
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, dict[float, NDArray[np.float32]]]]:
    assert learned.std is not None
    limits = {k: {q: v.copy() for q, v in levels.items()} for k, levels in quantiles.items()}
    return learned.values.copy(), learned.std.copy(), limits


def _together(own: NDArray | float, other: NDArray | float) -> NDArray:
    """Standard deviation of the sum of two correlated errors."""
    return np.asarray(np.sqrt(own**2 + other**2 + 2 * _SHARED * own * other))
