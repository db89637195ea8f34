"""The compiled loop: every seed both ways, step by step, until a criterion ends it."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fornix.numerics.algebra import compiled_exact, compiled_parallel_exact
from fornix.tractography._kernel_arguments import (
    FieldArrays,
    Floats32,
    Floats64,
    MlpWeights,
    PolicyParams,
    Regions,
    StepParams,
)
from fornix.tractography._kernels import (
    amplitudes_in_cone,
    new_scratch,
    next_direction,
    sample_noise,
    start_axis,
    tissue_at,
    trilinear_rows,
)
from fornix.tractography._transport import sample_curvature, start_frame, transport_frame
from fornix.tractography.learned._policy_kernels import (
    decide,
    new_policy_scratch,
    path_behind,
    rotate_frame,
    sample_turn,
)

#: How a streamline ended.
(
    ACCEPTED, TOO_SHORT, TOO_LONG, IN_CSF, IN_WM, OUTSIDE, NO_START, EXCLUDED, NOT_INCLUDED,
    UNLIKELY, OUTCOMES,
) = range(11)  # fmt: skip

#: Bits of the regions volume: excluded, stop, then one for each region to pass through.
EXCLUDE_BIT, STOP_BIT, FIRST_INCLUDE = 0, 1, 2
_EXCLUDE, _STOP = np.uint64(1 << EXCLUDE_BIT), np.uint64(1 << STOP_BIT)

DETERMINISTIC, PROBABILISTIC, TRANSPORT, POLICY = range(4)


@compiled_exact
def _region_at(bits: NDArray[np.uint64], x: float, y: float, z: float) -> np.uint64:
    """Bits of the voxel around voxel coordinates inside the grid."""
    i, j, k = int(np.floor(x + 0.5)), int(np.floor(y + 0.5)), int(np.floor(z + 0.5))
    return bits[i, j, k]


@compiled_exact
def _propagate_seed(
    seed: Floats64,
    number: np.uint64,
    field: FieldArrays,
    params: StepParams,
    regions: Regions,
    mlp: MlpWeights,
    policy: PolicyParams,
    points: Floats32,
) -> tuple[int, int, int]:
    """One streamline into points (2 max_steps + 1, 3); how it ended, its first row and one past its last."""
    # Read once: each look into a named tuple inside a loop counts a reference.
    amplitudes, std, axes, cones = field.amplitudes, field.std, field.axes, field.cones
    threshold, cosine = params.threshold, params.cosine
    sampled = params.algorithm == PROBABILISTIC
    lookup, fractions, size, bits = field.lookup, field.tissue, field.voxel_size, regions.bits
    grid, middle, step, act_ends = lookup.shape, params.max_steps, params.step, params.act_ends
    learned, transport = params.algorithm == POLICY, params.algorithm == TRANSPORT
    state = number * np.uint64(0xD1342543DE82EF95) + np.uint64(1)
    scratch, net = new_scratch(field), new_policy_scratch(mlp)
    tissue, rows, weights = scratch.tissue, scratch.rows, scratch.weights
    noise, cone = scratch.noise, scratch.cone
    direction, curvature, p = np.empty(3), np.empty(2), np.empty(3)
    frame = np.empty((3, 3))
    low, high = middle, middle + 1
    if std.shape[0]:
        state = sample_noise(field.noise_basis, state, noise)
    count = trilinear_rows(lookup, seed[0], seed[1], seed[2], rows, weights)
    drawn = params.algorithm != DETERMINISTIC
    first, state = start_axis(field, count, scratch, threshold, drawn, state)
    if first < 0:
        return NO_START, 0, 0
    for d in range(3):
        points[middle, d] = seed[d] * size[d]
    outcome = ACCEPTED
    visited = _region_at(bits, seed[0], seed[1], seed[2])
    if visited & _EXCLUDE:
        outcome = EXCLUDED
    for way in range(2):
        if outcome != ACCEPTED:
            break
        sign = 1.0 if way == 0 else -1.0
        for d in range(3):
            direction[d] = sign * axes[first, d]
            p[d] = points[middle, d]
        last = first
        if transport or learned:
            state = start_frame(direction, state, frame)
            curvature[0], curvature[1] = 0.0, 0.0
        while True:
            if transport:
                transport_frame(frame, p, curvature[0], curvature[1], step)
            else:
                for d in range(3):
                    p[d] += step * direction[d]
            x, y, z = p[0] / size[0], p[1] / size[1], p[2] / size[2]
            if not (
                -0.5 <= x < grid[0] - 0.5
                and -0.5 <= y < grid[1] - 0.5
                and -0.5 <= z < grid[2] - 0.5
            ):
                if act_ends:
                    outcome = OUTSIDE
                break
            if high - low >= middle:
                outcome = TOO_LONG
                break
            if way == 0:
                for d in range(3):
                    points[high, d] = p[d]
                high += 1
            else:
                low -= 1
                for d in range(3):
                    points[low, d] = p[d]
            here = _region_at(bits, x, y, z)
            visited |= here
            if here & _EXCLUDE:
                outcome = EXCLUDED
                break
            if here & _STOP:
                break
            tissue_at(fractions, x, y, z, tissue)
            wm, gm, csf = tissue[0], tissue[1], tissue[2]
            # Out of the brain's rim or its cut stem, or past the middle of the cortex.
            if (wm + gm + csf < 0.5 and csf < 0.25) or (gm > 0.5 and not learned):
                break
            if csf > 0.5:
                if act_ends:
                    outcome = IN_CSF
                break
            if learned:
                if way == 0:
                    length = path_behind(points, high - 1, middle, 1, step, net.path)
                else:
                    length = path_behind(points, low, high - 1, -1, step, net.path)
                ends, unlikely, state = decide(
                    field, mlp, policy, step, p, frame, length, scratch, net, state
                )
                if unlikely:
                    outcome = UNLIKELY
                if ends or unlikely:
                    break
                state, _ = sample_turn(
                    net.logits, frame, cosine, policy.sharpness, state, net.turn_weights,
                    direction,
                )  # fmt: skip
                rotate_frame(frame, direction)
                going = True
            elif transport:
                going, state = sample_curvature(field, params, frame, p, scratch, state, curvature)
            else:
                count = trilinear_rows(lookup, x, y, z, rows, weights)
                amplitudes_in_cone(amplitudes, std, noise, cones[last], rows, weights, count, cone)
                last, state = next_direction(
                    axes, cones[last], threshold, cosine, sampled, direction, cone, state
                )
                going = last >= 0
            if not going:
                # The FOD fades towards the cortex: an end in mostly grey matter is an end. The tissue
                # is that of this place, since only the learned tracker reads it elsewhere.
                if gm < 0.25 and act_ends:
                    outcome = IN_WM
                break
    if outcome == ACCEPTED and high - low - 1 < params.min_steps:
        outcome = TOO_SHORT
    if outcome == ACCEPTED and (visited & regions.required) != regions.required:
        outcome = NOT_INCLUDED
    return outcome, low, high


@compiled_parallel_exact
def propagate_seeds(
    seeds: Floats64,
    numbers: NDArray[np.uint64],
    field: FieldArrays,
    params: StepParams,
    regions: Regions,
    mlp: MlpWeights,
    policy: PolicyParams,
) -> tuple[Floats32, NDArray[np.int64], NDArray[np.int64]]:
    """Track every seed both ways.

    Args:
        seeds: (S, 3) voxel coordinates.
        numbers: (S,) what each streamline's random numbers start from.
        field: What streamlines run through.
        params: How they step and which are long enough.
        regions: Where they must and must not go.
        mlp: The learned tracker's network; empty arrays for the others.
        policy: How its logits are used.

    Returns:
        Points (S, 2 max_steps + 1, 3) in mm along the voxel axes with the seeds in the middle row,
        spans (S, 2) of the rows in use, and outcomes (S,), ACCEPTED or why not.
    """
    count = seeds.shape[0]
    points = np.empty((count, 2 * params.max_steps + 1, 3), dtype=np.float32)
    spans = np.zeros((count, 2), dtype=np.int64)
    outcomes = np.zeros(count, dtype=np.int64)
    for s in prange(count):
        outcomes[s], spans[s, 0], spans[s, 1] = _propagate_seed(
            seeds[s], numbers[s], field, params, regions, mlp, policy, points[s]
        )
    return points, spans, outcomes


@compiled_parallel_exact
def to_world(
    points: Floats32,
    spans: NDArray[np.int64],
    index: NDArray[np.int64],
    axes: Floats64,
    shift: Floats64,
) -> tuple[Floats32, NDArray[np.int64]]:
    """Points of some streamlines one after another in world mm, and how many each has.

    Args:
        points: (S, rows, 3) mm along the voxel axes, as `propagate_seeds` gives them.
        spans: (S, 2) the rows in use.
        index: (n,) which streamlines.
        axes: (3, 3) unit vectors of the voxel axes in world, as columns.
        shift: (3,) world position of voxel (0, 0, 0), mm.

    Returns:
        (P, 3) float32 and (n,).
    """
    lengths = np.empty(len(index), np.int64)
    for n in range(len(index)):
        lengths[n] = spans[index[n], 1] - spans[index[n], 0]
    begins = np.cumsum(lengths) - lengths
    out = np.empty((lengths.sum(), 3), np.float32)
    for n in prange(len(index)):
        s = index[n]
        for i in range(lengths[n]):
            for d in range(3):
                value = shift[d]
                for e in range(3):
                    value += axes[d, e] * points[s, spans[s, 0] + i, e]
                out[begins[n] + i, d] = value
    return out, lengths
