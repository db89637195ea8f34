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


@compiled_parallel
def search(
    coefficients: np.ndarray,
    monomials: np.ndarray,
    basis: np.ndarray,
    axes: np.ndarray,
    neighbours: np.ndarray,
    exponents: np.ndarray,
    degree: int,
    relative: float,
    absolute: float,
    limit: float,
    out: np.ndarray,
) -> None:
    """Fills out (voxels, count, 5): direction, amplitude and dispersion in degrees."""
    voxels, n = coefficients.shape
    for task in prange((voxels + LANES - 1) // LANES):
        x = np.zeros((n, LANES), coefficients.dtype)
        height = np.empty((len(basis), LANES), coefficients.dtype)
        first = task * LANES
        used = min(LANES, voxels - first)
        for v in range(used):
            for i in range(n):
                x[i, v] = coefficients[first + v, i]
        product(basis, x, height)
        line = np.empty(len(basis))
        tops, powers = np.empty((_MOST, 5)), _powers(degree)
        for v in range(used):
            highest = 0.0
            for i in range(len(basis)):
                line[i] = height[i, v]
                highest = max(highest, line[i])
            # A peak between the axes is higher than on them: a tenth covers it.
            floor = max(0.9 * max(relative * highest, absolute), 1e-12)
            if highest < floor:
                continue
            count = _candidates(line, neighbours, floor, axes, tops)
            for c in range(count):
                _climb(monomials[first + v], exponents, degree, powers, tops[c])
            _choose(tops, count, relative, absolute, limit, out[first + v])


@compiled_parallel
def settle(
    monomials: np.ndarray, exponents: np.ndarray, degree: int, limit: float, directions: np.ndarray
) -> None:
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
            _climb(monomials[v], exponents, degree, powers, top)
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
def _candidates(
    line: np.ndarray, neighbours: np.ndarray, floor: float, axes: np.ndarray, tops: np.ndarray
) -> int:
    """Local maxima above the floor, the largest `_MOST` of them; returns how many."""
    count = 0
    for i in range(len(line)):
        if line[i] < floor:
            continue
        top = True
        for k in range(neighbours.shape[1]):
            if line[neighbours[i, k]] > line[i]:
                top = False
                break
        if not top:
            continue
        slot = count
        if count == len(tops):
            slot = 0
            for c in range(1, count):
                if tops[c, 3] < tops[slot, 3]:
                    slot = c
            if tops[slot, 3] >= line[i]:
                continue
        else:
            count += 1
        tops[slot, 0], tops[slot, 1], tops[slot, 2] = axes[i, 0], axes[i, 1], axes[i, 2]
        tops[slot, 3] = line[i]
    return count


@compiled
def _climb(
    polynomial: np.ndarray, exponents: np.ndarray, degree: int, powers: np.ndarray, top: np.ndarray
) -> None:
    """Move to where the gradient on the sphere vanishes; fills direction, amplitude, dispersion.

    For a homogeneous p of degree d, u . grad p = d p: on the sphere the gradient is grad p - d p u
    and the curvature in the tangent plane is that of p minus d p.
    """
    g, h, last = np.zeros(3), np.zeros(6), top[:3].copy()
    value, mean, before = 0.0, 0.0, -math.inf
    for _ in range(_STEPS):
        value = _derivatives(polynomial, exponents, degree, powers, top, g, h)
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
        if length < 1e-6:
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
    exponents: np.ndarray,
    degree: int,
    powers: np.ndarray,
    u: np.ndarray,
    g: np.ndarray,
    h: np.ndarray,
) -> float:
    """The polynomial at u, its gradient g (3,) and second derivatives h (6,).

    powers: (3, 3, degree + 1) to be filled with u's powers, their first and second derivatives.
    """
    for c in range(3):
        for k in range(1, degree + 1):
            powers[0, c, k] = powers[0, c, k - 1] * u[c]
            powers[1, c, k] = k * powers[0, c, k - 1]
            powers[2, c, k] = k * powers[1, c, k - 1]
    value, gx, gy, gz = 0.0, 0.0, 0.0, 0.0
    hxx, hyy, hzz, hxy, hxz, hyz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for t in range(len(exponents)):
        i, j, k = exponents[t, 0], exponents[t, 1], exponents[t, 2]
        y0, z0, y1, z1 = powers[0, 1, j], powers[0, 2, k], powers[1, 1, j], powers[1, 2, k]
        x, dx = polynomial[t] * powers[0, 0, i], polynomial[t] * powers[1, 0, i]
        both = y0 * z0
        value += x * both
        gx += dx * both
        gy += x * y1 * z0
        gz += x * y0 * z1
        hxx += polynomial[t] * powers[2, 0, i] * both
        hyy += x * powers[2, 1, j] * z0
        hzz += x * y0 * powers[2, 2, k]
        hxy += dx * y1 * z0
        hxz += dx * y0 * z1
        hyz += x * y1 * z1
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
