"""What is measured along a tract: values at nodes from one end to the other, each with its error.

No streamlines are needed: every voxel of a tract knows how far along the tract it lies. A node is a weighted
mean over the voxels about its place, weighted by the tract's probability and thereby by its core, as
AFQ weights by the distance from the core (Yeatman et al., PLoS ONE 2012).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.maps import Map
from fornix.register.grids import Lattice
from fornix.tracts.segment import FoundTract, TractMaps

Array = NDArray[np.float64]

#: Nodes of a profile unless another number is asked for.
NODES = 100
#: mm over which a tract's uncertainty goes together, and its size in log-odds.
_PATCH, _DOUBT = 8.0, 0.7
#: mm by which a voxel's place along the tract is unsure.
_SLIDE = 1.0
_DRAWS = 24
#: Voxels whose noise goes together after interpolation and spatial estimators.
_TOGETHER = 4.0
#: Voxels that a node has at least, and how often its reach grows by 1.4 to have them.
_LEAST, _WIDEN = 3.0, 10
#: Parts that the way between two nodes is divided into.
_BINS = 4


@dataclass(frozen=True, eq=False)
class Profile:
    """One map along one tract.

    Attributes:
        tract: Its name.
        map: The map's name, for example `dti_fa`.
        value: (nodes,) NaN where the tract is not there.
        std: (nodes,) standard deviation of the error: of the map's noise, of what all voxels share, of
            where the tract lies.
        reason: Why values are missing; empty where none are.
    """

    tract: str
    map: str
    value: Array
    std: Array
    reason: str = ""


def tract_profiles(
    tracts: TractMaps, maps: Mapping[str, Map], *, nodes: int = NODES, seed: int = 0
) -> list[Profile]:
    """Profiles of scalar maps along every tract.

    Args:
        tracts: From `segment_tracts`.
        maps: Scalars by name, on the tracts' grid.
        nodes: From the tract's beginning to its end.
        seed: Of the draws by which a tract's place is varied.

    Returns:
        One profile of each map of each tract, absent ones too.
    """
    flat = {name: m for name, m in maps.items() if m.data.ndim == 3}
    made = []
    waves = _Waves.of(tracts.lattice, seed)
    for name, found in tracts.found.items():
        if found.state == "absent":
            none = np.full(nodes, np.nan)
            made += [Profile(name, m, none, none, found.reason) for m in flat]
            continue
        made += _of_tract(name, found, flat, tracts.lattice, nodes, waves)
    return made


def length_of(found: FoundTract, lattice: Lattice, bins: int = 20) -> float:
    """Mm from a tract's beginning to its end, along the middles of its parts."""
    weight = found.probability.astype(np.float64) ** 2
    points = _points(found, lattice)
    part = np.minimum((found.tract.along * bins).astype(int), bins - 1)
    total = np.bincount(part, weight, bins)
    sums = np.stack([np.bincount(part, weight * p, bins) for p in points.T], 1)
    middles = sums[total > 0] / total[total > 0, None]
    if len(middles) < 2:
        return float(lattice.spacing.mean())
    inner = float(np.linalg.norm(np.diff(middles, axis=0), axis=1).sum())
    return inner * bins / max(len(middles) - 1, 1)


def _points(found: FoundTract, lattice: Lattice) -> Array:
    voxel = np.stack(np.unravel_index(found.tract.voxels, lattice.shape), 1)
    return np.asarray(voxel @ lattice.affine[:3, :3].T + lattice.affine[:3, 3])


def _of_tract(
    name: str, found: FoundTract, maps: Mapping[str, Map], lattice: Lattice, nodes: int,
    waves: _Waves,
) -> list[Profile]:  # fmt: skip
    length = length_of(found, lattice)
    cells = waves.cells(found.tract.voxels, lattice)
    p = found.probability.clip(1e-4, 1 - 1e-4)
    odds = np.log(p / (1 - p))
    along = found.tract.along.astype(np.float64)
    bins = _BINS * nodes
    core = _core(found.probability.astype(np.float64))
    width = max(0.6 / nodes, 0.5 * float(lattice.spacing.mean()) / length)
    place = _place(along, bins)
    kernel = _kernel(nodes, bins, width, _sums(place, core, bins))
    drawn = []
    for doubt, slide in zip(waves.doubt, waves.slide):
        doubted = _core(1 / (1 + np.exp(-(odds + _DOUBT * doubt[cells]))))
        slid = along + _SLIDE / length * slide[cells]
        drawn.append((doubted, _place(slid, bins)))
    made = []
    for label, m in maps.items():
        values = m.data.reshape(-1)[found.tract.voxels].astype(np.float64)
        good = np.isfinite(values)
        values = np.where(good, values, 0)
        total = kernel @ _sums(place, core * good, bins)
        total = np.where(total > 0, total, np.nan)
        mean = kernel @ _sums(place, core * good * values, bins) / total
        others = []
        for weight, at in drawn:
            some = kernel @ _sums(at, weight * good, bins)
            sums = kernel @ _sums(at, weight * good * values, bins)
            others.append(sums / np.where(some > 1e-9, some, np.nan))
        variance = np.nanvar(np.stack(others), 0) + shared_variance(m)
        if m.std is not None:
            spread = np.nan_to_num(m.std.reshape(-1)[found.tract.voxels].astype(np.float64))
            noise = _sums(place, (core * good * spread) ** 2, bins)
            variance = variance + _TOGETHER * (kernel**2 @ noise) / total**2
        missing = np.isnan(mean)
        reason = found.reason or ("no voxels about some nodes" if missing.any() else "")
        made.append(
            Profile(name, label, mean, np.where(missing, np.nan, np.sqrt(variance)), reason)
        )
    return made


def _core(probability: Array) -> Array:
    """(n,) weight of each voxel: the tract's core counts most."""
    return np.asarray(probability**2 * (probability > 0.1))


def _sums(place: NDArray[np.int64], values: Array, bins: int) -> Array:
    """(bins,) sum of the values in each part of the way."""
    return np.asarray(np.bincount(place, values, bins), np.float64)


def _place(along: Array, bins: int) -> NDArray[np.int64]:
    return np.asarray(np.clip((along * bins).astype(np.int64), 0, bins - 1))


def _kernel(nodes: int, bins: int, width: float, weight: Array) -> Array:
    """(nodes, bins) weights of places along the tract about each node; wider where few voxels are near.

    Few are near the ends: a voxel's place is a mean over the streamlines that cross it.
    """
    if nodes == 1:
        return np.ones((1, bins))
    middles = (np.arange(bins) + 0.5) / bins
    away = middles[None] - np.linspace(0, 1, nodes)[:, None]
    widths = np.full(nodes, width)
    made = np.exp(-0.5 * (away / width) ** 2)
    for _ in range(_WIDEN):
        few = made @ weight < _LEAST
        if not few.any():
            break
        widths[few] *= 1.4
        made[few] = np.exp(-0.5 * (away[few] / widths[few, None]) ** 2)
    return np.asarray(made)


@dataclass(frozen=True, eq=False)
class _Waves:
    """Smooth random fields of standard deviation 1, the same for all tracts of a draw: heads err as a whole.

    doubt, slide: (draws, cells), each of spread 1. step: voxels of a cell, (3,). shape: cells.
    """

    doubt: Array
    slide: Array
    step: Array
    shape: tuple[int, ...]

    @classmethod
    def of(cls, lattice: Lattice, seed: int) -> _Waves:
        rng = np.random.default_rng(seed)
        step = np.maximum(_PATCH / 2 / lattice.spacing, 1)
        shape = tuple(int(n) for n in np.ceil(np.array(lattice.shape) / step).astype(int) + 1)
        fields = np.empty((2 * _DRAWS, *shape))
        for field in fields:
            field[:] = ndimage.gaussian_filter(
                rng.standard_normal(shape), _PATCH / lattice.spacing / step, mode="wrap"
            )
        flat = fields.reshape(len(fields), -1)
        flat /= flat.std(1, keepdims=True)
        return cls(flat[:_DRAWS], flat[_DRAWS:], step, shape)

    def cells(self, voxels: NDArray[np.int64], lattice: Lattice) -> NDArray[np.int64]:
        """The cell of each flat voxel."""
        where = np.stack(np.unravel_index(voxels, lattice.shape)) / self.step[:, None]
        return np.asarray(np.ravel_multi_index(tuple(np.rint(where).astype(int)), self.shape))


def shared_variance(m: Map) -> float:
    """Variance of a map's values that all voxels share, so that no averaging removes it."""
    return float(m.details.get("SharedStd", 0.0)) ** 2
