"""Tracts of an atlas carried over to a head by a registration: the prior of everything that follows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fornix.register.grids import Lattice
from fornix.register.warp import PointMap, local_linear
from fornix.tracts.atlas import Tract, TractSet

Array = NDArray[np.float32]

#: Shares below it are left out.
_LEAST = 0.04


def carry(
    atlas: TractSet,
    onto: Lattice,
    brain: NDArray[np.bool_],
    to_atlas: PointMap,
    from_atlas: PointMap,
) -> TractSet:
    """Every tract of an atlas on a scan's grid.

    Args:
        atlas: Tracts in MNI space.
        onto: The scan's grid.
        brain: (X, Y, Z) where tracts may lie.
        to_atlas: From the scan's world points to MNI (`Warp.to_fixed` of a scan registered to the template).
        from_atlas: The way back.
    """
    voxels = np.flatnonzero(brain)
    points = onto.points().reshape(-1, 3)[torch.from_numpy(voxels)]
    there = to_atlas(points)
    linear = local_linear(from_atlas, there).numpy()
    place = np.linalg.inv(atlas.lattice.affine)
    at = there.numpy() @ place[:3, :3].T + place[:3, 3]
    nearest = np.rint(at).astype(np.int64)
    inside = ((nearest >= 0) & (nearest < np.array(atlas.lattice.shape))).all(1)
    voxels, at, linear = voxels[inside], at[inside], linear[inside]
    tracts = {
        name: _carried(tract, atlas, voxels, at, linear) for name, tract in atlas.tracts.items()
    }
    return TractSet(onto, tracts, atlas.about)


def _carried(
    tract: Tract, atlas: TractSet, voxels: NDArray[np.int64], at: NDArray[np.float64], linear: Array,
) -> Tract:  # fmt: skip
    shape = atlas.lattice.shape
    where = np.stack(np.unravel_index(tract.voxels, shape), 1)
    low, high = where.min(0) - 1, where.max(0) + 2
    box = np.zeros(tuple(high - low), bool)
    box[tuple((where - low).T)] = True
    # A voxel between the atlas's may reach one of the tract's: its neighbours count too.
    wide = ndimage.binary_dilation(box, np.ones((3, 3, 3)))
    near = ((at > low) & (at < high - 1)).all(1)
    near[near] = wide[tuple((np.rint(at[near]).astype(int) - low).T)]
    values = np.concatenate(
        [tract.share[:, None], tract.ends, tract.along[:, None] * tract.share[:, None],
         tract.direction * tract.share[:, None]], 1
    )  # fmt: skip
    dense = np.zeros((values.shape[1], *box.shape), np.float32)
    dense[(slice(None), *(where - low).T)] = values.T
    places = (at[near] - low).T
    found = np.stack(
        [ndimage.map_coordinates(d, places, order=1, mode="constant") for d in dense], 1
    )
    kept = found[:, 0] > _LEAST
    found, chosen = found[kept], np.flatnonzero(near)[kept]
    share = found[:, 0]
    axis = np.einsum("vij,vj->vi", linear[chosen], found[:, 4:7])
    axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-9)
    return Tract(
        tract.name,
        voxels[chosen],
        share.astype(np.float32),
        found[:, 1:3].astype(np.float32),
        axis.astype(np.float32),
        (found[:, 3] / share).clip(0, 1).astype(np.float32),
    )
