"""What every network asks of a scan before it reads a voxel."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.learn.context import Attention, Average, averages
from fornix.learn.observe import Observed, Observer
from fornix.learn.population import ENOUGH
from fornix.qspace.prior import BMAX


def known_range(dwi: DWI) -> tuple[DWI, list[str]]:
    """The scan without volumes beyond the b-values that were simulated, and a note if any were left out."""
    far = dwi.gradients.b > BMAX
    if not far.any():
        return dwi, []
    note = (
        f"{int(far.sum())} volumes above b={1000 * BMAX:.0f} s/mm² were left out: no network was "
        "trained there"
    )
    return dwi.subset(~far), [note]


def usable_noise(level: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    """Noise levels (n,), the median of the others where there is none, which is noted.

    Raises FornixError where there is none at all.
    """
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


def typical(places: NDArray[np.int64], total: int, enough: int = ENOUGH) -> NDArray[np.int64]:
    """Which of the voxels at `places` (flat indices of the grid) show what the scan is like.

    total: voxels asked for; enough: how many are to show it, roughly. They are told by their place, so
    that a bad voxel elsewhere does not change who they are; a multiplication scatters the places, so
    that no line of the grid is favoured.
    """
    every = max(1, total // enough)
    found = np.flatnonzero((places * 2654435761 >> 8) % every == 0)
    return found if len(found) else np.arange(len(places))


def around(
    dwi: DWI,
    observer: Observer,
    seen: Observed,
    voxels: NDArray[np.int64],
    attention: torch.nn.Module,
) -> list[Average]:
    """Voxels (flat indices of the grid) averaged with their like by each pass of an attention:
    coordinates (n, R) and their noise (n,)."""
    assert isinstance(attention, Attention)
    place = np.stack(np.unravel_index(voxels, dwi.grid), 1)
    x, y, z = (float(v) for v in dwi.voxel_size)
    made = averages(attention, seen, observer.encoder.variance, place, (x, y, z))
    return [(mean.to(observer.device), noise.to(observer.device)) for mean, noise in made]
