"""Profiles along tracts by a tractogram's streamlines, each with its error.

As AFQ does it (Yeatman et al., PLoS ONE 2012): streamlines of a tract are turned to run from its beginning
to its end, cut into as many pieces as there are nodes, and weighted by how near to the tract's core they run.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.core.grid import flat_voxels
from fornix.core.maps import Map
from fornix.core.tractogram import Tractogram
from fornix.register.grids import Lattice
from fornix.tracts.label import label_streamlines, resampled
from fornix.tracts.profile import NODES, Profile, length_of, shared_variance
from fornix.tracts.segment import FoundTract, TractMaps

Array = NDArray[np.float64]

#: Streamlines from which a tract has a profile.
LEAST = 5
#: Draws of streamlines, and mm by which each draw slides along the tract: where it begins is unsure.
_DRAWS, _SLIDE = 48, 1.0
#: Standard deviations from the core beyond which a streamline does not count.
_FAR = 4.0
#: Share of the tract's way under which it is said that streamlines show a part of it.
_PART = 0.6
#: Voxels whose noise goes together after interpolation and spatial estimators.
_TOGETHER = 4.0


def streamline_profiles(
    tractogram: Tractogram,
    tracts: TractMaps,
    maps: Mapping[str, Map],
    *,
    nodes: int = NODES,
    seed: int = 0,
) -> list[Profile]:
    """Profiles of scalar maps along the streamlines of every tract.

    Args:
        tractogram: World mm, of the same head. Groups with names of tracts are taken as they are (`fornix
            tracts --streamlines` writes them); without any, `label_streamlines` tells the tracts.
        tracts: From `segment_tracts`; they say where each tract begins.
        maps: Scalars by name, on the tracts' grid.
        nodes: From the tract's beginning to its end.
        seed: Of the draws of streamlines.

    Returns:
        One profile of each map of each tract, in the order of `tracts`. The error holds the map's noise, what
        all voxels share, which streamlines were found, and where along the tract they begin. A tract with
        fewer than 5 streamlines has no values, and says so.

    Raises:
        FornixError: There are no streamlines, or they are of another head.
    """
    if nodes < 2:
        raise FornixError(f"a profile along streamlines has 2 nodes or more, not {nodes}")
    flat = {name: m for name, m in maps.items() if m.data.ndim == 3}
    members = _members(tractogram, tracts)
    made = []
    for name, found in tracts.found.items():
        own = members.get(name, np.empty(0, np.int64))
        if len(own) < LEAST:
            reason = found.reason if found.state == "absent" else _too_few(len(own))
            none = np.full(nodes, np.nan)
            made += [Profile(name, m, none, none, reason) for m in flat]
            continue
        points, share = _oriented(
            resampled(tractogram.subset(own), nodes)[0], found, tracts.lattice
        )
        part = (
            f"the streamlines run along {100 * share:.0f}% of the tract, and their nodes with them"
        )
        note = part if share < _PART else ""
        made += _of_tract(name, points, flat, tracts.lattice, seed, note)
    return made


def _too_few(count: int) -> str:
    held = "no streamline is" if not count else f"only {count} streamline{'s' * (count > 1)} are"
    return f"{held} of this tract ({LEAST} are needed)"


def _members(tractogram: Tractogram, tracts: TractMaps) -> dict[str, NDArray[np.int64]]:
    """Streamlines of each tract; `CC` has those of its parts."""
    known = {n: i for n, i in tractogram.groups.items() if n in tracts.found}
    if not known:
        labels = label_streamlines(tractogram, tracts)
        known = {name: labels.of(name) for name in labels.names}
    parts = [index for name, index in known.items() if name.startswith("CC_")]
    if "CC" in tracts.found and "CC" not in known and parts:
        known["CC"] = np.concatenate(parts)
    return known


def _oriented(
    points: NDArray[np.float32], found: FoundTract, lattice: Lattice
) -> tuple[Array, float]:
    """Streamlines (S, nodes, 3) turned so that they run as the tract does, and the share of it they run."""
    place = np.full(int(np.prod(lattice.shape)), np.nan)
    place[found.tract.voxels] = found.tract.along
    voxel, inside = flat_voxels(points.reshape(-1, 3), lattice.affine, lattice.shape)
    along = np.where(inside, place[np.where(inside, voxel, 0)], np.nan).reshape(points.shape[:2])
    there = np.isfinite(along)
    way = np.linspace(-1, 1, points.shape[1])
    # The slope of the place over the streamline: also of one that leaves the tract for a while.
    away = np.where(there, along, 0)
    count = np.maximum(there.sum(1), 1)
    mean_way = (way * there).sum(1) / count
    slope = ((way - mean_way[:, None]) * there * away).sum(1)
    turned = np.where((slope < 0)[:, None, None], points[:, ::-1], points).astype(np.float64)
    reach = float(np.median(np.where(there, along, -1).max(1) - np.where(there, along, 2).min(1)))
    # A shortcut between two far places is no whole tract either.
    long = float(np.median(np.linalg.norm(np.diff(turned, axis=1), axis=-1).sum(1)))
    return turned, min(max(reach, 0.0), long / length_of(found, lattice))


def _of_tract(
    name: str, points: Array, maps: Mapping[str, Map], lattice: Lattice, seed: int, note: str
) -> list[Profile]:
    rng = np.random.default_rng(seed)
    count, nodes = points.shape[:2]
    weight = _weights(points)
    inverse = np.linalg.inv(lattice.affine)
    at = (points.reshape(-1, 3) @ inverse[:3, :3].T + inverse[:3, 3]).T
    length = float(np.linalg.norm(np.diff(points, axis=1), axis=-1).sum(1).mean())
    draws = rng.multinomial(count, np.full(count, 1 / count), size=_DRAWS).astype(np.float64)
    slides = rng.normal(0, _SLIDE / max(length, 1.0) * (nodes - 1), _DRAWS)
    voxel, inside = flat_voxels(points.reshape(-1, 3), lattice.affine, lattice.shape)
    cell = np.where(inside, voxel, -1).reshape(count, nodes)
    made = []
    for label, m in maps.items():
        known = np.isfinite(m.data)
        filled = np.where(known, m.data, 0).astype(np.float32)
        values = ndimage.map_coordinates(filled, at, order=1, mode="nearest").reshape(count, nodes)
        seen = ndimage.map_coordinates(known.astype(np.float32), at, order=0, mode="constant")
        own = weight * (seen.reshape(count, nodes) > 0.5)
        total = own.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (own * values).sum(0) / total
            drawn = (draws @ (own * values)) / (draws @ own)
        variance = np.nanvar(_slid(drawn, slides), 0) + shared_variance(m)
        if m.std is not None:
            variance = variance + _noise(m.std, own, cell)
        missing = ~np.isfinite(mean)
        reason = note or ("no values about some nodes" if missing.any() else "")
        made.append(
            Profile(name, label, mean, np.where(missing, np.nan, np.sqrt(variance)), reason)
        )
    return made


def _weights(points: Array) -> Array:
    """(S, nodes) of the streamlines at each node: a normal density about the core, in its own spread."""
    count, nodes = points.shape[:2]
    made = np.empty((count, nodes))
    for node in range(nodes):
        here = points[:, node]
        middle = np.median(here, 0)
        away = here - middle
        # A tube of 1 mm at least, so that streamlines on top of each other count alike.
        spread = away.T @ away / max(count - 1, 1) + np.eye(3)
        square = np.einsum("si,si->s", away @ np.linalg.inv(spread), away)
        made[:, node] = np.exp(-0.5 * square) * (square < _FAR**2)
    return made


def _slid(drawn: Array, slides: Array) -> Array:
    """Profiles (draws, nodes) moved along by some nodes each; the ends stay."""
    at = np.arange(drawn.shape[1])
    return np.stack([np.interp(at + shift, at, one) for shift, one in zip(slides, drawn)])


def _noise(std: NDArray[np.floating], own: Array, cell: NDArray[np.int64]) -> Array:
    """(nodes,) variance of a node's mean by the map's noise, which all streamlines in a voxel share."""
    spread = np.nan_to_num(std.reshape(-1))
    out = np.zeros(own.shape[1])
    for node in range(own.shape[1]):
        inside = cell[:, node] >= 0
        where, number = np.unique(cell[inside, node], return_inverse=True)
        share = np.bincount(number, own[inside, node], len(where))
        if share.sum() > 0:
            out[node] = _TOGETHER * ((share / share.sum() * spread[where]) ** 2).sum()
    return out
