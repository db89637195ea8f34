"""The orientation networks fitted to a scan by the scan's own volumes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.learn.adapt import parts
from fornix.learn.fod_adapt import FodFold, adapt_fod
from fornix.orientation.reading import Scene, scene_of

#: Voxels that are averaged with their neighbours for an adaptation, and voxels it is fitted to.
_BAND, _SAMPLE = 30_000, 2048


def to_scan(dwi: DWI, method: str, scene: Scene) -> tuple[torch.Tensor, str]:
    """The shift (P,) of what the network takes the scan to be, 0 where it does not help, and a line."""
    device = scene.observer.device
    lots = parts(dwi.gradients)
    if not lots:
        nothing = torch.zeros(scene.network.population.places, device=device)
        return nothing, (
            f"not adapted: {len(dwi.gradients)} volumes are too few to hide a part of them"
        )
    # A band of whole slices about the middle, so that its voxels have their neighbours.
    middle = len(scene.voxels) // 2
    band = slice(max(0, middle - _BAND // 2), middle + _BAND // 2)
    count = len(scene.voxels[band])
    chosen = np.sort(np.random.default_rng(603).permutation(count)[:_SAMPLE])
    made = adapt_fod(scene.network, [_fold(dwi, method, scene, lot, band, chosen) for lot in lots])
    return made.shift, made.note


@torch.no_grad()
def _fold(
    dwi: DWI,
    method: str,
    scene: Scene,
    hidden: NDArray[np.int64],
    band: slice,
    chosen: NDArray[np.int64],
) -> FodFold:
    shown = np.setdiff1d(np.arange(len(dwi.gradients)), hidden)
    signals, sigma, voxels = scene.signals[band], scene.sigma[band], scene.voxels[band]
    device = scene.observer.device
    part = scene_of(
        dwi.subset(shown), method, np.ascontiguousarray(signals[:, shown]), sigma, voxels, device
    )
    seen = part.observer.observe(part.signals[chosen], sigma[chosen])
    measured = torch.as_tensor(signals[np.ix_(chosen, hidden)], device=device)
    return FodFold(
        part.features(chosen), dwi.gradients.subset(hidden), measured / seen.scale[:, None],
        seen.sigma,
    )  # fmt: skip
