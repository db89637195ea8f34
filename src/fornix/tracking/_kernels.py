"""What is compiled: stepping through an interpolated orientation field."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

#: How a streamline ended.
ACCEPTED, TOO_SHORT, TOO_LONG, IN_FLUID, IN_WHITE, OUTSIDE, NO_START = range(7)


@njit(cache=True, inline="always")
def _mix(state):  # type: ignore[no-untyped-def]
    """One step of splitmix64 (Steele et al., 2014): new state and 64 random bits."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, z ^ (z >> np.uint64(31))


@njit(cache=True, inline="always")
def _uniform(state):  # type: ignore[no-untyped-def]
    state, bits = _mix(state)
    return state, (bits >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def _trilinear(volume, x, y, z):  # type: ignore[no-untyped-def]
    """Value at voxel coordinates, 0 beyond the grid."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - i, y - j, z - k
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                p, q, r = i + a, j + b, k + c
                if (
                    0 <= p < volume.shape[0]
                    and 0 <= q < volume.shape[1]
                    and 0 <= r < volume.shape[2]
                ):
                    weight = (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
                    total += weight * volume[p, q, r]
    return total


@njit(cache=True)
def _pick_row(lookup, x, y, z, u):  # type: ignore[no-untyped-def]
    """The row of one of the eight voxels around a point, drawn by trilinear weight; -1 if none."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - i, y - j, z - k
    a, b, c = 0, 0, 0
    # One uniform number, split three ways, draws the three corners.
    if u < fx:
        a, u = 1, u / max(fx, 1e-12)
    else:
        u = (u - fx) / max(1 - fx, 1e-12)
    if u < fy:
        b, u = 1, u / max(fy, 1e-12)
    else:
        u = (u - fy) / max(1 - fy, 1e-12)
    if u < fz:
        c = 1
    p, q, r = i + a, j + b, k + c
    if 0 <= p < lookup.shape[0] and 0 <= q < lookup.shape[1] and 0 <= r < lookup.shape[2]:
        return lookup[p, q, r]
    return -1


@njit(cache=True)
def _blend(lookup, amplitudes, cone, x, y, z, out):  # type: ignore[no-untyped-def]
    """Trilinear amplitudes on the axes of a cone, into out."""
    out[:] = 0.0
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - i, y - j, z - k
    for a in range(2):
        for b in range(2):
            for c in range(2):
                p, q, r = i + a, j + b, k + c
                if (
                    0 <= p < lookup.shape[0]
                    and 0 <= q < lookup.shape[1]
                    and 0 <= r < lookup.shape[2]
                ):
                    row = lookup[p, q, r]
                    if row >= 0:
                        weight = (
                            (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
                        )
                        for n in range(cone.shape[0]):
                            if cone[n] < 0:
                                break
                            out[n] += weight * amplitudes[row, cone[n]]


@njit(cache=True)
def _centroid(direction, best, best_value, cone, room, axes):  # type: ignore[no-untyped-def]
    """Into direction: the middle of the lobe around the largest amplitude, finer than the grid."""
    sign = 1.0
    if (
        direction[0] * axes[best, 0] + direction[1] * axes[best, 1] + direction[2] * axes[best, 2]
        < 0
    ):
        sign = -1.0
    sx, sy, sz = 0.0, 0.0, 0.0
    for n in range(cone.shape[0]):
        m = cone[n]
        if m < 0:
            break
        near = axes[m, 0] * axes[best, 0] + axes[m, 1] * axes[best, 1] + axes[m, 2] * axes[best, 2]
        if abs(near) < 0.97 or room[n] < 0.5 * best_value:
            continue
        weight = (room[n] - 0.5 * best_value) * (1.0 if near >= 0 else -1.0)
        sx += weight * axes[m, 0]
        sy += weight * axes[m, 1]
        sz += weight * axes[m, 2]
    norm = np.sqrt(sx * sx + sy * sy + sz * sz)
    direction[0], direction[1], direction[2] = sign * sx / norm, sign * sy / norm, sign * sz / norm


@njit(cache=True)
def _next(direction, last, lookup, amplitudes, axes, cones, x, y, z, least, cosine, sample, state, room):  # type: ignore[no-untyped-def]  # fmt: skip
    """Choose the next direction into `direction`; returns the axis taken (-1: none) and the state."""
    cone = cones[last]
    _blend(lookup, amplitudes, cone, x, y, z, room)
    total, best, best_value = 0.0, -1, least
    for n in range(cone.shape[0]):
        m = cone[n]
        if m < 0:
            break
        dot = direction[0] * axes[m, 0] + direction[1] * axes[m, 1] + direction[2] * axes[m, 2]
        if abs(dot) < cosine or room[n] < least:
            room[n] = 0.0
            continue
        if room[n] > best_value:
            best, best_value = m, room[n]
        total += room[n]
    if total <= 0.0 or best < 0:
        return -1, state
    chosen = best
    if sample:
        state, u = _uniform(state)
        u *= total
        for n in range(cone.shape[0]):
            if cone[n] < 0:
                break
            u -= room[n]
            if u <= 0.0:
                chosen = cone[n]
                break
    if not sample:
        _centroid(direction, best, best_value, cone, room, axes)
        return chosen, state
    dot = (
        direction[0] * axes[chosen, 0]
        + direction[1] * axes[chosen, 1]
        + direction[2] * axes[chosen, 2]
    )
    sign = 1.0 if dot >= 0 else -1.0
    for d in range(3):
        direction[d] = sign * axes[chosen, d]
    # The axes are a grid of a few degrees: blur within one cell, so that none of it shows.
    norm = 0.0
    for d in range(3):
        state, u = _uniform(state)
        direction[d] += 0.12 * (u - 0.5)
        norm += direction[d] ** 2
    for d in range(3):
        direction[d] /= np.sqrt(norm)
    return chosen, state


@njit(cache=True)
def _start(lookup, amplitudes, x, y, z, least, sample, state):  # type: ignore[no-untyped-def]
    """The axis to start along at a seed, -1 where nothing passes the threshold."""
    state, u = _uniform(state)
    row = _pick_row(lookup, x, y, z, u if sample else 0.0)
    if row < 0:
        return -1, state
    total, best = 0.0, -1
    for m in range(amplitudes.shape[1]):
        value = amplitudes[row, m]
        if value >= least:
            total += value
            if best < 0 or value > amplitudes[row, best]:
                best = m
    if best >= 0 and sample:
        state, u = _uniform(state)
        u *= total
        for m in range(amplitudes.shape[1]):
            if amplitudes[row, m] >= least:
                u -= amplitudes[row, m]
                if u <= 0.0:
                    return m, state
    return best, state


@njit(cache=True, parallel=True)
def run_seeds(  # type: ignore[no-untyped-def]
    seeds, base, lookup, amplitudes, axes, cones, white, grey, fluid, size, step, cosine, least,
    shortest, capacity, sample,
):  # fmt: skip
    """Track every seed both ways. Points are in mm along the voxel axes, around the middle of a row."""
    count = seeds.shape[0]
    points = np.empty((count, 2 * capacity + 1, 3), dtype=np.float32)
    spans = np.zeros((count, 2), dtype=np.int64)
    status = np.zeros(count, dtype=np.int64)
    for s in prange(count):
        state = (base + np.uint64(s)) * np.uint64(0xD1342543DE82EF95) + np.uint64(1)
        room = np.empty(cones.shape[1])
        direction = np.empty(3)
        first, state = _start(
            lookup, amplitudes, seeds[s, 0], seeds[s, 1], seeds[s, 2], least, sample, state
        )
        if first < 0:
            status[s] = NO_START
            continue
        for d in range(3):
            points[s, capacity, d] = seeds[s, d] * size[d]
        low, high = capacity, capacity + 1
        result = ACCEPTED
        for way in range(2):
            sign = 1.0 if way == 0 else -1.0
            for d in range(3):
                direction[d] = sign * axes[first, d]
            last = first
            px, py, pz = points[s, capacity, 0], points[s, capacity, 1], points[s, capacity, 2]
            while True:
                px += step * direction[0]
                py += step * direction[1]
                pz += step * direction[2]
                x, y, z = px / size[0], py / size[1], pz / size[2]
                if not (
                    -0.5 <= x <= lookup.shape[0] - 0.5
                    and -0.5 <= y <= lookup.shape[1] - 0.5
                    and -0.5 <= z <= lookup.shape[2] - 0.5
                ):
                    result = OUTSIDE
                    break
                if high - low >= capacity:
                    result = TOO_LONG
                    break
                if way == 0:
                    points[s, high, 0], points[s, high, 1], points[s, high, 2] = px, py, pz
                    high += 1
                else:
                    low -= 1
                    points[s, low, 0], points[s, low, 1], points[s, low, 2] = px, py, pz
                g = _trilinear(grey, x, y, z)
                f = _trilinear(fluid, x, y, z)
                w = _trilinear(white, x, y, z)
                # Past the grey matter's middle, or out of the brain's rim or its cut stem.
                if g > 0.5 or (w + g + f < 0.5 and f < 0.25):
                    break
                if f > 0.5:
                    result = IN_FLUID
                    break
                last, state = _next(
                    direction, last, lookup, amplitudes, axes, cones, x, y, z, least, cosine,
                    sample, state, room,
                )  # fmt: skip
                if last < 0:
                    # The FOD fades towards the cortex: an end in mostly grey tissue is an end.
                    if g < 0.25:
                        result = IN_WHITE
                    break
            if result != ACCEPTED:
                break
        if result == ACCEPTED and high - low - 1 < shortest:
            result = TOO_SHORT
        status[s] = result
        spans[s, 0], spans[s, 1] = low, high
    return points, spans, status
