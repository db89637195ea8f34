"""The compiled loop: every seed both ways, step by step, until a rule ends it."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from fornix.tractography._kernels import blend, corners, draw_wave, shares, start_axis, turn
from fornix.tractography._transport import bend, carry, frame_about
from fornix.tractography.learned._policy_kernels import (
    BACK,
    END,
    FEATURES,
    OUTPUTS,
    SEEN,
    TRUE,
    TURNS,
    back_along,
    choose,
    finish,
    look,
    swing,
    think,
)

#: How a streamline ended.
(
    ACCEPTED, TOO_SHORT, TOO_LONG, IN_FLUID, IN_WHITE, OUTSIDE, NO_START, EXCLUDED, NOT_INCLUDED,
    UNLIKELY, OUTCOMES,
) = range(11)  # fmt: skip

#: Bits of the regions volume: excluded, stop, then one for each region to pass through.
EXCLUDE_BIT, STOP_BIT, FIRST_INCLUDE = 0, 1, 2

DETERMINISTIC, PROBABILISTIC, TRANSPORT, POLICY = range(4)


@njit(cache=True, fastmath=False)
def _region(regions, x, y, z):  # type: ignore[no-untyped-def]
    """Bits of the voxel around voxel coordinates inside the grid."""
    return regions[int(np.floor(x + 0.5)), int(np.floor(y + 0.5)), int(np.floor(z + 0.5))]


@njit(cache=True, parallel=True, fastmath=False)
def propagate_seeds(  # type: ignore[no-untyped-def]
    seeds, numbers, lookup, amplitudes, spread, waves, axes, cones, nearest, tissue, regions, wanted,
    size, step, cosine, sharpest, probe, least, shortest, capacity, algorithm, any_end, layers, habits,
):  # fmt: skip
    """Track every seed (S, 3) in voxel coordinates both ways; numbers (S,) start their random numbers.

    Returns points (S, 2 capacity + 1, 3) in mm along the voxel axes, spans (S, 2) of the rows in use,
    and status (S,). wanted: the bits of regions that a streamline must pass through. any_end: a
    streamline may end anywhere, not in grey matter alone. layers: of the policy's network (policy.py);
    habits: the FOD's scale, sharpness of the choice, and limits on the logits of END and of TRUE along
    the way and at an end.
    """
    count = seeds.shape[0]
    points = np.empty((count, 2 * capacity + 1, 3), dtype=np.float32)
    spans = np.zeros((count, 2), dtype=np.int64)
    status = np.zeros(count, dtype=np.int64)
    exclude, stop = np.uint64(1) << np.uint64(EXCLUDE_BIT), np.uint64(1) << np.uint64(STOP_BIT)
    for s in prange(count):
        state = numbers[s] * np.uint64(0xD1342543DE82EF95) + np.uint64(1)
        room, rows, weights = np.empty(cones.shape[1]), np.empty(8, np.int64), np.empty(8)
        direction, place, t, bent = np.empty(3), np.empty(3), np.empty(3), np.empty(2)
        frame, other, p = np.empty((3, 3)), np.empty((3, 3)), np.empty(3)
        wave = np.empty(axes.shape[0] if spread.shape[0] else 0)
        learned = algorithm == POLICY
        seen = np.empty(FEATURES if learned else 0, np.float32)
        logits, chance = np.empty(OUTPUTS, np.float32), np.empty(TURNS.shape[0])
        hidden = np.empty(layers[1].shape[0], np.float32)
        deeper = np.empty(layers[3].shape[0], np.float32)
        past, lit = np.empty((BACK.shape[0], 3)), np.empty(SEEN.shape[0], np.int64)
        if spread.shape[0]:
            state = draw_wave(waves, state, wave)
        near = corners(lookup, seeds[s, 0], seeds[s, 1], seeds[s, 2], rows, weights)
        first, state = start_axis(
            rows, weights, near, amplitudes, spread, wave, least, algorithm != DETERMINISTIC, state
        )
        if first < 0:
            status[s] = NO_START
            continue
        for d in range(3):
            points[s, capacity, d] = seeds[s, d] * size[d]
        low, high = capacity, capacity + 1
        result = ACCEPTED
        visited = _region(regions, seeds[s, 0], seeds[s, 1], seeds[s, 2])
        if visited & exclude:
            result = EXCLUDED
        for way in range(2):
            if result != ACCEPTED:
                break
            sign = 1.0 if way == 0 else -1.0
            for d in range(3):
                direction[d] = sign * axes[first, d]
                p[d] = points[s, capacity, d]
            last = first
            if algorithm == TRANSPORT or learned:
                state = frame_about(direction, state, frame)
                bent[0], bent[1] = 0.0, 0.0
            while True:
                if algorithm == TRANSPORT:
                    carry(frame, p, bent[0], bent[1], step)
                else:
                    for d in range(3):
                        p[d] += step * direction[d]
                x, y, z = p[0] / size[0], p[1] / size[1], p[2] / size[2]
                if not (
                    -0.5 <= x < lookup.shape[0] - 0.5
                    and -0.5 <= y < lookup.shape[1] - 0.5
                    and -0.5 <= z < lookup.shape[2] - 0.5
                ):
                    if not any_end:
                        result = OUTSIDE
                    break
                if high - low >= capacity:
                    result = TOO_LONG
                    break
                if way == 0:
                    for d in range(3):
                        points[s, high, d] = p[d]
                    high += 1
                else:
                    low -= 1
                    for d in range(3):
                        points[s, low, d] = p[d]
                here = _region(regions, x, y, z)
                visited |= here
                if here & exclude:
                    result = EXCLUDED
                    break
                if here & stop:
                    break
                shares(tissue, x, y, z, t)
                # Past the grey matter's middle, or out of the brain's rim or its cut stem.
                rim = t[0] + t[1] + t[2] < 0.5 and t[2] < 0.25
                if rim or (t[1] > 0.5 and not learned):
                    break
                if t[2] > 0.5:
                    if not any_end:
                        result = IN_FLUID
                    break
                if learned:
                    at, begun, run = high - 1, capacity, 1
                    if way == 1:
                        at, begun, run = low, high - 1, -1
                    length = back_along(points[s], at, run, begun, step, past)
                    look(
                        p, frame, past, length, lookup, amplitudes, tissue, nearest, size, habits[0],
                        rows, weights, lit, t, seen,
                    )  # fmt: skip
                    think(seen, *layers, hidden, deeper, logits)
                    ends, state = finish(logits[END] - habits[2], habits[1] > 0, step, state)
                    if logits[TRUE] < (habits[4] if ends else habits[3]):
                        result = UNLIKELY
                    if ends or result != ACCEPTED:
                        break
                    state, _ = choose(logits, frame, cosine, habits[1], state, chance, direction)
                    swing(frame, direction)
                    going = True
                elif algorithm == TRANSPORT:
                    going, state = bend(
                        frame, p, sharpest, probe, lookup, amplitudes, spread, wave, nearest, size,
                        least, state, rows, weights, other, place, bent,
                    )  # fmt: skip
                else:
                    near = corners(lookup, x, y, z, rows, weights)
                    blend(rows, weights, near, amplitudes, spread, wave, cones[last], room)
                    last, state = turn(
                        direction, last, cones[last], room, axes, least, cosine,
                        algorithm == PROBABILISTIC, state,
                    )  # fmt: skip
                    going = last >= 0
                if not going:
                    # The FOD fades towards the cortex: an end in mostly grey tissue is an end.
                    if t[1] < 0.25 and not any_end:
                        result = IN_WHITE
                    break
        if result == ACCEPTED and high - low - 1 < shortest:
            result = TOO_SHORT
        if result == ACCEPTED and (visited & wanted) != wanted:
            result = NOT_INCLUDED
        status[s] = result
        spans[s, 0], spans[s, 1] = low, high
    return points, spans, status


@njit(cache=True, parallel=True, fastmath=False)
def gather(points, spans, chosen, turning, shift):  # type: ignore[no-untyped-def]
    """The points of the chosen streamlines one after another, in world mm, and how many each has."""
    lengths = np.empty(len(chosen), np.int64)
    for n in range(len(chosen)):
        lengths[n] = spans[chosen[n], 1] - spans[chosen[n], 0]
    begins = np.cumsum(lengths) - lengths
    out = np.empty((lengths.sum(), 3), np.float32)
    for n in prange(len(chosen)):
        s = chosen[n]
        for i in range(lengths[n]):
            for d in range(3):
                value = shift[d]
                for e in range(3):
                    value += turning[d, e] * points[s, spans[s, 0] + i, e]
                out[begins[n] + i, d] = value
    return out, lengths
