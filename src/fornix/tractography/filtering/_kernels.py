"""What is compiled for filtering: lengths of streamlines in fixels, and values along streamlines."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from fornix.tractography.scoring._kernels import _flat

#: Streamlines are followed in pieces of at most this share of a voxel.
PIECE = 0.25


@njit(cache=True, fastmath=False)
def _fixel(first, axes, voxel, dx, dy, dz, cosine):  # type: ignore[no-untyped-def]
    """The fixel of a voxel nearest to a direction of length 1, -1 if none is within the angle."""
    best, found = cosine, -1
    for f in range(first[voxel], first[voxel + 1]):
        near = abs(dx * axes[f, 0] + dy * axes[f, 1] + dz * axes[f, 2])
        if near >= best:
            best, found = near, f
    return found


@njit(cache=True, fastmath=False)
def _follow(points, begin, end, grid, turn, size, first, axes, cosine, columns, values):  # type: ignore[no-untyped-def]
    """Runs of one streamline in fixels: their columns and mm if there is room; how many, and all mm."""
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
            v = _flat(points[p, 0] + t * dx, points[p, 1] + t * dy, points[p, 2] + t * dz, grid)
            f = -1 if v < 0 else _fixel(first, axes, v, ux, uy, uz, cosine)
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


@njit(cache=True, parallel=True, fastmath=False)
def count_runs(points, offsets, grid, turn, size, first, axes, cosine):  # type: ignore[no-untyped-def]
    """How many runs in fixels each streamline has, and its length in mm."""
    count = len(offsets) - 1
    runs, total = np.zeros(count, np.int64), np.zeros(count)
    for s in prange(count):
        runs[s], total[s] = _follow(
            points, offsets[s], offsets[s + 1], grid, turn, size, first, axes, cosine,
            np.empty(0, np.int32), np.empty(0, np.float32),
        )  # fmt: skip
    return runs, total


@njit(cache=True, parallel=True, fastmath=False)
def fill_runs(points, offsets, grid, turn, size, first, axes, cosine, rows, columns, values):  # type: ignore[no-untyped-def]
    """Columns and mm of every run; rows (S + 1,) say where each streamline's begin."""
    for s in prange(len(offsets) - 1):
        if rows[s + 1] > rows[s]:
            _follow(
                points, offsets[s], offsets[s + 1], grid, turn, size, first, axes, cosine,
                columns[rows[s] : rows[s + 1]], values[rows[s] : rows[s + 1]],
            )  # fmt: skip


@njit(cache=True, parallel=True, fastmath=False)
def resample(points, offsets, count):  # type: ignore[no-untyped-def]
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


@njit(cache=True, fastmath=False)
def _amplitude(coefficients, x, y, z, scales):  # type: ignore[no-untyped-def]
    """An even spherical function in a direction of length 1 (the basis of core.harmonics)."""
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


@njit(cache=True, parallel=True, fastmath=False)
def amplitudes_along(lookup, coefficients, scales, points, tangents):  # type: ignore[no-untyped-def]
    """(S, N) trilinear amplitude of the FOD at points (S, N, 3), voxel coordinates, along tangents
    (S, N, 3), world axes. lookup: (X, Y, Z) row of each voxel's coefficients, -1 for none.
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


@njit(cache=True, parallel=True, fastmath=False)
def values_along(first, axes, fixel_values, voxel_values, grid, points, tangents, cosine):  # type: ignore[no-untyped-def]
    """Values of the nearest fixel (S, N, F), 0 where there is none, and of the voxel (S, N, V)."""
    lines, count = points.shape[:2]
    fixels = np.zeros((lines, count, fixel_values.shape[1]), np.float32)
    voxels = np.zeros((lines, count, voxel_values.shape[1]), np.float32)
    for s in prange(lines):
        for n in range(count):
            v = _flat(points[s, n, 0], points[s, n, 1], points[s, n, 2], grid)
            if v < 0:
                continue
            for c in range(voxel_values.shape[1]):
                voxels[s, n, c] = voxel_values[v, c]
            f = _fixel(
                first, axes, v, tangents[s, n, 0], tangents[s, n, 1], tangents[s, n, 2], cosine
            )
            if f >= 0:
                for c in range(fixel_values.shape[1]):
                    fixels[s, n, c] = fixel_values[f, c]
    return fixels, voxels
