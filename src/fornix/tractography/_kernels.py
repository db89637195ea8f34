"""What is compiled for tracking: random numbers, reading the field, the next direction.

Positions are voxel coordinates here; directions are unit vectors along the voxel axes scaled to mm.
All kernels are compiled without reordering (see `numerics.algebra`): the same seed gives the same
streamlines, whatever the compiler.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.numerics.algebra import compiled_exact
from fornix.tractography._kernel_arguments import (
    FieldArrays,
    Floats32,
    Floats64,
    Scratch,
)


@compiled_exact
def mix(state: np.uint64) -> tuple[np.uint64, np.uint64]:
    """One step of splitmix64 (Steele et al., OOPSLA 2014): new state and 64 random bits."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, z ^ (z >> np.uint64(31))


@compiled_exact
def uniform(state: np.uint64) -> tuple[np.uint64, float]:
    """New state and a number in [0, 1)."""
    state, bits = mix(state)
    return state, (bits >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled_exact
def sample_noise(basis: Floats32, state: np.uint64, out: Floats64) -> np.uint64:
    """Into out (A,): a random function on the axes, mean 0, variance 1, smooth as the FOD is."""
    out[:] = 0.0
    for c in range(basis.shape[1]):
        state, u = uniform(state)
        state, v = uniform(state)
        g = np.sqrt(-2.0 * np.log(1.0 - u)) * np.cos(2.0 * np.pi * v)
        for m in range(basis.shape[0]):
            out[m] += g * basis[m, c]
    return state


@compiled_exact
def new_scratch(field: FieldArrays) -> Scratch:
    """Arrays for one streamline's kernels to write into."""
    return Scratch(
        np.empty(8, np.int64),
        np.empty(8),
        np.empty(3),
        np.empty(field.axes.shape[0] if field.std.shape[0] else 0),
        np.empty(field.cones.shape[1]),
        np.empty((3, 3)),
        np.empty(3),
    )


@compiled_exact
def tissue_at(tissue: Floats32, x: float, y: float, z: float, out: Floats64) -> None:
    """Into out (3,): trilinear wm, gm and csf at voxel coordinates, 0 beyond the grid."""
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


@compiled_exact
def trilinear_rows(
    lookup: NDArray[np.int32],
    x: float,
    y: float,
    z: float,
    rows: NDArray[np.int64],
    weights: Floats64,
) -> int:
    """Into rows and weights (8,): the voxels around a point that hold fibres; returns how many."""
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


@compiled_exact
def amplitudes_in_cone(
    amplitudes: Floats32,
    std: Floats32,
    noise: Floats64,
    cone: NDArray[np.int32],
    rows: NDArray[np.int64],
    weights: Floats64,
    count: int,
    out: Floats64,
) -> None:
    """Into out (width,): amplitudes on the axes of a cone, between the first `count` rows.

    Where standard deviations are sampled, the streamline's own noise times them is added.
    """
    out[:] = 0.0
    for e in range(count):
        row, weight = rows[e], weights[e]
        if std.shape[0]:
            for n in range(cone.shape[0]):
                m = cone[n]
                if m < 0:
                    break
                out[n] += weight * (amplitudes[row, m] + noise[m] * std[row, m])
        else:
            for n in range(cone.shape[0]):
                m = cone[n]
                if m < 0:
                    break
                out[n] += weight * amplitudes[row, m]


@compiled_exact
def _lobe_centre(
    axes: Floats64,
    cone: NDArray[np.int32],
    best: int,
    best_value: float,
    amplitudes: Floats64,
    direction: Floats64,
) -> None:
    """Into direction: the middle of the lobe around the largest amplitude, finer than the axes."""
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
        if abs(near) < 0.97 or amplitudes[n] < 0.5 * best_value:
            continue
        weight = (amplitudes[n] - 0.5 * best_value) * (1.0 if near >= 0 else -1.0)
        sx += weight * axes[m, 0]
        sy += weight * axes[m, 1]
        sz += weight * axes[m, 2]
    norm = np.sqrt(sx * sx + sy * sy + sz * sz)
    direction[0], direction[1], direction[2] = sign * sx / norm, sign * sy / norm, sign * sz / norm


@compiled_exact
def next_direction(
    axes: Floats64,
    cone: NDArray[np.int32],
    threshold: float,
    cosine: float,
    sample: bool,
    direction: Floats64,
    amplitudes: Floats64,
    state: np.uint64,
) -> tuple[int, np.uint64]:
    """Into direction: the next one, among the axes of a cone, drawn or of the largest amplitude.

    Args:
        axes: (A, 3) unit vectors.
        cone: (width,) the axes near the one taken before, filled up with -1.
        threshold: Least amplitude at which an axis is taken.
        cosine: Of the largest turn.
        sample: Whether the direction is drawn with the amplitudes as its probabilities.
        direction: (3,) of the last step, replaced by the next.
        amplitudes: (width,) on the axes of the cone; those that cannot be taken are set to 0.
        state: Of the random numbers.

    Returns:
        The axis taken (-1: none) and the new state.
    """
    total, best, best_value = 0.0, -1, threshold
    for n in range(cone.shape[0]):
        m = cone[n]
        if m < 0:
            break
        dot = direction[0] * axes[m, 0] + direction[1] * axes[m, 1] + direction[2] * axes[m, 2]
        if abs(dot) < cosine or amplitudes[n] < threshold:
            amplitudes[n] = 0.0
            continue
        if amplitudes[n] > best_value:
            best, best_value = m, amplitudes[n]
        total += amplitudes[n]
    if total <= 0.0 or best < 0:
        return -1, state
    if not sample:
        _lobe_centre(axes, cone, best, best_value, amplitudes, direction)
        return best, state
    taken = best
    state, u = uniform(state)
    u *= total
    for n in range(cone.shape[0]):
        if cone[n] < 0:
            break
        u -= amplitudes[n]
        if u <= 0.0 and amplitudes[n] > 0.0:
            taken = cone[n]
            break
    dot = (
        direction[0] * axes[taken, 0]
        + direction[1] * axes[taken, 1]
        + direction[2] * axes[taken, 2]
    )
    sign = 1.0 if dot >= 0 else -1.0
    # The axes are a few degrees apart: blurred within one cell, so that none of it shows.
    norm = 0.0
    for d in range(3):
        state, u = uniform(state)
        direction[d] = sign * axes[taken, d] + 0.12 * (u - 0.5)
        norm += direction[d] ** 2
    for d in range(3):
        direction[d] /= np.sqrt(norm)
    return taken, state


@compiled_exact
def start_axis(
    field: FieldArrays,
    count: int,
    scratch: Scratch,
    threshold: float,
    sample: bool,
    state: np.uint64,
) -> tuple[int, np.uint64]:
    """The axis to start along at a seed, between `count` rows of scratch; -1 if none passes.

    The one of the largest amplitude, or one drawn with the amplitudes as its probabilities.
    """
    amplitudes, std, noise = field.amplitudes, field.std, scratch.noise
    rows, weights = scratch.rows, scratch.weights
    best, best_value, total, taken = -1, threshold, 0.0, -1
    for m in range(amplitudes.shape[1]):
        value = 0.0
        for e in range(count):
            value += weights[e] * amplitudes[rows[e], m]
            if std.shape[0]:
                value += weights[e] * noise[m] * std[rows[e], m]
        if value >= threshold:
            total += value
            if best < 0 or value > best_value:
                best, best_value = m, value
            if sample:
                # One pass: each axis takes over with its share of what came before it.
                state, u = uniform(state)
                if u * total < value:
                    taken = m
    if sample and best >= 0:
        return taken, state
    return best, state
