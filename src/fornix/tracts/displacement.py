"""Which tracts lie elsewhere than in the other half of the brain: pushed aside by something.

People's heads differ, but mostly alike on both sides: what the registration moves on one side alone, beyond
any affine map, is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.register.warp import HeadMap
from fornix.tracts.atlas import Tract, TractSet
from fornix.tracts.evidence import STATIONS, station_of

Array = NDArray[np.float64]

#: Share of the atlas from which a voxel is a tract's core, and voxels of a station that is looked at.
_CORE, _FEWEST = 0.3, 5


@dataclass(frozen=True)
class Displacement:
    """Where a tract lies most unlike its place on the other side.

    Attributes:
        distance: mm.
        low: Where that stretch begins, as a share of the tract's course.
        high: Where it ends.
    """

    distance: float
    low: float
    high: float


def displacements(atlas: TractSet, names: Iterable[str], warp: HeadMap) -> dict[str, Displacement]:
    """The largest displacement of each tract against its mirror image.

    Args:
        atlas: In MNI space, where x = 0 parts the halves.
        names: Of its tracts.
        warp: From `register(head, template)`.
    """
    points = atlas.lattice.points().reshape(-1, 3)
    cores = {name: _core(atlas.tracts[name]) for name in names}
    used = np.unique(np.concatenate([core[0] for core in cores.values()]))
    own = points[torch.from_numpy(used)]
    mirrored = own * torch.tensor([-1.0, 1, 1])
    moved = [warp.to_moving(p).numpy().astype(np.float64) for p in (own, mirrored)]
    linear = _affine(np.concatenate([own, mirrored]), np.concatenate(moved))
    here, there = (_residual(p.numpy(), m, linear) for p, m in zip((own, mirrored), moved))
    there = there * np.array([-1.0, 1, 1])
    place = np.zeros(len(points), np.int64)
    place[used] = np.arange(len(used))
    return {name: _largest(here[place[v]], there[place[v]], s) for name, (v, s) in cores.items()}


def _core(tract: Tract) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    kept = tract.share > min(_CORE, float(tract.share.max()) / 2)
    return tract.voxels[kept], station_of(tract.along[kept])


def _affine(source: Array, target: Array) -> Array:
    """(4, 3) least-squares affine map of points (n, 3) onto points."""
    return np.asarray(np.linalg.lstsq(np.c_[source, np.ones(len(source))], target, rcond=None)[0])


def _residual(source: Array, target: Array, linear: Array) -> Array:
    """What an affine map leaves, (n, 3) mm, turned back to the atlas's axes."""
    left = target - np.c_[source, np.ones(len(source))] @ linear
    return np.asarray(left @ np.linalg.inv(linear[:3]))


def _largest(here: Array, there: Array, station: NDArray[np.int64]) -> Displacement:
    """Of the stations' mean displacements here and mirrored; 0 where the other side moved more."""
    count = np.bincount(station, minlength=STATIONS)
    own, other = (
        np.stack([np.bincount(station, a, STATIONS) for a in values.T], 1)
        / np.maximum(count, 1)[:, None]
        for values in (here, there)
    )
    moved = np.linalg.norm(own, axis=1) > np.linalg.norm(other, axis=1)
    size = np.linalg.norm(own - other, axis=1) * moved * (count >= _FEWEST)
    at = int(size.argmax())
    return Displacement(float(size[at]), at / STATIONS, (at + 1) / STATIONS)
