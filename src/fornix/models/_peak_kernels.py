"""Compiled: local maxima on a grid of axes and Newton's method from each."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fornix.numerics.algebra import compiled, compiled_parallel
from fornix.numerics.batched import LANES, product

#: Local maxima looked at in one function; more are noise. The largest are kept.
_MOST = 16
_STEPS = 12
#: A step of Newton's shorter than this (radians) is the last: what is left is of the order of its square.
_LAST = 1e-4
#: Share of a peak that the highest axis beside it shows: nearly always, and at least.
_SHOWN, _LEAST = 0.9, 0.75


@compiled_parallel
def search(
    coefficients: np.ndarray,
    change: np.ndarray,
    basis: np.ndarray,
    axes: np.ndarray,
    neighbours: np.ndarray,
    degree: int,
    relative: float,
    absolute: float,
    limit: float,
    out: np.ndarray,
) -> None:
    """Fills out (voxels, count, 5): direction, amplitude and dispersion in degrees.

    change: (n, n) from harmonics to monomials. neighbours: (axes, 8). Voxels with coefficients that are
    not finite are left alone.
    """
    voxels, n = coefficients.shape
    for task in prange((voxels + LANES - 1) // LANES):
        x, exact = np.zeros((n, LANES), basis.dtype), np.zeros((n, LANES))
        height, monomials = np.empty((len(basis), LANES), basis.dtype), np.empty((n, LANES))
        first = task * LANES
        used = min(LANES, voxels - first)
        for v in range(used):
            finite = True
            for i in range(n):
                finite = finite and math.isfinite(coefficients[first + v, i])
            for i in range(n):
                exact[i, v] = coefficients[first + v, i] if finite else 0.0
                x[i, v] = exact[i, v]
        product(basis, x, height)
        product(change, exact, monomials)
        floor, tops = np.empty(LANES, basis.dtype), np.empty((LANES, _MOST, 5))
        _floors(height, relative, absolute, floor)
        counts = _candidates(height, neighbours, floor, axes, tops)
        room, powers, polynomial = np.empty((_MOST, 5)), _powers(degree), np.empty(n)
        for v in range(used):
            if counts[v]:
                for i in range(n):
                    polynomial[i] = monomials[i, v]
                found = out[first + v]
                for c in range(counts[v]):
                    _next_highest(tops[v], c, counts[v])
                    if c >= len(found) and tops[v, c, 3] < _LEAST * found[-1, 3]:
                        break  # the rest cannot be among the largest
                    _climb(polynomial, degree, powers, tops[v, c])
                    if c + 1 >= min(len(found), counts[v]):
                        room[: c + 1] = tops[v, : c + 1]
                        _choose(room, c + 1, relative, absolute, limit, found)


@compiled_parallel
def settle(monomials: np.ndarray, degree: int, limit: float, directions: np.ndarray) -> None:
    """Moves directions (voxels, count, 3), none where zero, to the maximum that they climb to, where
    the cosine of the way there is above the limit.
    """
    for v in prange(len(directions)):
        top, powers = np.empty(5), _powers(degree)
        for k in range(directions.shape[1]):
            x, y, z = directions[v, k, 0], directions[v, k, 1], directions[v, k, 2]
            if x == 0.0 and y == 0.0 and z == 0.0:
                continue
            top[0], top[1], top[2] = x, y, z
            _climb(monomials[v], degree, powers, top)
            if top[4] < 90.0 and abs(x * top[0] + y * top[1] + z * top[2]) > limit:
                for i in range(3):
                    directions[v, k, i] = top[i]


@compiled
def _powers(degree: int) -> np.ndarray:
    """Room for `_derivatives`, with the powers 0."""
    made = np.zeros((3, 3, degree + 1))
    made[0, :, 0] = 1.0
    return made


@compiled
def _floors(height: np.ndarray, relative: float, absolute: float, floor: np.ndarray) -> None:
    """What an axis of each lane must show to be beside a peak that counts."""
    floor[:] = 0.0
    for i in range(len(height)):
        for v in range(len(floor)):
            floor[v] = height[i, v] if height[i, v] > floor[v] else floor[v]
    for v in range(len(floor)):
        # A peak between the axes is higher than on them.
        floor[v] = max(_SHOWN * max(relative * floor[v], absolute), 1e-12)


@compiled
def _candidates(
    height: np.ndarray,
    neighbours: np.ndarray,
    floor: np.ndarray,
    axes: np.ndarray,
    tops: np.ndarray,
) -> np.ndarray:
    """Local maxima above the floor, the largest `_MOST` of each lane; returns how many, (lanes,)."""
    lanes = len(floor)
    counts, around, top = np.zeros(lanes, np.int64), floor.copy(), np.zeros(lanes, np.int32)
    for i in range(len(height)):
        a, b, c, d = neighbours[i, 0], neighbours[i, 1], neighbours[i, 2], neighbours[i, 3]
        for v in range(lanes):
            one = height[a, v] if height[a, v] > height[b, v] else height[b, v]
            two = height[c, v] if height[c, v] > height[d, v] else height[d, v]
            one = one if one > two else two
            around[v] = one if one > floor[v] else floor[v]
        a, b, c, d = neighbours[i, 4], neighbours[i, 5], neighbours[i, 6], neighbours[i, 7]
        some = 0
        for v in range(lanes):
            one = height[a, v] if height[a, v] > height[b, v] else height[b, v]
            two = height[c, v] if height[c, v] > height[d, v] else height[d, v]
            one = one if one > two else two
            one = one if one > around[v] else around[v]
            top[v] = height[i, v] >= one
            some += top[v]
        if some:
            for v in range(lanes):
                if top[v]:
                    counts[v] = _put(tops[v], counts[v], axes[i], height[i, v])
    return counts


@compiled
def _put(tops: np.ndarray, count: int, axis: np.ndarray, height: float) -> int:
    """One more candidate, in place of the lowest where there is no room; returns how many there are."""
    slot = count
    if count == len(tops):
        slot = 0
        for c in range(1, count):
            if tops[c, 3] < tops[slot, 3]:
                slot = c
        if tops[slot, 3] >= height:
            return count
    else:
        count += 1
    tops[slot, 0], tops[slot, 1], tops[slot, 2], tops[slot, 3] = axis[0], axis[1], axis[2], height
    return count


@compiled
def _next_highest(tops: np.ndarray, c: int, count: int) -> None:
    """Bring the highest of the candidates from c on to place c."""
    best = c
    for k in range(c + 1, count):
        if tops[k, 3] > tops[best, 3]:
            best = k
    for i in range(5):
        tops[c, i], tops[best, i] = tops[best, i], tops[c, i]


@compiled
def _climb(polynomial: np.ndarray, degree: int, powers: np.ndarray, top: np.ndarray) -> None:
    """Move to where the gradient on the sphere vanishes; fills direction, amplitude, dispersion.

    For a homogeneous p of degree d, u . grad p = d p: on the sphere the gradient is grad p - d p u
    and the curvature in the tangent plane is that of p minus d p.
    """
    g, h, last = np.zeros(3), np.zeros(6), top[:3].copy()
    value, mean, before = 0.0, 0.0, -math.inf
    for _ in range(_STEPS):
        value = _derivatives(polynomial, degree, powers, top, g, h)
        if value < before - 1e-9 * abs(before):  # too far: half the way back, and look again
            for i in range(3):
                top[i] += last[i]
            size = math.sqrt(top[0] * top[0] + top[1] * top[1] + top[2] * top[2])
            for i in range(3):
                top[i] /= size
            continue
        before = value
        for i in range(3):
            last[i] = top[i]
        ux, uy, uz = top[0], top[1], top[2]
        # Two axes of the tangent plane, from the coordinate axis furthest from u.
        if abs(ux) <= abs(uy) and abs(ux) <= abs(uz):
            ax, ay, az = 0.0, uz, -uy
        elif abs(uy) <= abs(uz):
            ax, ay, az = -uz, 0.0, ux
        else:
            ax, ay, az = uy, -ux, 0.0
        size = math.sqrt(ax * ax + ay * ay + az * az)
        ax, ay, az = ax / size, ay / size, az / size
        bx, by, bz = uy * az - uz * ay, uz * ax - ux * az, ux * ay - uy * ax
        ga = ax * g[0] + ay * g[1] + az * g[2]
        gb = bx * g[0] + by * g[1] + bz * g[2]
        haa = _form(h, ax, ay, az, ax, ay, az) - degree * value
        hbb = _form(h, bx, by, bz, bx, by, bz) - degree * value
        hab = _form(h, ax, ay, az, bx, by, bz)
        mean = 0.5 * (haa + hbb)
        det = haa * hbb - hab * hab
        if det > 0 and mean < 0:
            sa, sb = (hab * gb - hbb * ga) / det, (hab * ga - haa * gb) / det
        else:  # not a top here: uphill, by a scale of the function
            steep = degree * (degree + 1) * max(abs(value), 1e-12)
            sa, sb = ga / steep, gb / steep
        length = math.sqrt(sa * sa + sb * sb)
        if length > 0.1:
            sa, sb = sa * 0.1 / length, sb * 0.1 / length
        top[0] = ux + sa * ax + sb * bx
        top[1] = uy + sa * ay + sb * by
        top[2] = uz + sa * az + sb * bz
        size = math.sqrt(top[0] * top[0] + top[1] * top[1] + top[2] * top[2])
        top[0], top[1], top[2] = top[0] / size, top[1] / size, top[2] / size
        if length < _LAST:
            break
    top[3] = value
    top[4] = min(90.0, math.degrees(math.sqrt(value / -mean))) if value > 0 and mean < 0 else 90.0


@compiled
def _form(h: np.ndarray, ax: float, ay: float, az: float, bx: float, by: float, bz: float) -> float:
    """A . H b of the symmetric H = xx, yy, zz, xy, xz, yz."""
    return (
        h[0] * ax * bx + h[1] * ay * by + h[2] * az * bz
        + h[3] * (ax * by + ay * bx) + h[4] * (ax * bz + az * bx) + h[5] * (ay * bz + az * by)
    )  # fmt: skip


@compiled
def _derivatives(
    polynomial: np.ndarray,
    degree: int,
    powers: np.ndarray,
    u: np.ndarray,
    g: np.ndarray,
    h: np.ndarray,
) -> float:
    """The polynomial at u, its gradient g (3,) and second derivatives h (6,).

    The monomials x^i y^j z^k come by i, then by j: what y and z make of those of one i is summed first.

    powers: (3, 3, degree + 1) to be filled with u's powers, their first and second derivatives.
    """
    for c in range(3):
        for k in range(1, degree + 1):
            powers[0, c, k] = powers[0, c, k - 1] * u[c]
            powers[1, c, k] = k * powers[0, c, k - 1]
            powers[2, c, k] = k * powers[1, c, k - 1]
    value, gx, gy, gz = 0.0, 0.0, 0.0, 0.0
    hxx, hyy, hzz, hxy, hxz, hyz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    t = 0
    for i in range(degree + 1):
        p, py, pz, pyy, pzz, pyz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        rest = degree - i
        for j in range(rest + 1):
            a = polynomial[t + j]
            y0, z0 = a * powers[0, 1, j], powers[0, 2, rest - j]
            y1, z1 = a * powers[1, 1, j], powers[1, 2, rest - j]
            p += y0 * z0
            py += y1 * z0
            pz += y0 * z1
            pyy += a * powers[2, 1, j] * z0
            pzz += y0 * powers[2, 2, rest - j]
            pyz += y1 * z1
        t += rest + 1
        x0, x1 = powers[0, 0, i], powers[1, 0, i]
        value += x0 * p
        gx += x1 * p
        gy += x0 * py
        gz += x0 * pz
        hxx += powers[2, 0, i] * p
        hyy += x0 * pyy
        hzz += x0 * pzz
        hxy += x1 * py
        hxz += x1 * pz
        hyz += x0 * pyz
    g[0], g[1], g[2] = gx, gy, gz
    h[0], h[1], h[2], h[3], h[4], h[5] = hxx, hyy, hzz, hxy, hxz, hyz
    return value


@compiled
def _choose(
    tops: np.ndarray, count: int, relative: float, absolute: float, limit: float, out: np.ndarray
) -> None:
    """The largest tops that are far enough from larger ones and above the floor."""
    floor, kept = max(absolute, 1e-12), 0
    while kept < len(out):
        best = -1
        for c in range(count):
            if tops[c, 3] >= floor and (best < 0 or tops[c, 3] > tops[best, 3]):
                best = c
        if best < 0:
            break
        if kept == 0:
            floor = max(floor, relative * tops[best, 3])
        apart = True
        for p in range(kept):
            cosine = 0.0
            for i in range(3):
                cosine += tops[best, i] * out[p, i]
            apart = apart and abs(cosine) < limit
        if apart:
            for i in range(5):
                out[kept, i] = tops[best, i]
            kept += 1
        tops[best, 3] = -1.0
