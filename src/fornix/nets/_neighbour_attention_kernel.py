"""One pass of the attention over neighbours, compiled: voxels of a mask, no grid of features.

The same numbers as `context.NeighbourAttention` in torch, for use on whole scans on a CPU: only voxels inside
are touched, and nothing is held but coordinates, averages and one comparison per neighbour.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from fornix.numerics.algebra import compiled, compiled_parallel, exp_array


@compiled
def _silu(x: np.ndarray, gate: np.ndarray, scratch: np.ndarray) -> None:
    """X becomes x / (1 + exp(-x)). gate, scratch: as long as x."""
    for i in range(len(x)):
        gate[i] = -x[i]
    exp_array(gate, scratch)
    for i in range(len(x)):
        x[i] /= 1.0 + gate[i]


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
    chunk = 64
    for block in prange((len(place) + chunk - 1) // chunk):
        telling = np.empty(compared, np.float32)
        who = np.empty(near, np.int64)
        which = np.zeros(near + 1, np.int64)
        level, differs = np.empty(near + 1), np.empty(near)
        logit = np.empty(near + 1)
        hidden, gate, scratch = (np.empty(near * width), np.empty(near * width),
                                 np.empty(near * width))  # fmt: skip
        scratch_near, own, own_gate, own_scratch = (
            np.empty(near + 1), np.empty(width), np.empty(width), np.empty(width),
        )  # fmt: skip
        inputs = np.empty(8)
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
            _silu(own, own_gate, own_scratch)
            logit[near] = own_out[width]
            for h in range(width):
                logit[near] += own_out[h] * own[h]
            found = 0
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
                inputs[0] = math.asinh((weighted / both - expected) / spread / 2.0)
                inputs[1] = math.asinh((total / both - compared) / whole / 2.0)
                if first:
                    raw[v, k] = inputs[0]
                inputs[2] = raw[v, k]
                step = abs(log_s0[v] - log_s0[u])
                error = math.sqrt(s0_std[v] * s0_std[v] + s0_std[u] * s0_std[u])
                inputs[3] = math.asinh(step / max(error, 1e-3))
                inputs[4] = far[k] / 3.0
                inputs[5], inputs[6] = log_noise, known
                inputs[7] = math.asinh(20.0 * step)
                for h in range(width):
                    value = score_bias[h]
                    for p in range(8):
                        value += score_in[h, p] * inputs[p]
                    hidden[found * width + h] = value
                who[found], which[found], differs[found] = u, k + 1, inputs[0]
                found += 1
            used = found * width
            _silu(hidden[:used], gate[:used], scratch[:used])
            highest = logit[near]
            for k in range(found):
                value = score_out[width]
                for h in range(width):
                    value += score_out[h] * hidden[k * width + h]
                logit[k] = value
                highest = max(highest, value)
            logit[found] = logit[near]
            for k in range(found + 1):
                logit[k] -= highest
            exp_array(logit[: found + 1], scratch_near[: found + 1])
            norm = 0.0
            for k in range(found + 1):
                norm += logit[k]
            share = np.float32(logit[found] / norm)
            for r in range(projected.shape[1]):
                made[v, r] = share * projected[v, r]
            level[found], which[found] = share * sigma[v], 0
            unlike[v, 0], unlike[v, 1] = 0.0, share
            for k in range(found):
                share = np.float32(logit[k] / norm)
                u = who[k]
                for r in range(projected.shape[1]):
                    made[v, r] += share * projected[u, r]
                level[k] = share * sigma[u]
                unlike[v, 0] += share * differs[k]
            left = 0.0
            for k in range(found + 1):
                left += level[k] * level[k]
                twice = 2.0 * level[k]
                for m in range(k):
                    left += twice * level[m] * shared[which[k], which[m]]
            noise[v] = math.sqrt(left)
