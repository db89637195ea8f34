"""What is compiled for the learned tracker: its observation, its network, the direction that it takes.

Everything is observed in a frame that moves with the streamline: its first axis is the heading, the
other two are carried along without twisting. A rotated subject gives the same numbers. Positions are in
mm along the voxel axes, as in `_propagate`.
"""

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
    PolicyScratch,
    Scratch,
)
from fornix.tractography._kernels import new_scratch, tissue_at, trilinear_rows, uniform
from fornix.tractography._transport import nearest_axis_of


def _cone(*rings: tuple[float, int]) -> np.ndarray:
    """Unit vectors (n, 3) on rings: degrees from the first axis, and how many on the ring."""
    out = []
    for ring, (angle, count) in enumerate(rings):
        a = np.radians(angle)
        for i in range(count):
            b = 2 * np.pi * (i + 0.5 * (ring % 2)) / count
            out.append((np.cos(a), np.sin(a) * np.cos(b), np.sin(a) * np.sin(b)))
    return np.array(out, dtype=np.float32)


#: Directions along which the FOD is read: all of them here, the first few straight ahead, and some
#: (by their index) at the other places.
DIRECTIONS = _cone((0, 1), (15, 6), (35, 6), (60, 8), (85, 8))
AHEAD_DIRECTIONS = 13
ASIDE_DIRECTIONS = np.array([0, 7, 8, 9, 10, 11, 12])
#: Directions among which the next one is chosen.
TURNS = _cone((0, 1), (8, 6), (18, 8), (30, 10), (45, 12))
#: Points in the frame where the FOD is read, mm: straight ahead; around the way ahead and the place.
AHEAD = np.array([[3.0, 0, 0], [6.0, 0, 0], [10.0, 0, 0]], dtype=np.float32)
ASIDE = np.concatenate([6 * _cone((35, 6)), 3.5 * _cone((90, 4))], dtype=np.float32)
#: Where the tissue alone is read, mm ahead; and how far back the path is observed, mm along it.
FAR = 18.0
BACK = np.array([3.0, 6.0, 12.0, 24.0, 48.0, 96.0], dtype=np.float32)

FEATURES = (
    len(DIRECTIONS) + 3 + len(AHEAD) * (AHEAD_DIRECTIONS + 3)
    + len(ASIDE) * (len(ASIDE_DIRECTIONS) + 3) + 3
    + 3 * len(BACK) + 1
)  # fmt: skip
#: What the network gives: a logit of each turn, of an end here, of the whole being true.
END, TRUE = len(TURNS), len(TURNS) + 1
OUTPUTS = len(TURNS) + 2
#: A fibre ends where less than this of it is left, mm.
END_MM = 1.5
#: Turns within this angle of the one drawn are averaged with it, so that the set of turns does not show.
_LOBE = np.float32(np.cos(np.radians(13.0)))
_NEAR = TURNS @ TURNS.T > _LOBE
#: Amplitudes are cut off here, in units of the FOD's typical largest one.
_MAX_AMPLITUDE = np.float32(3.0)


@compiled_exact
def new_policy_scratch(mlp: MlpWeights) -> PolicyScratch:
    """Arrays for one streamline's network to write into; without a network only empty ones."""
    used = 1 if mlp.first.shape[0] else 0
    return PolicyScratch(
        np.empty(used * DIRECTIONS.shape[0], np.int64),
        np.empty((used * BACK.shape[0], 3)),
        np.empty(used * FEATURES, np.float32),
        np.empty(mlp.first_bias.shape[0], np.float32),
        np.empty(mlp.second_bias.shape[0], np.float32),
        np.empty(used * OUTPUTS, np.float32),
        np.empty(used * TURNS.shape[0]),
    )


@compiled_exact
def observe_state(
    field: FieldArrays,
    scale: float,
    p: Floats64,
    frame: Floats64,
    path: Floats64,
    length: float,
    scratch: Scratch,
    axis: NDArray[np.int64],
    out: Floats32,
) -> None:
    """Into out (FEATURES,): what the network is shown at a place.

    Args:
        field: What streamlines run through.
        scale: 1 / the FOD's typical largest amplitude.
        p: (3,) the place.
        frame: (3, 3) the heading and two normals.
        path: (len(BACK), 3) points BACK mm behind.
        length: Of the path so far, mm.
        scratch: Written into.
        axis: (len(DIRECTIONS),) written into.
        out: (FEATURES,) float32.
    """
    # Read once: each look into a named tuple inside a loop counts a reference.
    lookup, amplitudes, nearest = field.lookup, field.amplitudes, field.nearest
    size, fractions, tissue = field.voxel_size, field.tissue, scratch.tissue
    rows, weights = scratch.rows, scratch.weights
    for i in range(DIRECTIONS.shape[0]):
        u = DIRECTIONS[i]
        x = u[0] * frame[0, 0] + u[1] * frame[1, 0] + u[2] * frame[2, 0]
        y = u[0] * frame[0, 1] + u[1] * frame[1, 1] + u[2] * frame[2, 1]
        z = u[0] * frame[0, 2] + u[1] * frame[1, 2] + u[2] * frame[2, 2]
        axis[i] = nearest_axis_of(x, y, z, nearest)
    n = 0
    places = 1 + AHEAD.shape[0] + ASIDE.shape[0]
    for place in range(places + 1):
        a, b, c = np.float32(0), np.float32(0), np.float32(0)
        if place == places:
            a = np.float32(FAR)
        elif place > AHEAD.shape[0]:
            e = place - 1 - AHEAD.shape[0]
            a, b, c = ASIDE[e, 0], ASIDE[e, 1], ASIDE[e, 2]
        elif place:
            a, b, c = AHEAD[place - 1, 0], AHEAD[place - 1, 1], AHEAD[place - 1, 2]
        x = (p[0] + a * frame[0, 0] + b * frame[1, 0] + c * frame[2, 0]) / size[0]
        y = (p[1] + a * frame[0, 1] + b * frame[1, 1] + c * frame[2, 1]) / size[1]
        z = (p[2] + a * frame[0, 2] + b * frame[1, 2] + c * frame[2, 2]) / size[2]
        tissue_at(fractions, x, y, z, tissue)
        for d in range(3):
            out[n + d] = tissue[d]
        n += 3
        if place == places:
            break
        count = trilinear_rows(lookup, x, y, z, rows, weights)
        aside = place > AHEAD.shape[0]
        many = ASIDE_DIRECTIONS.shape[0]
        if not aside:
            many = AHEAD_DIRECTIONS if place else DIRECTIONS.shape[0]
        for i in range(many):
            out[n + i] = 0.0
        for e in range(count):
            row, weight = rows[e], np.float32(weights[e] * scale)
            for i in range(many):
                m = axis[ASIDE_DIRECTIONS[i]] if aside else axis[i]
                out[n + i] += weight * amplitudes[row, m]
        for i in range(many):
            out[n + i] = min(out[n + i], _MAX_AMPLITUDE)
        n += many
    for i in range(BACK.shape[0]):
        for d in range(3):
            value = 0.0
            for e in range(3):
                value += (path[i, e] - p[e]) * frame[d, e]
            out[n + d] = value / BACK[i]
        n += 3
    out[n] = np.log1p(length / 20.0)


@compiled_exact
def forward_mlp(
    features: Floats32, mlp: MlpWeights, first: Floats32, second: Floats32, out: Floats32
) -> None:
    """Into out (OUTPUTS,): the perceptron's logits. first, second: its hidden layers, written into."""
    _layer(features, mlp.first, mlp.first_bias, first, True)
    _layer(first, mlp.second, mlp.second_bias, second, True)
    _layer(second, mlp.third, mlp.third_bias, out, False)


@compiled_exact
def _layer(
    values: Floats32, weight: Floats32, bias: Floats32, out: Floats32, rectified: bool
) -> None:
    for j in range(bias.shape[0]):
        out[j] = bias[j]
    for i in range(values.shape[0]):
        v = values[i]
        if v != 0.0:
            for j in range(bias.shape[0]):
                out[j] += v * weight[i, j]
    if rectified:
        for j in range(bias.shape[0]):
            out[j] = max(out[j], np.float32(0))


@compiled_exact
def sample_turn(
    logits: Floats32,
    frame: Floats64,
    cosine: float,
    sharpness: float,
    state: np.uint64,
    weights: Floats64,
    direction: Floats64,
) -> tuple[np.uint64, float]:
    """Into direction (3,): the next one, drawn from the distribution over turns.

    The direction is the mean over the lobe around the turn that was drawn, cut to the largest turn
    allowed.

    Args:
        logits: (OUTPUTS,) of the network.
        frame: (3, 3) the heading and two normals.
        cosine: Of the largest turn allowed.
        sharpness: Power to which the distribution is raised; 0 takes the likeliest turn.
        state: Of the random numbers.
        weights: (len(TURNS),) written into.
        direction: (3,) written into.

    Returns:
        The new state, and the logarithm of the lobe's probability.
    """
    top = logits[0]
    best = 0
    for i in range(1, TURNS.shape[0]):
        if logits[i] > top:
            top, best = logits[i], i
    total, plain = 0.0, 0.0
    power = sharpness if sharpness > 0 else 1.0
    for i in range(TURNS.shape[0]):
        weights[i] = np.exp(power * (logits[i] - top))
        total += weights[i]
        plain += np.exp(logits[i] - top)
    taken = best
    if sharpness > 0:
        state, u = uniform(state)
        u *= total
        for i in range(TURNS.shape[0]):
            u -= weights[i]
            if u <= 0.0:
                taken = i
                break
    x, y, z, lobe = 0.0, 0.0, 0.0, 0.0
    for i in range(TURNS.shape[0]):
        if _NEAR[taken, i]:
            x += weights[i] * TURNS[i, 0]
            y += weights[i] * TURNS[i, 1]
            z += weights[i] * TURNS[i, 2]
            lobe += np.exp(logits[i] - top)
    norm = np.sqrt(x * x + y * y + z * z)
    x, y, z = x / norm, y / norm, z / norm
    if x < cosine:
        sine = np.sqrt(1 - cosine * cosine) / np.sqrt(y * y + z * z)
        x, y, z = cosine, y * sine, z * sine
    for d in range(3):
        direction[d] = x * frame[0, d] + y * frame[1, d] + z * frame[2, d]
    return state, np.log(lobe / plain)


@compiled_exact
def sample_end(logit: float, drawn: bool, step: float, state: np.uint64) -> tuple[bool, np.uint64]:
    """Whether a fibre ends here, and the new state: drawn, or where it is more likely than not.

    The network learned how likely an end is within END_MM; a step is a part of that.
    """
    chance = 1.0 / (1.0 + np.exp(-logit))
    if not drawn:
        return chance > 0.5, state
    state, u = uniform(state)
    return u > (1.0 - chance) ** (step / END_MM), state


@compiled_exact
def rotate_frame(frame: Floats64, direction: Floats64) -> None:
    """Turn the frame so that its first axis becomes `direction` (unit), without twisting about it."""
    to = direction
    cosine = frame[0, 0] * to[0] + frame[0, 1] * to[1] + frame[0, 2] * to[2]
    for k in range(1, 3):
        along = frame[k, 0] * to[0] + frame[k, 1] * to[1] + frame[k, 2] * to[2]
        norm = 0.0
        for d in range(3):
            frame[k, d] -= along / (1.0 + cosine) * (frame[0, d] + to[d])
            norm += frame[k, d] * frame[k, d]
        for d in range(3):
            frame[k, d] /= np.sqrt(norm)
    for d in range(3):
        frame[0, d] = to[d]


@compiled_exact
def path_behind(
    points: Floats32, at: int, begin: int, way: int, step: float, path: Floats64
) -> float:
    """Into path (len(BACK), 3): the points BACK mm behind row `at`; returns the path's length, mm.

    begin: the row where the path began; nothing is behind it. way: 1 where the path ran towards higher
    rows, -1 towards lower. step: mm between rows.
    """
    rows = (at - begin) * way
    for i in range(BACK.shape[0]):
        k = min(rows, int(np.rint(BACK[i] / step)))
        for d in range(3):
            path[i, d] = points[at - way * k, d]
    return rows * step


@compiled_exact
def decide(
    field: FieldArrays,
    mlp: MlpWeights,
    policy: PolicyParams,
    step: float,
    p: Floats64,
    frame: Floats64,
    length: float,
    scratch: Scratch,
    net: PolicyScratch,
    state: np.uint64,
) -> tuple[bool, bool, np.uint64]:
    """Run the network at a place with the path net.path behind it, its logits into net.logits.

    Returns:
        Whether the streamline ends here, whether it is given up as unlikely, and the new state.
    """
    observe_state(field, policy.scale, p, frame, net.path, length, scratch, net.axis, net.features)
    forward_mlp(net.features, mlp, net.first, net.second, net.logits)
    drawn = policy.sharpness > 0
    ends, state = sample_end(net.logits[END] - policy.end_logit, drawn, step, state)
    least = policy.min_true_logit_at_end if ends else policy.min_true_logit
    return ends, net.logits[TRUE] < least, state


@compiled_parallel_exact
def observe_states(
    field: FieldArrays,
    scale: float,
    places: Floats32,
    frames: Floats32,
    paths: Floats32,
    lengths: Floats32,
) -> Floats32:
    """Observations of many states, as `observe_state` makes them.

    Args:
        field: What streamlines run through; standard deviations are not used.
        scale: 1 / the FOD's typical largest amplitude.
        places: (n, 3) mm along the voxel axes.
        frames: (n, 3, 3) headings and normals.
        paths: (n, len(BACK), 3) points BACK mm behind.
        lengths: (n,) of the paths so far, mm.

    Returns:
        (n, FEATURES) float32.
    """
    out = np.empty((places.shape[0], FEATURES), np.float32)
    for s in prange(places.shape[0]):
        scratch = new_scratch(field)
        axis = np.empty(DIRECTIONS.shape[0], np.int64)
        observe_state(
            field, scale, places[s], frames[s], paths[s], lengths[s], scratch, axis, out[s]
        )
    return out
