"""Straight tracts along the axes, on which answers are known."""

from __future__ import annotations

import numpy as np

from fornix.numerics import harmonics
from fornix.register.grids import Lattice
from fornix.tracts.atlas import Tract
from fornix.tracts.segment import FoundTract, TractMaps

GRID = (40, 30, 30)
AFFINE = np.diag([-2.0, 2, 2, 1])
AFFINE[:3, 3] = [40, -30, -30]
LATTICE = Lattice(AFFINE, GRID)
POINTS = LATTICE.points().numpy()
BRAIN = np.ones(GRID, bool)


def tube(name: str, axis: int, reason: str = "", presence: float = 1.0) -> FoundTract:
    """A tract of 6 mm radius along an axis, 50 mm long, with ends 6 mm deep."""
    points = POINTS.reshape(-1, 3)
    other = [a for a in range(3) if a != axis]
    away = np.hypot(points[:, other[0]], points[:, other[1]])
    voxels = np.flatnonzero((away < 6) & (np.abs(points[:, axis]) <= 25))
    along = (points[voxels, axis] + 25) / 50
    direction = np.zeros((len(voxels), 3), np.float32)
    direction[:, axis] = 1
    share = np.ones(len(voxels), np.float32)
    ends = np.stack([along < 0.12, along > 0.88], 1).astype(np.float32)
    tract = Tract(name, voxels, share, ends, direction, along.astype(np.float32))
    return FoundTract(tract, share, 0.5, presence, 1.0, 1.0, 0.1, reason)


def maps(*found: FoundTract) -> TractMaps:
    """All tracts of a head."""
    return TractMaps(LATTICE, {f.tract.name: f for f in found}, "made")


def fod(*axes: int) -> np.ndarray:
    """(X, Y, Z, coefficients) the same in every voxel: fibres along some axes."""
    lobes = harmonics.project(
        8, lambda u: sum(np.exp(25 * (np.asarray(u)[:, a] ** 2 - 1)) for a in axes)
    )
    return np.broadcast_to(lobes.astype(np.float32), (*GRID, len(lobes))).copy()
