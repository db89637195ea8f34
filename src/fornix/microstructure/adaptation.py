"""What the learned estimators see beyond a voxel: its neighbours, and the scan as a whole."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.signals import Signals
from fornix.learn import adapt
from fornix.learn import weights as shipped
from fornix.learn.context import Average
from fornix.learn.estimator import Estimator
from fornix.learn.features import extract
from fornix.learn.observe import Observed, Observer
from fornix.learn.scan import around

#: Voxels that are averaged with their neighbours for an adaptation, and voxels it is fitted to.
_BAND, _SAMPLE = 30_000, 2048


def neighbours(
    dwi: DWI, observer: Observer, seen: Observed, voxels: NDArray[np.int64]
) -> list[Average]:
    """Every voxel averaged with its like by each pass: coordinates (n, R) and their noise (n,)."""
    return around(dwi, observer, seen, voxels, shipped.network(shipped.load("context")))


def to_scan(
    estimator: Estimator,
    dwi: DWI,
    method: str,
    signals: NDArray[np.float32] | Signals,
    sigma: NDArray[np.float64],
    voxels: NDArray[np.int64],
    device: torch.device,
) -> tuple[torch.Tensor, str]:
    """The shift (P,) that fits a network to a scan, 0 where it does not help, and a line on it.

    signals: (n, N) of the usable voxels (flat indices of the grid), sigma (n,) their noise.
    """
    lots = adapt.parts(dwi.gradients)
    if not lots:
        nothing = torch.zeros(estimator.network.population.places, device=device)
        return nothing, (
            f"not adapted: {len(dwi.gradients)} volumes are too few to hide a part of them"
        )
    # A band of whole slices about the middle, so that its voxels have their neighbours.
    middle = len(voxels) // 2
    band = slice(max(0, middle - _BAND // 2), middle + _BAND // 2)
    signals, sigma, voxels = signals[band], sigma[band], voxels[band]
    some = np.random.default_rng(602).permutation(len(voxels))[:_SAMPLE]
    chosen = torch.as_tensor(np.sort(some), device=device)
    folds = [_fold(dwi, method, signals, sigma, voxels, lot, chosen, device) for lot in lots]
    made = adapt.adapt(estimator.network, folds)
    return made.shift, made.note


@torch.no_grad()
def _fold(
    dwi: DWI,
    method: str,
    signals: NDArray[np.float32],
    sigma: NDArray[np.float64],
    voxels: NDArray[np.int64],
    hidden: NDArray[np.int64],
    chosen: torch.Tensor,
    device: torch.device,
) -> adapt.Fold:
    shown = np.setdiff1d(np.arange(len(dwi.gradients)), hidden)
    observer = Observer(dwi.gradients.subset(shown), device)
    seen = observer.observe(np.ascontiguousarray(signals[:, shown]), sigma)
    wide = neighbours(dwi, observer, seen, voxels) if method == "learned" else []
    part = seen.take(chosen)
    near = tuple(observer.averaged(part, mean[chosen], left[chosen]) for mean, left in wide)
    measured = torch.as_tensor(signals[np.ix_(chosen.cpu().numpy(), hidden)], device=device)
    return adapt.Fold(
        extract(observer, part, near), observer.encoder, dwi.gradients.subset(hidden),
        measured / part.scale[:, None], part.sigma,
    )  # fmt: skip
