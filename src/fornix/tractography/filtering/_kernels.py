"""What is compiled for filtering: lengths of streamlines in fixels, and values along streamlines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fornix.numerics.algebra import compiled_exact, compiled_parallel_exact
from fornix.tractography.scoring._kernels import flat_voxel

Floats32 = NDArray[np.float32]
Floats64 = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Streamlines are followed in pieces of at most this share of a voxel.
PIECE = 0.25


class FixelArrays(NamedTuple):
    """Fixels as the kernels read them.

    Attributes:
        first: (voxels + 1,) fixels of the voxel with flat index v are first[v] to first[v + 1].
        axes: (F, 3) unit vectors, world.
        grid: (3,) voxels along each axis.
        rotation: (3, 3) from voxel axes to world.
        voxel_size: (3,) mm.
        cosine: Of the largest angle between a streamline and its fixel.
    """

    first: Ints
    axes: Floats64
    grid: Ints
    rotation: Floats64
    voxel_size: Floats64
    cosine: float


@compiled_exact
def _nearest_fixel(
    first: Ints, axes: Floats64, cosine: float, voxel: int, dx: float, dy: float, dz: float
) -> int:
    """The fixel of a voxel nearest to a direction of length 1, -1 if none is within the angle."""
    best, nearest = cosine, -1
    for f in range(first[voxel], first[voxel + 1]):
        near = abs(dx * axes[f, 0] + dy * axes[f, 1] + dz * axes[f, 2])
        if near >= best:
            best, nearest = near, f
    return nearest


@compiled_exact
def _follow(
    points: Floats32,
    begin: int,
    end: int,
    fixels: FixelArrays,
    columns: NDArray[np.int32],
    values: Floats32,
) -> tuple[int, float]:
    """Runs of one streamline in fixels, into columns (fixels) and values (mm) if they have room.

    Returns:
        How many runs there are, and the streamline's length in mm.
    """
    # Read once: each look into a named tuple inside a loop counts a reference.
    turn, size, grid = fixels.rotation, fixels.voxel_size, fixels.grid
    first, axes, cosine = fixels.first, fixels.axes, fixels.cosine
    count, run, last, total = 0, 0.0, -1, 0.0
    room = len(columns) > 0
    for p in range(begin, end - 1):
        dx = points[p + 1, 0] - points[p, 0]
        dy = points[p + 1, 1] - points[p, 1]
        dz = points[p + 1, 2] - points[p, 2]
        # Along the voxel axes in mm, then in world axes, where fixels live.
        mx, my, mz = dx * size[0], dy * size[1], dz * size[2]
        length = np.sqrt(mx * mx + my * my + mz * mz)
        if length == 0.0:
            continue
        total += length
        ux = (turn[0, 0] * mx + turn[0, 1] * my + turn[0, 2] * mz) / length
        uy = (turn[1, 0] * mx + turn[1, 1] * my + turn[1, 2] * mz) / length
        uz = (turn[2, 0] * mx + turn[2, 1] * my + turn[2, 2] * mz) / length
        pieces = max(1, int(np.ceil(np.sqrt(dx * dx + dy * dy + dz * dz) / PIECE)))
        for n in range(pieces):
            t = (n + 0.5) / pieces
            v = flat_voxel(
                points[p, 0] + t * dx, points[p, 1] + t * dy, points[p, 2] + t * dz, grid
            )
            f = -1 if v < 0 else _nearest_fixel(first, axes, cosine, v, ux, uy, uz)
            if f != last:
                if last >= 0:
                    if room:
                        columns[count], values[count] = last, run
                    count += 1
                last, run = f, 0.0
            run += length / pieces
    if last >= 0:
        if room:
            columns[count], values[count] = last, run
        count += 1
    return count, total


@compiled_parallel_exact
def count_runs(points: Floats32, offsets: Ints, fixels: FixelArrays) -> tuple[Ints, Floats64]:
    """How many runs in fixels each streamline has, and its length in mm.

    Args:
        points: (P, 3) voxel coordinates.
        offsets: (S + 1,) where each streamline begins.
        fixels: What they run in.
    """
    count = len(offsets) - 1
    runs, total = np.zeros(count, np.int64), np.zeros(count)
    for s in prange(count):
        runs[s], total[s] = _follow(
            points,
            offsets[s],
            offsets[s + 1],
            fixels,
            np.empty(0, np.int32),
            np.empty(0, np.float32),
        )
    return runs, total


@compiled_parallel_exact
def fill_runs(
    points: Floats32,
    offsets: Ints,
    fixels: FixelArrays,
    rows: Ints,
    columns: NDArray[np.int32],
    values: Floats32,
) -> None:
    """Fixel (columns) and mm (values) of every run; rows (S + 1,): where each streamline's begin."""
    for s in prange(len(offsets) - 1):
        if rows[s + 1] > rows[s]:
            part = slice(rows[s], rows[s + 1])
            _follow(points, offsets[s], offsets[s + 1], fixels, columns[part], values[part])


@compiled_parallel_exact
def resample(points: Floats32, offsets: Ints, count: int) -> tuple[Floats32, Floats32]:
    """(S, count, 3) points at equal distances along each streamline, and its length (S,)."""
    lines = len(offsets) - 1
    out = np.zeros((lines, count, 3), np.float32)
    lengths = np.zeros(lines, np.float32)
    for s in prange(lines):
        begin, end = offsets[s], offsets[s + 1]
        if end <= begin:
            continue
        along = np.zeros(end - begin)
        for p in range(1, end - begin):
            total = 0.0
            for d in range(3):
                total += (points[begin + p, d] - points[begin + p - 1, d]) ** 2
            along[p] = along[p - 1] + np.sqrt(total)
        lengths[s] = along[-1]
        p = 0
        for n in range(count):
            want = along[-1] * n / (count - 1)
            while p < end - begin - 2 and along[p + 1] < want:
                p += 1
            q = min(p + 1, end - begin - 1)
            gap = along[q] - along[p]
            t = (want - along[p]) / gap if gap > 0 else 0.0
            for d in range(3):
                out[s, n, d] = (1 - t) * points[begin + p, d] + t * points[begin + q, d]
    return out, lengths


@compiled_exact
def _amplitude(coefficients: Floats64, x: float, y: float, z: float, scales: Floats64) -> float:
    """An even spherical function in a direction of length 1 (the basis of `numerics.harmonics`)."""
    top = scales.shape[0] - 1
    total = 0.0
    cos_m, sin_m, p_mm = 1.0, 0.0, 1.0
    for m in range(top + 1):
        lower, value = 0.0, p_mm
        for ell in range(m, top + 1):
            if ell > m:
                higher = ((2 * ell - 1) * z * value - (ell + m - 1) * lower) / (ell - m)
                lower, value = value, higher
            if ell % 2 == 0:
                base = ell * (ell + 1) // 2
                total += scales[ell, m] * value * coefficients[base + m] * cos_m
                if m:
                    total += scales[ell, m] * value * coefficients[base - m] * sin_m
        cos_m, sin_m = cos_m * x - sin_m * y, sin_m * x + cos_m * y
        p_mm *= 2 * m + 1
    return total


@compiled_parallel_exact
def amplitudes_along(
    lookup: NDArray[np.int32],
    coefficients: Floats32,
    scales: Floats64,
    points: Floats32,
    tangents: Floats32,
) -> Floats32:
    """Trilinear amplitude of the FOD along streamlines.

    Args:
        lookup: (X, Y, Z) row of each voxel's coefficients, -1 for none.
        coefficients: (rows, coefficients).
        scales: (lmax + 1, lmax + 1) factors of the associated Legendre functions.
        points: (S, N, 3) voxel coordinates.
        tangents: (S, N, 3) unit vectors, world.

    Returns:
        (S, N) float32.
    """
    lines, count = points.shape[:2]
    out = np.zeros((lines, count), np.float32)
    for s in prange(lines):
        here = np.empty(coefficients.shape[1])
        for n in range(count):
            x, y, z = points[s, n, 0], points[s, n, 1], points[s, n, 2]
            i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
            fx, fy, fz = x - i, y - j, z - k
            here[:] = 0.0
            some = False
            for a in range(2):
                for b in range(2):
                    for c in range(2):
                        p, q, r = i + a, j + b, k + c
                        if not (
                            0 <= p < lookup.shape[0]
                            and 0 <= q < lookup.shape[1]
                            and 0 <= r < lookup.shape[2]
                        ):
                            continue
                        row = lookup[p, q, r]
                        if row < 0:
                            continue
                        some = True
                        weight = (
                            (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
                        )
                        for e in range(here.shape[0]):
                            here[e] += weight * coefficients[row, e]
            if some:
                out[s, n] = _amplitude(
                    here, tangents[s, n, 0], tangents[s, n, 1], tangents[s, n, 2], scales
                )
    return out


@compiled_parallel_exact
def values_along(
    fixels: FixelArrays,
    fixel_values: Floats32,
    voxel_values: Floats32,
    points: Floats32,
    tangents: Floats32,
) -> tuple[Floats32, Floats32]:
    """Values of fixels and voxels along streamlines.

    Args:
        fixels: Of the grid.
        fixel_values: (F, A).
        voxel_values: (voxels, B).
        points: (S, N, 3) voxel coordinates.
        tangents: (S, N, 3) unit vectors, world.

    Returns:
        (S, N, A) of the nearest fixel, 0 where there is none, and (S, N, B) of the voxel.
    """
    lines, count = points.shape[:2]
    of_fixel = np.zeros((lines, count, fixel_values.shape[1]), np.float32)
    of_voxel = np.zeros((lines, count, voxel_values.shape[1]), np.float32)
    grid, first, axes, cosine = fixels.grid, fixels.first, fixels.axes, fixels.cosine
    for s in prange(lines):
        for n in range(count):
            v = flat_voxel(points[s, n, 0], points[s, n, 1], points[s, n, 2], grid)
            if v < 0:
                continue
            for c in range(voxel_values.shape[1]):
                of_voxel[s, n, c] = voxel_values[v, c]
            f = _nearest_fixel(
                first, axes, cosine, v, tangents[s, n, 0], tangents[s, n, 1], tangents[s, n, 2]
            )
            if f >= 0:
                for c in range(fixel_values.shape[1]):
                    of_fixel[s, n, c] = fixel_values[f, c]
    return of_fixel, of_voxel
