"""What is compiled for the learned tracker: what it sees, its network, the direction that it takes.

Everything is seen in a frame that goes with the streamline: its first axis is the heading, the other two
are carried along without twisting. A turned head gives the same numbers. Positions are in mm along the
voxel axes, as in _march.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from fornix.tractography._kernels import corners, shares, uniform
from fornix.tractography._transport import axis_of


def _cone(*rings: tuple[float, int]) -> np.ndarray:
    """Unit vectors (n, 3) on rings: degrees from the first axis, and how many on the ring."""
    out = []
    for ring, (angle, count) in enumerate(rings):
        a = np.radians(angle)
        for i in range(count):
            b = 2 * np.pi * (i + 0.5 * (ring % 2)) / count
            out.append((np.cos(a), np.sin(a) * np.cos(b), np.sin(a) * np.sin(b)))
    return np.array(out, dtype=np.float32)


#: Directions along which the FOD is read: here all, straight ahead the first, elsewhere these.
SEEN = _cone((0, 1), (15, 6), (35, 6), (60, 8), (85, 8))
AHEAD_SEEN = 13
ASIDE_SEEN = np.array([0, 7, 8, 9, 10, 11, 12])
#: Directions among which the next one is chosen.
TURNS = _cone((0, 1), (8, 6), (18, 8), (30, 10), (45, 12))
#: Points in the frame where the FOD is read, mm: straight ahead; around the way ahead and the place.
AHEAD = np.array([[3.0, 0, 0], [6.0, 0, 0], [10.0, 0, 0]], dtype=np.float32)
ASIDE = np.concatenate([6 * _cone((35, 6)), 3.5 * _cone((90, 4))], dtype=np.float32)
#: Where the tissue alone is read, mm ahead; and how far back the path is seen, mm along it.
FAR = 18.0
BACK = np.array([3.0, 6.0, 12.0, 24.0, 48.0, 96.0], dtype=np.float32)

FEATURES = (
    len(SEEN) + 3 + len(AHEAD) * (AHEAD_SEEN + 3) + len(ASIDE) * (len(ASIDE_SEEN) + 3) + 3
    + 3 * len(BACK) + 1
)  # fmt: skip
#: What the network gives: a logit of each turn, of an end here, of the whole being true.
END, TRUE = len(TURNS), len(TURNS) + 1
OUTPUTS = len(TURNS) + 2
#: A fibre ends where less than this of it is left, mm.
LAST = 1.5
#: Turns closer than this to the one drawn are averaged with it, so that the grid does not show.
_LOBE = np.float32(np.cos(np.radians(13.0)))
_MOST = np.float32(3.0)
_NEAR = TURNS @ TURNS.T > _LOBE


@njit(cache=True, fastmath=False)
def look(  # type: ignore[no-untyped-def]
    p, frame, past, length, lookup, amplitudes, tissue, nearest, size, scale, rows, weights, axis, t,
    out,
):  # fmt: skip
    """Into out (FEATURES): what is seen at p (3) with frame (3, 3) and the path past (len(BACK), 3).

    length: of the path so far, mm. scale: 1 / the FOD's typical largest amplitude. rows, weights, axis,
    t: room.
    """
    side = nearest.shape[0]
    for i in range(SEEN.shape[0]):
        x = SEEN[i, 0] * frame[0, 0] + SEEN[i, 1] * frame[1, 0] + SEEN[i, 2] * frame[2, 0]
        y = SEEN[i, 0] * frame[0, 1] + SEEN[i, 1] * frame[1, 1] + SEEN[i, 2] * frame[2, 1]
        z = SEEN[i, 0] * frame[0, 2] + SEEN[i, 1] * frame[1, 2] + SEEN[i, 2] * frame[2, 2]
        axis[i] = axis_of(x, y, z, nearest, side)
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
        shares(tissue, x, y, z, t)
        for d in range(3):
            out[n + d] = t[d]
        n += 3
        if place == places:
            break
        count = corners(lookup, x, y, z, rows, weights)
        aside = place > AHEAD.shape[0]
        many = ASIDE_SEEN.shape[0] if aside else (AHEAD_SEEN if place else SEEN.shape[0])
        for i in range(many):
            out[n + i] = 0.0
        for e in range(count):
            row, weight = rows[e], np.float32(weights[e] * scale)
            for i in range(many):
                m = axis[ASIDE_SEEN[i]] if aside else axis[i]
                out[n + i] += weight * amplitudes[row, m]
        for i in range(many):
            out[n + i] = min(out[n + i], _MOST)
        n += many
    for i in range(BACK.shape[0]):
        for d in range(3):
            value = 0.0
            for e in range(3):
                value += (past[i, e] - p[e]) * frame[d, e]
            out[n + d] = value / BACK[i]
        n += 3
    out[n] = np.log1p(length / 20.0)


@njit(cache=True, fastmath=False)
def think(seen, first, first_bias, second, second_bias, third, third_bias, a, b, out):  # type: ignore[no-untyped-def]
    """Into out (OUTPUTS): the perceptron's logits. Weights are (inputs, outputs); a, b: room."""
    _layer(seen, first, first_bias, a, True)
    _layer(a, second, second_bias, b, True)
    _layer(b, third, third_bias, out, False)


@njit(cache=True, inline="always", fastmath=False)
def _layer(values, weight, bias, out, rectified):  # type: ignore[no-untyped-def]
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


@njit(cache=True, fastmath=False)
def choose(logits, frame, cosine, sharpness, state, chance, to):  # type: ignore[no-untyped-def]
    """Into to (3): the next direction, drawn from the turns' distribution to the power of sharpness.

    sharpness 0 takes the best. The direction is the mean over the lobe around the turn that was drawn,
    cut to the largest turn allowed, whose cosine is given. Returns the random state and the logarithm of
    the lobe's probability.
    """
    top = logits[0]
    best = 0
    for i in range(1, TURNS.shape[0]):
        if logits[i] > top:
            top, best = logits[i], i
    total, plain = 0.0, 0.0
    power = sharpness if sharpness > 0 else 1.0
    for i in range(TURNS.shape[0]):
        chance[i] = np.exp(power * (logits[i] - top))
        total += chance[i]
        plain += np.exp(logits[i] - top)
    chosen = best
    if sharpness > 0:
        state, u = uniform(state)
        u *= total
        for i in range(TURNS.shape[0]):
            u -= chance[i]
            if u <= 0.0:
                chosen = i
                break
    x, y, z, lobe = 0.0, 0.0, 0.0, 0.0
    for i in range(TURNS.shape[0]):
        if _NEAR[chosen, i]:
            x += chance[i] * TURNS[i, 0]
            y += chance[i] * TURNS[i, 1]
            z += chance[i] * TURNS[i, 2]
            lobe += np.exp(logits[i] - top)
    norm = np.sqrt(x * x + y * y + z * z)
    x, y, z = x / norm, y / norm, z / norm
    if x < cosine:
        sine = np.sqrt(1 - cosine * cosine) / np.sqrt(y * y + z * z)
        x, y, z = cosine, y * sine, z * sine
    for d in range(3):
        to[d] = x * frame[0, d] + y * frame[1, d] + z * frame[2, d]
    return state, np.log(lobe / plain)


@njit(cache=True, fastmath=False)
def finish(logit, drawn, step, state):  # type: ignore[no-untyped-def]
    """Whether a fibre ends here, and the random state: drawn, or where it is more likely than not.

    The network learned how likely an end is within LAST mm; a step is a part of that.
    """
    chance = 1.0 / (1.0 + np.exp(-logit))
    if not drawn:
        return chance > 0.5, state
    state, u = uniform(state)
    return u > (1.0 - chance) ** (step / LAST), state


@njit(cache=True, fastmath=False)
def swing(frame, to):  # type: ignore[no-untyped-def]
    """Turn the frame so that its first axis becomes `to` (unit), without twisting about it."""
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


@njit(cache=True, fastmath=False)
def back_along(points, at, way, other, step, past):  # type: ignore[no-untyped-def]
    """Into past: points BACK mm behind row `at` of points, whose path began at row `other`; its length.

    way: 1 where the path ran towards higher rows, -1 towards lower. Beyond its beginning, that.
    """
    rows = (at - other) * way
    for i in range(BACK.shape[0]):
        k = min(rows, int(np.rint(BACK[i] / step)))
        for d in range(3):
            past[i, d] = points[at - way * k, d]
    return rows * step


@njit(cache=True, parallel=True, fastmath=False)
def look_many(  # type: ignore[no-untyped-def]
    places, frames, pasts, lengths, lookup, amplitudes, tissue, nearest, size, scale
):
    """(n, FEATURES) of n states: places (n, 3), frames (n, 3, 3), pasts (n, len(BACK), 3), lengths (n,)."""
    out = np.empty((places.shape[0], FEATURES), np.float32)
    for s in prange(places.shape[0]):
        rows, weights, t = np.empty(8, np.int64), np.empty(8), np.empty(3)
        axis = np.empty(SEEN.shape[0], np.int64)
        look(
            places[s], frames[s], pasts[s], lengths[s], lookup, amplitudes, tissue, nearest, size,
            scale, rows, weights, axis, t, out[s],
        )  # fmt: skip
    return out
