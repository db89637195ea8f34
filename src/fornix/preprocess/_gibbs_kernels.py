"""Local subvoxel shifts along lines, compiled: many lines side by side, so that every loop is long."""

from __future__ import annotations

import numpy as np
from numba import prange

from fornix.numerics.algebra import compiled, compiled_parallel

#: Lines that are worked on together.
LANES = 16
#: Weights per value that is interpolated from lines sampled twice as densely.
TAPS = 8
#: A voxel varies less than this over its own size: flat up to rounding.
_FLAT = np.float32(1e-6)


@compiled_parallel
def shift_lines(
    dense: np.ndarray, taps: np.ndarray, stride: int, most: int, out: np.ndarray
) -> None:
    """Each value moved to where its neighbours ring least, and brought back (Kellner et al., MRM 2016).

    Neighbours are `stride` fine steps apart: as far as the ringing takes to swing once around. Of all shifts
    the one is taken at which three differences on one side of the value sum up to least.

    Args:
        dense: (slices, 2 n, m) float32 lines along the second axis, periodic, sampled twice a voxel.
        taps: (Q, TAPS) weights that make Q values a voxel of it.
        stride: Fine steps between neighbours, Q or more.
        most: Largest shift in fine steps.
        out: (slices, n, m) receives the values.
    """
    slices, length, width = dense.shape
    n, fine = length // 2, taps.shape[0]
    tiles = (width + LANES - 1) // LANES
    # Voxels beyond both ends that shifts and their neighbours reach.
    reach = (most + 4 * stride) // fine + 1
    size = (n + 2 * reach) * LANES
    for part in prange(slices * tiles):
        image, first = part // tiles, (part % tiles) * LANES
        lanes = min(LANES, width - first)
        ends = TAPS // 2
        even = np.zeros(size + 2 * ends * LANES, np.float32)
        odd = np.zeros(size + 2 * ends * LANES, np.float32)
        for r in range(n + 2 * (reach + ends)):
            at = 2 * ((r - reach - ends) % n)
            for c in range(lanes):
                even[r * LANES + c] = dense[image, at, first + c]
                odd[r * LANES + c] = dense[image, at + 1, first + c]
        value = np.empty((fine, size), np.float32)
        for q in range(fine):
            _between(even, odd, taps[q], 2 * q >= fine, ends, value[q])
        change = np.empty((fine, size), np.float32)
        for q in range(fine):
            _sum_of_changes(value, q, stride, change[q])
        inner = slice(reach * LANES, (reach + n) * LANES)
        made = value[0, inner].copy()
        best = np.empty(n * LANES, np.float32)
        _flattest(change, 0, stride, reach * LANES, made, best)
        for j in range(1, 2 * most + 1):
            _try_shift(value, change, (j + 1) // 2 if j % 2 else -(j // 2), stride, reach * LANES,
                       made, best)  # fmt: skip
        for i in range(n):
            for c in range(lanes):
                out[image, i, first + c] = made[i * LANES + c]


@compiled
def _between(
    even: np.ndarray, odd: np.ndarray, w: np.ndarray, late: bool, ends: int, out: np.ndarray
) -> None:
    """Values a part of a voxel after each voxel. late: nearer to the next sample than to the voxel's."""
    one, two = (odd, even) if late else (even, odd)
    # Taps run over dense samples at -3 … 4 from the one at or before the place.
    w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    more = 1 if late else 0
    a = two[(ends - 2 + more) * LANES :]
    b = one[(ends - 1) * LANES :]
    for x in range(len(out)):
        out[x] = (
            w0 * a[x] + w1 * b[x] + w2 * a[x + LANES] + w3 * b[x + LANES]
            + w4 * a[x + 2 * LANES] + w5 * b[x + 2 * LANES] + w6 * a[x + 3 * LANES]
            + w7 * b[x + 3 * LANES]
        )  # fmt: skip


@compiled
def _at(values: np.ndarray, place: int) -> np.ndarray:
    """Values `place` fine steps on, from where that is inside."""
    fine = len(values)
    voxels, q = place // fine, place % fine
    return values[q, voxels * LANES :]


@compiled
def _sum_of_changes(value: np.ndarray, q: int, stride: int, out: np.ndarray) -> None:
    one, two = _at(value, q), _at(value, q + stride)
    three, four = _at(value, q + 2 * stride), _at(value, q + 3 * stride)
    for x in range(len(four)):
        out[x] = abs(two[x] - one[x]) + abs(three[x] - two[x]) + abs(four[x] - three[x])


@compiled
def _flattest(
    change: np.ndarray, shift: int, stride: int, start: int, made: np.ndarray, best: np.ndarray
) -> None:
    middle = start // LANES * len(change)
    left, right = _at(change, middle - 4 * stride), _at(change, middle + stride)
    for x in range(len(best)):
        best[x] = min(left[x], right[x]) - _FLAT * abs(made[x])


@compiled
def _try_shift(
    value: np.ndarray, change: np.ndarray, shift: int, stride: int, start: int, made: np.ndarray,
    best: np.ndarray,
) -> None:  # fmt: skip
    place = start // LANES * len(change) + shift
    part = np.float32(abs(shift)) / np.float32(stride)
    moved = _at(value, place)
    beside = _at(value, place - stride) if shift > 0 else _at(value, place + stride)
    left, right = _at(change, place - 4 * stride), _at(change, place + stride)
    for x in range(len(best)):
        least = min(left[x], right[x])
        found = moved[x] + part * (beside[x] - moved[x])
        made[x] = found if least < best[x] else made[x]
        best[x] = min(least, best[x])
