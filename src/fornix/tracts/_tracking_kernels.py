"""The compiled loop of tract-specific tracking: every seed both ways along its own tract.

Positions are mm along the voxel axes, as in `tractography._propagate`. Compiled without reordering: the same
seed gives the same streamlines, whatever the compiler.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fornix.numerics.algebra import compiled_exact, compiled_parallel_exact
from fornix.tractography._kernel_arguments import FieldArrays, Floats32, Floats64, Scratch
from fornix.tractography._kernels import (
    amplitudes_in_cone,
    new_scratch,
    next_direction,
    trilinear_rows,
)
from fornix.tractography._transport import nearest_axis_of

Indices = NDArray[np.int64]

#: How a streamline ended.
ACCEPTED, CUT, END_MISSED, TOO_SHORT, TOO_LONG, NO_START, OUTCOMES = range(7)


class TractArrays(NamedTuple):
    """All tracts of a scan, each in the box of voxels that holds it; rows are voxels of tracts.

    Attributes:
        corner: (T, 3) first voxel of each tract's box.
        shape: (T, 3) voxels of the box.
        begin: (T,) where the box begins in `lookup`.
        lookup: (cells,) row of each voxel of the boxes, one box after another in C order; -1 outside.
        probability: (R,) of the tract.
        ends: (R, 2) probability of its beginning and of its end.
        axis: (R, 3) unit vectors from its beginning to its end, in voxel axes.
        leave: (T,) probability below which a streamline has left the tract.
        end_level: (T, 2) probability of beginning and end from which a streamline may end there.
        brain: (X, Y, Z) what was scanned of the brain.
    """

    corner: Indices
    shape: Indices
    begin: Indices
    lookup: NDArray[np.int32]
    probability: Floats32
    ends: Floats32
    axis: Floats32
    leave: Floats64
    end_level: Floats64
    brain: NDArray[np.bool_]


class TractStepParams(NamedTuple):
    """How streamlines of tracts step.

    Attributes:
        step: mm.
        cosine: Of the largest turn per step.
        kappa: Concentration of the Watson distribution about the tract's axis by which the FOD is weighted.
        floor: Amplitude added to the FOD, so that a tract goes on where the FOD shows nothing of it.
        power: To which the FOD's amplitude is raised: larger ones give smoother streamlines.
        min_steps: Fewest steps of an accepted streamline.
        max_steps: Most steps of one way.
    """

    step: float
    cosine: float
    kappa: float
    floor: float
    power: float
    min_steps: int
    max_steps: int


@compiled_exact
def tract_at(
    tracts: TractArrays,
    tract: int,
    voxel: Floats64,
    heading: Floats64,
    axis: Floats64,
    ends: Floats64,
) -> float:
    """Probability of a tract at voxel coordinates, trilinear; into axis (3,) and ends (2,) what is there.

    The axis is turned along the heading and has the length 0 where there is none.
    """
    corner, shape, lookup = tracts.corner[tract], tracts.shape[tract], tracts.lookup
    begin, values, all_ends, axes = (
        tracts.begin[tract],
        tracts.probability,
        tracts.ends,
        tracts.axis,
    )
    axis[:] = 0.0
    ends[:] = 0.0
    i, j, k = int(np.floor(voxel[0])), int(np.floor(voxel[1])), int(np.floor(voxel[2]))
    fx, fy, fz = voxel[0] - i, voxel[1] - j, voxel[2] - k
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                p, q, r = i + a - corner[0], j + b - corner[1], k + c - corner[2]
                if not (0 <= p < shape[0] and 0 <= q < shape[1] and 0 <= r < shape[2]):
                    continue
                row = lookup[begin + (p * shape[1] + q) * shape[2] + r]
                if row < 0:
                    continue
                weight = (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
                share = weight * values[row]
                total += share
                ends[0] += weight * all_ends[row, 0]
                ends[1] += weight * all_ends[row, 1]
                along = 0.0
                for d in range(3):
                    along += axes[row, d] * heading[d]
                sign = -1.0 if along < 0 else 1.0
                for d in range(3):
                    axis[d] += sign * share * axes[row, d]
    norm = np.sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2)
    if norm > 1e-6:
        for d in range(3):
            axis[d] /= norm
    return total


@compiled_exact
def _choose(
    field: FieldArrays,
    params: TractStepParams,
    voxel: Floats64,
    axis: Floats64,
    last: int,
    direction: Floats64,
    scratch: Scratch,
    state: np.uint64,
) -> tuple[int, np.uint64]:
    """Into direction: the next one, drawn from the FOD times the tract's own distribution of directions."""
    cone, cones, axes = scratch.cone, field.cones, field.axes
    count = trilinear_rows(
        field.lookup, voxel[0], voxel[1], voxel[2], scratch.rows, scratch.weights
    )
    near = cones[last]
    amplitudes_in_cone(
        field.amplitudes, field.std, scratch.noise, near, scratch.rows, scratch.weights, count, cone
    )
    kappa, floor, power = params.kappa, params.floor, params.power
    for n in range(near.shape[0]):
        m = near[n]
        if m < 0:
            break
        along = axes[m, 0] * axis[0] + axes[m, 1] * axis[1] + axes[m, 2] * axis[2]
        cone[n] = (cone[n] + floor) ** power * np.exp(kappa * (along * along - 1.0))
    return next_direction(axes, near, 1e-12, params.cosine, True, direction, cone, state)


@compiled_exact
def _track_seed(
    seed: Floats64,
    tract: int,
    number: np.uint64,
    field: FieldArrays,
    tracts: TractArrays,
    params: TractStepParams,
    points: Floats32,
) -> tuple[int, int, int]:
    """One streamline into points (2 max_steps + 1, 3); how it ended, its first row and one past its last."""
    size, step, middle, nearest = field.voxel_size, params.step, params.max_steps, field.nearest
    brain, leave = tracts.brain, tracts.leave[tract]
    state = number * np.uint64(0xD1342543DE82EF95) + np.uint64(1)
    scratch = new_scratch(field)
    axis, ends, direction, start = np.empty(3), np.empty(2), np.zeros(3), np.empty(3)
    p, voxel = np.empty(3), np.empty(3)
    # The nearest voxel tells which way is forward; the axes around it are turned along that one.
    corner, shape = tracts.corner[tract], tracts.shape[tract]
    for d in range(3):
        points[middle, d] = seed[d] * size[d]
    i = int(np.floor(seed[0] + 0.5)) - corner[0]
    j = int(np.floor(seed[1] + 0.5)) - corner[1]
    k = int(np.floor(seed[2] + 0.5)) - corner[2]
    row = tracts.lookup[tracts.begin[tract] + (i * shape[1] + j) * shape[2] + k]
    if row < 0:
        return NO_START, 0, 0
    for d in range(3):
        start[d] = tracts.axis[row, d]
    if tract_at(tracts, tract, seed, start, axis, ends) < leave or (axis**2).sum() < 0.5:
        return NO_START, 0, 0
    start[:] = axis
    outcome, low, high = ACCEPTED, middle, middle + 1
    level = tracts.end_level[tract]
    for way in range(2):
        sign = 1.0 if way == 0 else -1.0
        side = 1 - way
        for d in range(3):
            direction[d] = sign * start[d]
            p[d] = points[middle, d]
        last = nearest_axis_of(direction[0], direction[1], direction[2], nearest)
        tract_at(tracts, tract, seed, direction, axis, ends)
        reached = 0 if ends[side] >= level[side] else -1
        steps, left_scan = 0, False
        while True:
            for d in range(3):
                voxel[d] = p[d] / size[d]
            last, state = _choose(field, params, voxel, axis, last, direction, scratch, state)
            if last < 0:
                break
            for d in range(3):
                p[d] += step * direction[d]
                voxel[d] = p[d] / size[d]
            inside = tract_at(tracts, tract, voxel, direction, axis, ends)
            if inside < leave or (axis**2).sum() < 0.5:
                left_scan = not _scanned(brain, voxel)
                break
            steps += 1
            if steps >= middle:
                return TOO_LONG, 0, 0
            for d in range(3):
                points[middle + (steps if way == 0 else -steps), d] = p[d]
            if ends[side] >= level[side]:
                reached = steps
        if reached < 0:
            if not left_scan:
                return END_MISSED, 0, 0
            outcome, reached = CUT, steps
        if way == 0:
            high = middle + reached + 1
        else:
            low = middle - reached
    if high - low - 1 < params.min_steps:
        return TOO_SHORT, 0, 0
    return outcome, low, high


@compiled_exact
def _scanned(brain: NDArray[np.bool_], voxel: Floats64) -> bool:
    """Whether voxel coordinates lie in the scanned brain."""
    i, j, k = (
        int(np.floor(voxel[0] + 0.5)),
        int(np.floor(voxel[1] + 0.5)),
        int(np.floor(voxel[2] + 0.5)),
    )
    if not (0 <= i < brain.shape[0] and 0 <= j < brain.shape[1] and 0 <= k < brain.shape[2]):
        return False
    return bool(brain[i, j, k])


@compiled_parallel_exact
def track_seeds(
    seeds: Floats64,
    owner: Indices,
    numbers: NDArray[np.uint64],
    field: FieldArrays,
    tracts: TractArrays,
    params: TractStepParams,
) -> tuple[Floats32, Indices, Indices]:
    """Track every seed both ways along its tract.

    Args:
        seeds: (S, 3) voxel coordinates, in voxels of their tracts.
        owner: (S,) number of each seed's tract.
        numbers: (S,) what each streamline's random numbers start from.
        field: The FOD.
        tracts: Where the tracts lie.
        params: How streamlines step.

    Returns:
        Points (S, 2 max_steps + 1, 3) in mm along the voxel axes from the tract's beginning to its end,
        spans (S, 2) of the rows in use, and outcomes (S,).
    """
    count = seeds.shape[0]
    points = np.empty((count, 2 * params.max_steps + 1, 3), dtype=np.float32)
    spans = np.zeros((count, 2), dtype=np.int64)
    outcomes = np.zeros(count, dtype=np.int64)
    for s in prange(count):
        outcomes[s], spans[s, 0], spans[s, 1] = _track_seed(
            seeds[s], owner[s], numbers[s], field, tracts, params, points[s]
        )
    return points, spans, outcomes
