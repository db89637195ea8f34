"""Where a scan is rich: the learned estimate and the classical fit, weighted by their precision.

A network's standard deviation holds for tissue like that it was trained on. A rich scan shows where it
does not: averaged over many voxels of like estimate, the classical fit has next to no noise left, and
what it differs by is the network's lean. That lean is added to the network's variance, and the two are
weighted by precision (a random-effects combination: DerSimonian & Laird, Control Clin Trials 1986),
so that tissue foreign to the network goes to the fit, and tissue it knows stays with the network.

NODDI's fit leans too: its diffusivities are constants, and in a head that has others its neurite
density is off as a whole, as is the network's, which has to guess them. Neither is right, so the
network's estimates are drawn to the fit's by the share that their errors give it. A sample of the
voxels tells the lean; the noise of the fit stays out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fornix.learn.targets import METRICS, SPREAD
from fornix.microstructure.fit import Fit

#: A metric is rich where the fit's median standard deviation is below this share of the metric's
#: spread over tissue: noisier fits lean themselves, by their noise.
RICH = 0.25
#: Voxels of like estimate that show a lean, and how many such groups at most.
_GROUP, _GROUPS = 300, 12
#: How far the fit is off as a whole where a head's constants are not those that it assumes: root mean
#: square over heads drawn as in training (`learn.bank.random_head`), noise-free. Water is left out: the
#: fit's cannot fall below 0, so that noise alone makes it lean.
MODEL_ERROR = {"noddi_ndi": 0.105, "noddi_odi": 0.05}
#: More free water than this leaves no neurites to compare.
_FLUID = 0.8
#: Correlation that is assumed between the errors of the two: they come from the same noise.
_SHARED = 0.5


def rich(classical: Fit, model: str) -> list[str]:
    """The parameters that a fit of some of the scan's voxels gives well enough to be combined."""
    found = []
    assert classical.std is not None
    usable = classical.flags == 0
    for name, spread in zip(METRICS, SPREAD, strict=True):
        of, _, param = name.partition("_")
        if of == model and param in classical.columns and usable.sum() >= _GROUP:
            error = np.nanmedian(classical.std_of(param)[usable])
            if np.isfinite(error) and error < RICH * spread:
                found.append(param)
    return found


def combine(
    learned: Fit,
    classical: Fit,
    params: list[str],
    use: NDArray[np.bool_],
    quantiles: dict[str, dict[float, NDArray[np.float32]]],
    model: str,
) -> NDArray[np.bool_]:
    """Put the combination into `learned` and its quantiles (by model_param and level), in place.

    learned, classical: of the same n voxels; use: (n,) where both hold. params: of `rich`.
    Returns (n,) where something was combined.
    """
    both = use & (classical.flags == 0)
    done = np.zeros(len(both), dtype=bool)
    assert learned.std is not None and classical.std is not None
    for param in params:
        column = learned.columns[param].start
        mean, std = learned.values[both, column], learned.std[both, column]
        fit, error = classical[param][both], classical.std_of(param)[both]
        fine = np.isfinite(error) & (error > 0)
        error = np.where(fine, error, np.inf)
        lean = _lean(mean[fine], fit[fine])(mean)
        wide = std**2 + lean**2
        share = wide / (wide + error**2)  # of the fit
        value = np.where(fine, mean + share * (fit - mean), mean)
        own, other = (1 - share) * np.sqrt(wide), np.where(fine, share * error, 0.0)
        spread = _together(own, other)
        for limits in (quantiles.get(f"{model}_{param}") or {}).values():
            limits[both] = value + (limits[both] - mean) * spread / np.maximum(std, 1e-9)
        learned.values[both, column] = value
        learned.std[both, column] = spread
        done[both] |= fine
    return done


def draw(
    learned: Fit,
    classical: Fit,
    sample: NDArray[np.int64],
    use: NDArray[np.bool_],
    quantiles: dict[str, dict[float, NDArray[np.float32]]],
) -> NDArray[np.bool_]:
    """Draw density and dispersion of `learned` (n voxels) and their quantiles to the fit, in place.

    classical: of the voxels `sample` alone. use: (n,) which are drawn. Each is moved by the lean that
    estimates of its height have, times the share that precision gives the fit; standard deviations
    shrink by what the two errors leave. Returns (n,) where something was moved.
    """
    none = np.zeros(len(use), dtype=bool)
    assert learned.std is not None and classical.std is not None
    fine = (classical.flags == 0) & (learned["fwf"][sample] < _FLUID)
    if fine.sum() < _GROUP:
        return none
    for name, model_error in MODEL_ERROR.items():
        param = name.partition("_")[2]
        column = learned.columns[param].start
        own = np.median(learned.std[sample[fine], column])
        error = classical.std_of(param)[fine]
        other = np.median(error[np.isfinite(error)]) if np.isfinite(error).any() else np.inf
        share = own**2 / (own**2 + other**2 + model_error**2)  # of the fit
        left = _together((1 - share) * own, share * model_error) / own
        mean = learned.values[use, column]
        way = share * _lean(learned[param][sample[fine]], classical[param][fine])(mean)
        moved = np.clip(mean + way, 0, 1)
        for limits in (quantiles.get(name) or {}).values():
            limits[use] = np.clip(moved + left * (limits[use] - mean), 0, 1)
        learned.values[use, column] = moved
        learned.std[use, column] *= left
    return use


def _together(own: NDArray | float, other: NDArray | float) -> NDArray:
    """Standard deviation of the sum of two correlated errors."""
    return np.asarray(np.sqrt(own**2 + other**2 + 2 * _SHARED * own * other))


def _lean(mean: NDArray, fit: NDArray) -> Callable[[NDArray], NDArray]:
    """A function from estimates to how far the fit lies from them on average, at that height."""
    groups = min(_GROUPS, len(mean) // _GROUP)
    if groups < 1:
        return lambda at: np.zeros_like(at)
    edges = np.quantile(mean, np.linspace(0, 1, groups + 1)[1:-1])
    group = np.searchsorted(edges, mean)
    lean = np.array([np.median((fit - mean)[group == g]) for g in range(groups)])
    height = np.array([np.median(mean[group == g]) for g in range(groups)])
    return lambda at: np.interp(at, height, lean)
