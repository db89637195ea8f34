"""Connectomes: how strongly every two regions are joined, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.analysis.along import mean_along
from fornix.analysis.parcellation import Parcellation
from fornix.core.errors import FornixError, tell
from fornix.core.tractogram import Tractogram

#: Default radius of MRtrix3's tck2connectome, mm.
RADIUS = 4.0
#: Where fewer ends than this share lie near a label, something is said.
_FEW = 0.5


@dataclass(frozen=True, eq=False)
class EdgeMatrix:
    """One quantity of every pair of nodes.

    Attributes:
        value: (K, K) symmetric; the diagonal holds streamlines that return to their own node.
        std: (K, K) standard deviation by resampling streamlines; NaN where one streamline alone tells.
        units: Of both.
    """

    value: NDArray[np.float64]
    std: NDArray[np.float64]
    units: str = "1"


@dataclass(frozen=True, eq=False)
class Connectome:
    """Edges between the nodes of a parcellation.

    Attributes:
        nodes: (K,) numbers of the nodes in the label image, ascending; rows of the matrices.
        names: (K,) their names, empty where unknown.
        volumes: (K,) mm³.
        ends: (K,) streamline ends in each.
        matrices: `count`, `sum` (of weights, where there are some), `length` (mean, mm) and the mean of
            each map by its name.
        assigned: (S, 2) place in `nodes` of the two ends of every streamline, -1 for none.
    """

    nodes: NDArray[np.int64]
    names: tuple[str, ...]
    volumes: NDArray[np.float64]
    ends: NDArray[np.int64]
    matrices: Mapping[str, EdgeMatrix]
    assigned: NDArray[np.int64]

    def __repr__(self) -> str:
        joined = int((self.assigned >= 0).all(1).sum())
        return (
            f"Connectome({len(self.nodes)} nodes, {joined:,} of {len(self.assigned):,} streamlines)"
        )


def connectome(
    tractogram: Tractogram,
    parcellation: Parcellation,
    *,
    weights: ArrayLike | None = None,
    maps: Mapping[str, tuple[NDArray[np.floating], NDArray[np.float64]]] | None = None,
    radius: float = RADIUS,
) -> Connectome:
    """Count, weigh and measure the streamlines between every two regions.

    Each end belongs to the labelled voxel whose centre is nearest, if that is nearer than `radius`.
    Streamlines with an end in no region belong to no edge.

    The standard deviations are those of the bootstrap over streamlines (as many drawn anew, with
    replacement, as there are). Sums and counts are linear in the draws, so theirs has a closed form,
    exact and free of chance: Var(sum w) = sum w² - (sum w)² / S. Means use its first-order form, the
    standard error of a ratio. They tell how far the number of streamlines limits an edge; not how far
    the tracker is wrong.

    Args:
        tractogram: World mm.
        parcellation: On any grid; looked up in world space.
        weights: (S,) weight of each streamline, as `weight` of `filter_tractogram` or SIFT2's.
        maps: (X, Y, Z) data and affine by name, each on any grid; with weights, means are weighted.
        radius: mm.

    Raises:
        FornixError: No streamlines, weights of another number, labels and streamlines apart.
    """
    count = len(tractogram)
    if not count:
        raise FornixError("the tractogram holds no streamlines; nothing can be connected")
    w = None if weights is None else _weights(weights, count)
    for name in maps or {}:
        if not name.isalnum() or name in ("count", "sum", "length"):
            raise FornixError(
                f"{name!r} cannot name a map in a file; give letters and digits, and not count, sum, length"
            )
    assigned = _assign(tractogram, parcellation, radius)
    nodes = parcellation.nodes
    size = len(nodes)
    both = (assigned >= 0).all(1)
    a, b = np.sort(assigned[both], axis=1).T
    edge = a * size + b
    ones = np.ones(len(edge))
    matrices = {"count": _total(edge, ones, size, count)}
    if w is not None:
        matrices["sum"] = _total(edge, w[both], size, count)
    share = ones if w is None else w[both]
    matrices["length"] = _mean(edge, tractogram.lengths()[both], share, size, "mm")
    for name, (data, affine) in (maps or {}).items():
        along = mean_along(tractogram, data, affine)[both]
        if len(along) and not np.isfinite(along).any():
            raise FornixError(f"no streamline runs through the map {name}; is it of this head?")
        matrices[name] = _mean(edge, along, share, size, "")
    ends = np.bincount(assigned[assigned >= 0], minlength=size)
    empty = int((ends == 0).sum())
    if empty:
        tell(f"{empty} of {size} regions hold no streamline end; their rows are 0")
    names = tuple(parcellation.names.get(int(n), "") for n in nodes)
    return Connectome(nodes, names, parcellation.volumes(), ends, matrices, assigned)


def _weights(weights: ArrayLike, count: int) -> NDArray[np.float64]:
    w = np.asarray(weights, np.float64).ravel()
    if len(w) != count:
        raise FornixError(
            f"{len(w):,} weights for {count:,} streamlines; give the weights of this tractogram"
        )
    if not np.isfinite(w).all() or (w < 0).any():
        raise FornixError("weights must be finite and not negative; repair the file of weights")
    if not w.any():
        raise FornixError("all weights are 0; give other weights")
    return w


def _assign(tractogram: Tractogram, where: Parcellation, radius: float) -> NDArray[np.int64]:
    """(S, 2) node of the two ends; says so where most ends find none."""
    offsets = tractogram.offsets
    has = np.diff(offsets) > 0
    first, last = offsets[:-1][has], offsets[1:][has] - 1
    ends = np.concatenate([tractogram.points[first], tractogram.points[last]]).astype(np.float64)
    found, _ = where.nearest(ends, radius)
    share = float((found >= 0).mean()) if len(found) else 0.0
    if share == 0:
        raise FornixError(
            f"no end of {len(has):,} streamlines lies within {radius:g} mm of a label: tractogram and "
            f"labels are not in the same place{_flipped(ends, where, radius, share)}; register one to "
            "the other"
        )
    if share < _FEW:
        tell(
            f"only {share:.0%} of the streamline ends lie within {radius:g} mm of a label"
            f"{_flipped(ends, where, radius, share)}; are tractogram and labels of the same head?"
        )
    out = np.full((len(has), 2), -1)
    out[has] = found.reshape(2, -1).T
    return out


def _flipped(ends: NDArray[np.float64], where: Parcellation, radius: float, share: float) -> str:
    """Whether the ends would fit with an axis turned round, in words."""
    centre = where.affine[:3, :3] @ ((np.array(where.labels.shape) - 1) / 2) + where.affine[:3, 3]
    some = ends[:: max(1, len(ends) // 5000)]
    best, word = share, ""
    for axis, name in enumerate(("x (left and right)", "y (front and back)", "z (up and down)")):
        turned = some.copy()
        turned[:, axis] = 2 * centre[axis] - turned[:, axis]
        there = float((where.nearest(turned, radius)[0] >= 0).mean())
        if there > max(best, share + 0.2):
            best, word = there, f" ({there:.0%} would with {name} turned round)"
    return word


def _square(values: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Upper triangle to symmetric."""
    upper = values.reshape(size, size)
    return np.asarray(upper + np.triu(upper, 1).T, np.float64)


def _total(edge: NDArray[np.int64], w: NDArray[np.float64], size: int, count: int) -> EdgeMatrix:
    total = np.bincount(edge, w, size * size).astype(np.float64)
    squares = np.bincount(edge, w**2, size * size)
    std = np.sqrt(np.maximum(squares - total**2 / count, 0))
    return EdgeMatrix(_square(total, size), _square(std, size))


def _mean(
    edge: NDArray[np.int64],
    value: NDArray[np.float64],
    w: NDArray[np.float64],
    size: int,
    units: str,
) -> EdgeMatrix:
    known = np.isfinite(value)
    edge, value, w = edge[known], value[known], w[known]
    total = np.bincount(edge, w, size * size)
    n = np.bincount(edge[w > 0], minlength=size * size)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(edge, w * value, size * size) / total
        spread = np.bincount(edge, (w * (value - mean[edge])) ** 2, size * size)
        std = np.sqrt(spread * n / (n - 1)) / total
    std[n < 2] = np.nan
    return EdgeMatrix(_square_known(mean, size), _square_known(std, size), units)


def _square_known(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """As `_square`, where NaN is a pair without streamlines."""
    upper = values.reshape(size, size)
    lower = np.tril_indices(size, -1)
    out = upper.copy()
    out[lower] = upper.T[lower]
    return out
