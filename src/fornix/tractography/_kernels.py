"""What is compiled for tracking: random numbers, looking up fields, choosing the next direction.

Positions are voxel coordinates here; directions are unit vectors along the voxel axes scaled to mm.
Amplitudes of the FOD are rows (one per voxel that may hold fibres, found through `lookup`) on a fixed
set of axes of the half sphere; `cones[m]` lists the axes near axis m.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, inline="always", fastmath=False)
def mix(state):  # type: ignore[no-untyped-def]
    """One step of splitmix64 (Steele et al., 2014): new state and 64 random bits."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, z ^ (z >> np.uint64(31))


@njit(cache=True, inline="always", fastmath=False)
def uniform(state):  # type: ignore[no-untyped-def]
    """New state and a number in [0, 1)."""
    state, bits = mix(state)
    return state, (bits >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, fastmath=False)
def draw_wave(waves, state, out):  # type: ignore[no-untyped-def]
    """Into out: a random function on the axes, mean 0, variance 1, smooth as the FOD is."""
    out[:] = 0.0
    for c in range(waves.shape[1]):
        state, u = uniform(state)
        state, v = uniform(state)
        g = np.sqrt(-2.0 * np.log(1.0 - u)) * np.cos(2.0 * np.pi * v)
        for m in range(waves.shape[0]):
            out[m] += g * waves[m, c]
    return state


@njit(cache=True, fastmath=False)
def shares(tissue, x, y, z, out):  # type: ignore[no-untyped-def]
    """Into out: trilinear white, grey and fluid at voxel coordinates, 0 beyond the grid."""
    out[0], out[1], out[2] = 0.0, 0.0, 0.0
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - i, y - j, z - k
    for a in range(2):
        for b in range(2):
            for c in range(2):
                p, q, r = i + a, j + b, k + c
                if (
                    0 <= p < tissue.shape[0]
                    and 0 <= q < tissue.shape[1]
                    and 0 <= r < tissue.shape[2]
                ):
                    weight = (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
                    for t in range(3):
                        out[t] += weight * tissue[p, q, r, t]


@njit(cache=True, fastmath=False)
def corners(lookup, x, y, z, rows, weights):  # type: ignore[no-untyped-def]
    """Rows of the voxels around a point that hold fibres, and their trilinear weights; how many."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fx, fy, fz = x - i, y - j, z - k
    count = 0
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
                        if weight > 0:
                            rows[count], weights[count] = row, weight
                            count += 1
    return count


@njit(cache=True, fastmath=False)
def blend(rows, weights, count, amplitudes, spread, wave, cone, out):  # type: ignore[no-untyped-def]
    """Into out: trilinear amplitudes on the axes of a cone, perturbed within their standard deviation.

    spread: standard deviations like amplitudes, or (0, 0) for none; wave: this streamline's own.
    """
    out[:] = 0.0
    for e in range(count):
        row, weight = rows[e], weights[e]
        if spread.shape[0]:
            for n in range(cone.shape[0]):
                m = cone[n]
                if m < 0:
                    break
                out[n] += weight * (amplitudes[row, m] + wave[m] * spread[row, m])
        else:
            for n in range(cone.shape[0]):
                m = cone[n]
                if m < 0:
                    break
                out[n] += weight * amplitudes[row, m]


@njit(cache=True, fastmath=False)
def centroid(direction, best, best_value, cone, room, axes):  # type: ignore[no-untyped-def]
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


@njit(cache=True, fastmath=False)
def turn(direction, last, cone, room, axes, least, cosine, sample, state):  # type: ignore[no-untyped-def]
    """Choose the next direction among the axes of a cone with amplitudes `room`, into `direction`.

    Returns the axis taken (-1: none) and the state.
    """
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
    if not sample:
        centroid(direction, best, best_value, cone, room, axes)
        return best, state
    chosen = best
    state, u = uniform(state)
    u *= total
    for n in range(cone.shape[0]):
        if cone[n] < 0:
            break
        u -= room[n]
        if u <= 0.0 and room[n] > 0.0:
            chosen = cone[n]
            break
    dot = (
        direction[0] * axes[chosen, 0]
        + direction[1] * axes[chosen, 1]
        + direction[2] * axes[chosen, 2]
    )
    sign = 1.0 if dot >= 0 else -1.0
    # The axes are a grid of a few degrees: blur within one cell, so that none of it shows.
    norm = 0.0
    for d in range(3):
        state, u = uniform(state)
        direction[d] = sign * axes[chosen, d] + 0.12 * (u - 0.5)
        norm += direction[d] ** 2
    for d in range(3):
        direction[d] /= np.sqrt(norm)
    return chosen, state


@njit(cache=True, fastmath=False)
def start_axis(rows, weights, count, amplitudes, spread, wave, least, sample, state):  # type: ignore[no-untyped-def]
    """The axis to start along at a seed: of the largest amplitude, or drawn; -1 if none passes."""
    best, best_value, total, chosen = -1, least, 0.0, -1
    for m in range(amplitudes.shape[1]):
        value = 0.0
        for e in range(count):
            value += weights[e] * amplitudes[rows[e], m]
            if spread.shape[0]:
                value += weights[e] * wave[m] * spread[rows[e], m]
        if value >= least:
            total += value
            if best < 0 or value > best_value:
                best, best_value = m, value
            if sample:
                # One pass: each axis takes over with its share of what was seen so far.
                state, u = uniform(state)
                if u * total < value:
                    chosen = m
    if sample and best >= 0:
        return chosen, state
    return best, state
