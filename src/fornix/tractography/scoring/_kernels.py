"""What is compiled for scoring: where streamlines end and which voxels they pass through.

Regions are bits: (voxels, words) uint64, so that one read of a voxel tests 64 bundles.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fornix.numerics.algebra import compiled_exact, compiled_parallel_exact

Bits = NDArray[np.uint64]
Floats32 = NDArray[np.float32]
Floats64 = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Streamlines are followed in pieces of at most this share of a voxel.
_PIECE = 0.25


@compiled_exact
def flat_voxel(x: float, y: float, z: float, grid: Ints) -> int:
    """Flat index of the voxel around voxel coordinates, -1 off the grid."""
    i, j, k = int(np.floor(x + 0.5)), int(np.floor(y + 0.5)), int(np.floor(z + 0.5))
    if i < 0 or j < 0 or k < 0 or i >= grid[0] or j >= grid[1] or k >= grid[2]:
        return -1
    return (i * grid[1] + j) * grid[2] + k


@compiled_parallel_exact
def to_voxels(points: Floats32, inverse: Floats64) -> Floats32:
    """World points (n, 3) in voxel coordinates, float32, by the inverse affine (4, 4)."""
    out = np.empty(points.shape, np.float32)
    for n in prange(points.shape[0]):
        for d in range(3):
            value = inverse[d, 3]
            for e in range(3):
                value += inverse[d, e] * points[n, e]
            out[n, d] = value
    return out


@compiled_exact
def _smallest(words: Bits, order: Ints) -> int:
    """The first region of `order` whose bit is set, -1 if none is."""
    for n in range(len(order)):
        r = order[n]
        if words[r // 64] >> np.uint64(r % 64) & np.uint64(1):
            return int(r)
    return -1


@compiled_parallel_exact
def assign_streamlines(
    points: Floats32,
    offsets: Ints,
    begins: Bits,
    ends: Bits,
    regions: Bits,
    inside: Bits,
    grid: Ints,
    order: Ints,
) -> tuple[Bits, NDArray[np.uint8], NDArray[np.bool_], Ints]:
    """Bundles that each streamline belongs to, and what it is.

    Args:
        points: (P, 3) voxel coordinates.
        offsets: (S + 1,) where each streamline begins.
        begins: (voxels, words) bits by bundle: its begin region.
        ends: The same of its end region.
        regions: Bits of all begin regions, then all end regions.
        inside: Bits by bundle: where it may run.
        grid: (3,) voxels along each axis.
        order: Regions from the smallest up.

    Returns:
        Bundles (S, words) as bits; VALID, INVALID or NO_CONNECTION (S,); whether it took a wrong path
        (S,); and tips (S, 3): the region of either end (-1: none), and 1 where it leaves the grid.
    """
    count, words = len(offsets) - 1, begins.shape[1]
    member = np.zeros((count, words), np.uint64)
    kind = np.full(count, 2, np.uint8)
    wrong = np.zeros(count, np.bool_)
    tips = np.full((count, 3), -1, np.int64)
    for s in prange(count):
        first, last = offsets[s], offsets[s + 1] - 1
        tips[s, 2] = 0
        if last < first:
            continue
        a = flat_voxel(points[first, 0], points[first, 1], points[first, 2], grid)
        b = flat_voxel(points[last, 0], points[last, 1], points[last, 2], grid)
        if a < 0 or b < 0:
            tips[s, 2] = 1
            continue
        tips[s, 0], tips[s, 1] = _smallest(regions[a], order), _smallest(regions[b], order)
        if tips[s, 0] < 0 or tips[s, 1] < 0:
            continue
        kind[s] = 1
        could = np.uint64(0)
        for w in range(words):
            member[s, w] = (begins[a, w] & ends[b, w]) | (ends[a, w] & begins[b, w])
            could |= member[s, w]
        if could == 0:
            continue
        stays = True
        for p in range(first, last + 1):
            q = min(p + 1, last)
            dx = points[q, 0] - points[p, 0]
            dy = points[q, 1] - points[p, 1]
            dz = points[q, 2] - points[p, 2]
            pieces = max(1, int(np.ceil(np.sqrt(dx * dx + dy * dy + dz * dz) / _PIECE)))
            for n in range(pieces):
                t = n / pieces
                v = flat_voxel(
                    points[p, 0] + t * dx, points[p, 1] + t * dy, points[p, 2] + t * dz, grid
                )
                some = np.uint64(0)
                for w in range(words):
                    member[s, w] = member[s, w] & inside[v, w] if v >= 0 else np.uint64(0)
                    some |= member[s, w]
                stays = some != 0
                if v < 0:
                    tips[s, 2] = 1
                if not stays:
                    break
            if not stays:
                break
        if stays:
            kind[s] = 0
        else:
            wrong[s] = True
    return member, kind, wrong, tips


@compiled_parallel_exact
def mark_voxels(points: Floats32, offsets: Ints, member: Bits, grid: Ints, visited: Bits) -> None:
    """Set the bits of each streamline's bundles in the voxels it passes through.

    Args:
        points: (P, 3) voxel coordinates.
        offsets: (S + 1,) where each streamline begins.
        member: (S, words) bundles of each streamline.
        grid: (3,) voxels along each axis.
        visited: (threads, voxels, words) bits that are set; every thread has its own, so that no bit is
            lost.
    """
    count, words, threads = len(offsets) - 1, member.shape[1], visited.shape[0]
    for part in prange(threads):
        for s in range(part * count // threads, (part + 1) * count // threads):
            valid = False
            for w in range(words):
                valid = valid or member[s, w] != 0
            if not valid:
                continue
            last = offsets[s + 1] - 1
            for p in range(offsets[s], last + 1):
                q = min(p + 1, last)
                dx = points[q, 0] - points[p, 0]
                dy = points[q, 1] - points[p, 1]
                dz = points[q, 2] - points[p, 2]
                pieces = max(1, int(np.ceil(np.sqrt(dx * dx + dy * dy + dz * dz) / _PIECE)))
                for n in range(pieces):
                    t = n / pieces
                    v = flat_voxel(
                        points[p, 0] + t * dx, points[p, 1] + t * dy, points[p, 2] + t * dz, grid
                    )
                    if v >= 0:
                        for w in range(words):
                            visited[part, v, w] |= member[s, w]
