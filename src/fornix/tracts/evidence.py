"""What speaks for a tract in a voxel: where it usually lies, how fibres run here and further along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fornix.register.features import Features
from fornix.register.grids import blurred
from fornix.tracts.atlas import Tract

Array = NDArray[np.float32]

#: mm, of the Gaussians that a voxel's surroundings are seen through; the first is the voxel itself.
SCALES = (0.0, 2.5, 5.0)
#: Places along a tract at which its course is judged.
STATIONS = 12
#: Below this diffusion along a tract, hardly any of its fibres can be there.
_LITTLE = 0.1
#: Of each scale.
_LOCAL = (
    "diffusion along the tract", "the same where it is little", "FA", "share of FA along the tract",
    "grey matter", "white matter", "fluid",
)  # fmt: skip
#: Of a tract's station.
_STATION = ("diffusion along the tract", "FA", "white matter", "fluid")
#: Columns of `evidence`.
FEATURES = (
    *(f"{name}, {scale:g} mm" for scale in SCALES for name in _LOCAL),
    "usual place", "usual place, 5 mm", "usual end", "usual end in grey matter", "deep grey matter",
    "place along the tract", "distance from its ends",
    *(f"{name} at this station" for name in _STATION),
    "diffusion along the whole tract", "the same at its weakest station", "FA of the white matter",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A head as `evidence` reads it; made once for all tracts.

    Attributes:
        shape: (S, 6, V) trace-free tensors at each of SCALES, world axes; V voxels of the grid.
        tissue: (S, 4, V) cortical and cerebellar grey, deep grey, white matter with the brainstem, fluid.
        white_fa: Mean FA of the white matter.
        grid: (X, Y, Z).
        spacing: (3,) mm.
    """

    shape: Array
    tissue: Array
    white_fa: float
    grid: tuple[int, int, int]
    spacing: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Course:
    """A tract's stations, from its beginning to its end, as a head shows them.

    Attributes:
        means: (STATIONS, 4) of _STATION, weighted by the tract's share; of the nearest station where it has
            no voxel.
        weight: (STATIONS,) sums of the share.
    """

    means: Array
    weight: Array


def surroundings(head: Features) -> Surroundings:
    """Blur a head's tensors and tissues by each of SCALES."""
    cortical, deep, white, fluid, cerebellum, stem = head.tissue
    tissue = torch.stack([cortical + cerebellum, deep, white + stem, fluid])
    images = torch.cat([head.shape, tissue])
    made = np.stack(
        [blurred(images, s / head.lattice.spacing).reshape(len(images), -1).numpy() for s in SCALES]
    )
    fa = _norm(made[0, :6])
    weight = made[0, 8]
    mean = float((fa * weight).sum() / max(float(weight.sum()), 1e-6))
    return Surroundings(made[:, :6], made[:, 6:], mean, head.lattice.shape, head.lattice.spacing)


def evidence(around: Surroundings, tract: Tract) -> Array:
    """Features (n, len(FEATURES)) of the voxels where a carried tract may lie.

    Args:
        around: Of the scan.
        tract: On the scan's grid, from `carry`.
    """
    columns: list[Array] = []
    for scale in range(len(SCALES)):
        along, fa, tissue = _local(around, tract, scale)
        columns += [
            along, np.minimum(along, _LITTLE), fa, along / (fa + 0.05), tissue[0] + tissue[1], tissue[2],
            tissue[3],
        ]  # fmt: skip
    here = around.tissue[0][:, tract.voxels]
    end = tract.ends.max(1) if len(tract.voxels) else np.zeros(0, np.float32)
    columns += [
        _odds(tract.share), _odds(_wide_share(around, tract)), end, end * (here[0] + here[1]), here[1],
        tract.along, np.minimum(tract.along, 1 - tract.along),
    ]  # fmt: skip
    course = course_of(around, tract)
    columns += list(_at_stations(course.means, tract.along).T)
    whole = float((course.means[:, 0] * course.weight).sum() / max(course.weight.sum(), 1e-6))
    for value in (whole, float(course.means[1:-1, 0].min()), around.white_fa):
        columns.append(np.full(len(tract.voxels), value, np.float32))
    return np.asarray(np.stack(columns, 1), np.float32)


def course_of(around: Surroundings, tract: Tract) -> Course:
    """How a tract's stations look in a head."""
    along, fa, tissue = _local(around, tract, 0)
    # Rims of the usual place hold other tracts' voxels: its core speaks for it.
    core = np.maximum(tract.share - 0.2, 0)
    station = station_of(tract.along)
    weight = np.bincount(station, core, STATIONS)
    sums = np.stack(
        [np.bincount(station, core * v, STATIONS) for v in (along, fa, tissue[2], tissue[3])], 1
    )
    held = np.flatnonzero(weight > 0)
    if not len(held):
        return Course(np.zeros((STATIONS, 4), np.float32), weight.astype(np.float32))
    nearest = held[np.abs(np.arange(STATIONS)[:, None] - held).argmin(1)]
    means = (sums[held] / weight[held, None])[np.searchsorted(held, nearest)]
    return Course(means.astype(np.float32), weight.astype(np.float32))


def station_of(along: Array) -> NDArray[np.int64]:
    """The station (n,) of each place along a tract."""
    return np.minimum((along * STATIONS).astype(np.int64), STATIONS - 1)


def left_of(along: Array, share: Array, probability: Array) -> Array:
    """What is left of a tract at each station, as a share of what the atlas expects there: (STATIONS,).

    About 1 where it is whole, 0 where nothing of it is there; NaN at stations that the atlas leaves empty.

    Args:
        along: (n,) place of each voxel along the tract.
        share: (n,) of the atlas.
        probability: (n,) that the voxel is the tract's.
    """
    station = station_of(along)
    expected = np.bincount(station, share, STATIONS)
    found = np.bincount(station, probability, STATIONS)
    some = expected > 0.02 * expected.sum()
    return np.where(some, found / np.maximum(expected, 1e-6), np.nan).astype(np.float32)


def support_of(around: Surroundings, tract: Tract) -> float:
    """How well the fibres run along a tract in its core: mean diffusion along it, weighted by its share.

    With random fibres it is about 0, as the shape tensor has no trace.
    """
    along, _, _ = _local(around, tract, 0)
    weight = np.maximum(tract.share - 0.4, 0)
    return float((weight * along).sum() / max(weight.sum(), 1e-6))


def _local(around: Surroundings, tract: Tract, scale: int) -> tuple[Array, Array, Array]:
    """Diffusion along the tract (n,), FA (n,) and tissues (4, n) of its voxels at a scale."""
    a = around.shape[scale][:, tract.voxels]
    x, y, z = tract.direction.T
    diagonal = a[0] * x * x + a[1] * y * y + a[2] * z * z
    along = diagonal + 2 * (a[3] * x * y + a[4] * x * z + a[5] * y * z)
    return along, _norm(a), around.tissue[scale][:, tract.voxels]


def _norm(shape: Array) -> Array:
    return np.asarray(np.sqrt((shape[:3] ** 2).sum(0) + 2 * (shape[3:] ** 2).sum(0)), np.float32)


def _odds(share: Array) -> Array:
    share = share.clip(0.02, 0.98)
    return np.asarray(np.log(share / (1 - share)), np.float32)


def _wide_share(around: Surroundings, tract: Tract) -> Array:
    """The share blurred by the last of SCALES: how deep inside of its usual place a voxel lies."""
    if not len(tract.voxels):
        return np.zeros(0, np.float32)
    where = np.stack(np.unravel_index(tract.voxels, around.grid), 1)
    low = where.min(0)
    box = np.zeros(tuple(where.max(0) - low + 1), np.float32)
    place = tuple((where - low).T)
    box[place] = tract.share
    sigma = SCALES[-1] / around.spacing
    wide = ndimage.gaussian_filter(box, sigma, mode="constant", truncate=3.0)
    return np.asarray(wide[place], np.float32)


def _at_stations(means: Array, along: Array) -> Array:
    """Stations' values (STATIONS, C) at places along the tract, linear: (n, C)."""
    at = (along * STATIONS - 0.5).clip(0, STATIONS - 1)
    low = np.minimum(at.astype(np.int64), STATIONS - 2)
    part = (at - low)[:, None]
    return np.asarray(means[low] * (1 - part) + means[low + 1] * part, np.float32)
