"""From streamlines to what a voxel holds: densities, axes, up to three fibre populations.

Streamlines are cut into short pieces; the pieces in a voxel give a bundle's density there (mm of
streamline) and the mean of u uᵀ over their directions u, whose first eigenvector is the bundle's axis
and whose first eigenvalue tells how far it fans out. Bundles that run nearly alike in a voxel make one
population.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks
from fornix.core.grid import flat_voxels
from fornix.physics import watson

Floats = NDArray[np.float64]

#: Bundles closer than this are one population.
MERGE_DEGREES = 30.0
#: Populations below this share of the neural tissue are left out.
SMALLEST_SHARE = 0.08
#: Pieces of a streamline are at most this share of the smallest voxel edge.
PIECE = 0.4
#: A voxel as dense as this percentile of a bundle's voxels counts as full of it.
FULL = 75.0


@dataclass(frozen=True, eq=False)
class Visits:
    """Where one bundle runs.

    Attributes:
        voxels: (V,) flat indices into the grid, ascending.
        density: (V,) mm of streamline in each.
        dyads: (V, 3, 3) mean of u uᵀ over its directions in world axes, trace 1.
    """

    voxels: NDArray[np.int64]
    density: Floats
    dyads: Floats

    def axes(self) -> Floats:
        """(V, 3) unit axes in world space, sign arbitrary."""
        return np.asarray(np.linalg.eigh(self.dyads)[1][:, :, -1])

    def fill(self) -> Floats:
        """(V,) how full of the bundle each voxel is, 0 to 1."""
        if not len(self.density):
            return self.density
        return np.minimum(self.density / np.percentile(self.density, FULL), 1.0)


def visits(
    points: NDArray[np.floating],
    offsets: NDArray[np.int64],
    affine: Floats,
    grid: tuple[int, int, int],
) -> Visits:
    """The voxels that streamlines pass through, their density and directions.

    points (P, 3) world mm; offsets (S + 1,) where each streamline begins. Pieces outside the grid do
    not count.
    """
    points = np.asarray(points, dtype=np.float64)
    joined = np.ones(max(len(points) - 1, 0), bool)
    inner = offsets[1:-1]
    joined[inner[(inner > 0) & (inner < len(points))] - 1] = False
    first = np.flatnonzero(joined)
    step = points[first + 1] - points[first]
    length = np.linalg.norm(step, axis=1)
    first, step, length = first[length > 0], step[length > 0], length[length > 0]
    finest = PIECE * float(np.linalg.norm(affine[:3, :3], axis=0).min())
    pieces = np.maximum(np.ceil(length / finest), 1).astype(np.int64)
    row = np.repeat(np.arange(len(first)), pieces)
    place = (np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + 0.5) / pieces[
        row
    ]
    flat, inside = flat_voxels(points[first][row] + place[:, None] * step[row], affine, grid)
    row, flat = row[inside], flat[inside]
    voxels, where = np.unique(flat, return_inverse=True)
    weight = (length / pieces)[row]
    unit = (step / length[:, None])[row]
    density = np.bincount(where, weight, len(voxels)).astype(np.float64)
    dyads = np.empty((len(voxels), 3, 3))
    for i in range(3):
        for j in range(i, 3):
            total = np.bincount(where, weight * unit[:, i] * unit[:, j], len(voxels))
            dyads[:, i, j] = dyads[:, j, i] = total / density
    return Visits(voxels, density, dyads)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Fibres that may run in a voxel, many rows per voxel.

    Attributes:
        voxels: (E,) row of the voxel among those asked for.
        source: (E,) which bundle.
        weight: (E,).
        dyads: (E, 3, 3) trace 1.
        odi: (E,) dispersion within a piece of fibre.
    """

    voxels: NDArray[np.int64]
    source: NDArray[np.int64]
    weight: Floats
    dyads: Floats
    odi: Floats


def populations(found: Candidates, count: int) -> tuple[Floats, Floats, Floats]:
    """Up to three populations of each of `count` voxels: mu (n, 3, 3), fraction (n, 3), odi (n, 3).

    The strongest candidate takes in all within MERGE_DEGREES of it, then the next of those left.
    A population's weight is the root of the sum of squares of its members': bundles of an atlas
    overlap (the callosum and its parts), and a sum would let names outweigh fibres. Dispersion joins
    that of the members with how far they differ from one another.
    """
    grid = np.linspace(1, 0, 4001)
    w2 = watson.moments(torch.as_tensor(grid.copy()), 2)[:, 1].numpy()
    order = np.argsort(found.voxels, kind="stable")
    voxels = found.voxels[order]
    sources = int(found.source.max()) + 1 if len(order) else 1
    mu = np.tile(np.array([0.0, 0.0, 1.0]), (count, 3, 1))
    weight, spread = np.zeros((count, 3)), np.full((count, 3), 1.0)
    for part in blocks(count, 4096):
        low, high = np.searchsorted(voxels, [part.start, part.stop])
        rows = order[low:high]
        at = (found.voxels[rows] - part.start, found.source[rows])
        size = part.stop - part.start
        left = np.zeros((size, sources))
        dyads = np.zeros((size, sources, 3, 3))
        micro = np.ones((size, sources))
        left[at], dyads[at] = found.weight[rows], found.dyads[rows]
        micro[at] = np.interp(-found.odi[rows], -grid, w2)
        mu[part], weight[part], spread[part] = _strongest(left, dyads, micro)
    total = weight.sum(1, keepdims=True)
    share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    share[:, 0] = np.where(total[:, 0] > 0, share[:, 0], 1.0)
    share[share < SMALLEST_SHARE] = 0
    share /= share.sum(1, keepdims=True)
    return mu, share, np.interp(spread, w2, grid)


def _strongest(left: Floats, dyads: Floats, micro: Floats) -> tuple[Floats, Floats, Floats]:
    """Axes (n, 3, 3), weights (n, 3) and the second Watson moment (n, 3) of three populations."""
    rows = np.arange(len(left))
    axis = np.linalg.eigh(dyads)[1][..., -1]
    limit = np.cos(np.radians(MERGE_DEGREES))
    axes, weights, moments = [], [], []
    for _ in range(3):
        lead = axis[rows, left.argmax(1)]
        member = np.where(np.abs(np.einsum("nki,ni->nk", axis, lead)) > limit, left, 0)
        square = member**2
        total = square.sum(1)
        safe = np.maximum(total, 1e-30)
        mean = np.einsum("nk,nkij->nij", square, dyads) / safe[:, None, None]
        values, vectors = np.linalg.eigh(mean)
        axes.append(np.where(total[:, None] > 0, vectors[:, :, -1], lead))
        weights.append(np.sqrt(total))
        # Dispersions one upon the other multiply the second moment (both are zonal).
        fan = np.clip(1.5 * values[:, -1] - 0.5, 0, 1)
        inner = (square * micro).sum(1) / safe
        moments.append(np.where(total > 0, fan * inner, 0.4))
        left = np.where(member > 0, 0, left)
    made = np.stack(axes, 1)
    made /= np.maximum(np.linalg.norm(made, axis=2, keepdims=True), 1e-12)
    return made, np.stack(weights, 1), np.stack(moments, 1)
