"""One pass of the attention over neighbours, compiled: voxels of a mask, no grid of features.

The same numbers as `context.NeighbourAttention` in torch, for use on whole scans on a CPU: only voxels inside
are touched, and nothing is held but coordinates, averages and one comparison per neighbour.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fornix.numerics.algebra import compiled, compiled_parallel, exp_array, log_array


@compiled
def _silu(x: np.ndarray, gate: np.ndarray, scratch: np.ndarray) -> None:
    """X becomes x / (1 + exp(-x)). gate, scratch: as long as x."""
    for i in range(len(x)):
        gate[i] = -x[i]
    exp_array(gate, scratch)
    for i in range(len(x)):
        x[i] /= 1.0 + gate[i]


@compiled
def _asinh(x: np.ndarray, size: np.ndarray, scratch: np.ndarray) -> None:
    """X becomes its inverse hyperbolic sine. size, scratch: as long as x."""
    for i in range(len(x)):
        scratch[i] = abs(x[i]) + math.sqrt(x[i] * x[i] + 1.0)
    log_array(scratch, size, scratch)
    for i in range(len(x)):
        x[i] = size[i] if x[i] >= 0.0 else -size[i]


@compiled
def _weighed(
    inputs: np.ndarray,
    count: int,
    weights: np.ndarray,
    bias: np.ndarray,
    out: np.ndarray,
    hidden: np.ndarray,
    gate: np.ndarray,
    scratch: np.ndarray,
    logit: np.ndarray,
) -> None:
    """The weighing network on inputs (8, count and more); fills logit (count and more)."""
    width = len(bias)
    for h in range(width):
        w0, w1, w2, w3 = weights[h, 0], weights[h, 1], weights[h, 2], weights[h, 3]
        w4, w5, w6, w7 = weights[h, 4], weights[h, 5], weights[h, 6], weights[h, 7]
        first = h * count
        for k in range(count):
            hidden[first + k] = (
                bias[h]
                + w0 * inputs[0, k] + w1 * inputs[1, k] + w2 * inputs[2, k] + w3 * inputs[3, k]
                + w4 * inputs[4, k] + w5 * inputs[5, k] + w6 * inputs[6, k] + w7 * inputs[7, k]
            )  # fmt: skip
    used = width * count
    _silu(hidden[:used], gate[:used], scratch[:used])
    for k in range(count):
        logit[k] = out[width]
    for h in range(width):
        for k in range(count):
            logit[k] += out[h] * hidden[h * count + k]


@compiled_parallel
def attend(
    place: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    far: np.ndarray,
    alike: np.ndarray,
    shared: np.ndarray,
    projected: np.ndarray,
    sigma: np.ndarray,
    log_s0: np.ndarray,
    s0_std: np.ndarray,
    guide: np.ndarray,
    guide_noise: np.ndarray,
    variance: np.ndarray,
    raw: np.ndarray,
    first: bool,
    score_in: np.ndarray,
    score_bias: np.ndarray,
    score_out: np.ndarray,
    own_in: np.ndarray,
    own_bias: np.ndarray,
    own_out: np.ndarray,
    made: np.ndarray,
    noise: np.ndarray,
    unlike: np.ndarray,
) -> None:
    """Averages of n voxels over their neighbours.

    Args:
        place: (n, 3) in `index` (X, Y, Z), which holds the number of each voxel or -1.
        offsets: (K, 3)
        far: (K,) their lengths in mm.
        alike: (K,) correlation of their noise with the voxel's; shared: (K + 1, K + 1) among all of them,
            the voxel first.
        projected: (n, R).
        guide: (n, C), guide_noise: (n,) what is compared.
        variance: (C,).
        raw: (n, K) comparison of the first pass, written if `first`. score_*: (H, 8), (H,), (H + 1,)
            the weighing network, its last bias at the end of score_out; own_*: the same with 2 inputs.
        made: (n, R), noise: (n,), unlike: (n, 2) receive the averages, see `Average`.
    """
    near, width, compared = len(offsets), len(score_bias), guide.shape[1]
    whole = math.sqrt(2.0 * compared)
    white = True
    for k in range(near):
        white = white and alike[k] == 0.0
    chunk = 64
    for block in prange((len(place) + chunk - 1) // chunk):
        telling = np.empty(compared, np.float32)
        who, which = np.empty(near, np.int64), np.empty(near, np.int64)
        level, logit = np.zeros(near + 1), np.empty(near + 1)
        hidden, gate, scratch = (np.empty(near * width), np.empty(near * width),
                                 np.empty(near * width))  # fmt: skip
        own, inputs = np.empty(width), np.empty((8, near))
        for v in range(block * chunk, min((block + 1) * chunk, len(place))):
            x, y, z = place[v, 0], place[v, 1], place[v, 2]
            own_variance = guide_noise[v] * guide_noise[v]
            expected, squared = 0.0, 0.0
            for c in range(compared):
                telling[c] = variance[c] / (variance[c] + own_variance)
                expected += telling[c]
                squared += telling[c] * telling[c]
            spread = math.sqrt(2.0 * squared)
            log_noise = math.log(max(sigma[v], 1e-4) / 0.05)
            known = math.sqrt(expected) / 2.0 - 1.0
            for h in range(width):
                own[h] = own_bias[h] + own_in[h, 0] * log_noise + own_in[h, 1] * known
            _silu(own, gate[:width], scratch[:width])
            by_itself = own_out[width]
            for h in range(width):
                by_itself += own_out[h] * own[h]
            count = 0
            for k in range(near):
                i, j, m = x + offsets[k, 0], y + offsets[k, 1], z + offsets[k, 2]
                if (
                    i < 0 or j < 0 or m < 0
                    or i >= index.shape[0] or j >= index.shape[1] or m >= index.shape[2]
                ):  # fmt: skip
                    continue
                u = index[i, j, m]
                if u < 0:
                    continue
                weighted, total = np.float32(0.0), np.float32(0.0)
                for c in range(compared):
                    d = guide[v, c] - guide[u, c]
                    d *= d
                    total += d
                    weighted += telling[c] * d
                both = own_variance + guide_noise[u] * guide_noise[u]
                both = max(both * (1.0 - alike[k]), 1e-8)
                step = abs(log_s0[v] - log_s0[u])
                error = math.sqrt(s0_std[v] * s0_std[v] + s0_std[u] * s0_std[u])
                inputs[0, count] = (weighted / both - expected) / spread / 2.0
                inputs[1, count] = (total / both - compared) / whole / 2.0
                inputs[2, count] = step / max(error, 1e-3)
                inputs[3, count] = 20.0 * step
                inputs[4, count] = far[k] / 3.0
                who[count], which[count] = u, k
                count += 1
            # In this order the network learned its inputs: the last of these four stands last.
            for p in range(4):
                _asinh(inputs[p, :count], gate[:count], scratch[:count])
            for k in range(count):
                inputs[7, k], inputs[3, k] = inputs[3, k], inputs[2, k]
                if first:
                    raw[v, which[k]] = inputs[0, k]
                inputs[2, k] = raw[v, which[k]]
                inputs[5, k], inputs[6, k] = log_noise, known
            _weighed(inputs, count, score_in, score_bias, score_out, hidden, gate, scratch, logit)
            logit[count] = by_itself
            highest = by_itself
            for k in range(count):
                highest = max(highest, logit[k])
            for k in range(count + 1):
                logit[k] -= highest
            exp_array(logit[: count + 1], scratch[: count + 1])
            norm = 0.0
            for k in range(count + 1):
                norm += logit[k]
            share = np.float32(logit[count] / norm)
            for r in range(projected.shape[1]):
                made[v, r] = share * projected[v, r]
            unlike[v, 0], unlike[v, 1] = 0.0, share
            level[:] = 0.0
            level[0] = share * sigma[v]
            for k in range(count):
                share = np.float32(logit[k] / norm)
                u = who[k]
                for r in range(projected.shape[1]):
                    made[v, r] += share * projected[u, r]
                level[which[k] + 1] = share * sigma[u]
                unlike[v, 0] += share * inputs[0, k]
            left = 0.0
            for k in range(near + 1):
                if white:
                    left += level[k] * level[k]
                elif level[k] > 0.0:
                    along = 0.0
                    for m in range(near + 1):
                        along += shared[k, m] * level[m]
                    left += level[k] * along
            noise[v] = math.sqrt(left)
