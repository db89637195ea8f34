"""Support along a tract, compiled: threshold-free cluster enhancement and cluster mass in one dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.numerics.algebra import compiled


@compiled
def tfce(t: Any, starts: Any, step: float, height: float, extent: float, out: Any) -> None:
    """TFCE of (K, V) statistics along tracts, both signs apart; out (K, V) with the sign of t.

    starts: (T + 1,) first column of each tract. Integral of e(h)^extent h^height dh, where e(h) is the
    number of nodes of the run above h that holds the node.
    """
    for k in range(t.shape[0]):
        for v in range(t.shape[1]):
            out[k, v] = 0.0
        for tract in range(len(starts) - 1):
            first, last = starts[tract], starts[tract + 1]
            for sign in (1.0, -1.0):
                top = 0.0
                for v in range(first, last):
                    top = max(top, sign * t[k, v])
                h = step
                while h <= top:
                    gain = step * h**height
                    v = first
                    while v < last:
                        if sign * t[k, v] < h:
                            v += 1
                            continue
                        end = v
                        while end < last and sign * t[k, end] >= h:
                            end += 1
                        more = gain * (end - v) ** extent
                        for u in range(v, end):
                            out[k, u] += sign * more
                        v = end
                    h += step


@compiled
def cluster_mass(t: Any, starts: Any, threshold: float, out: Any) -> None:
    """Sum of |t| over the run of nodes above the threshold that holds each node; 0 outside runs."""
    for k in range(t.shape[0]):
        for tract in range(len(starts) - 1):
            for sign in (1.0, -1.0):
                v, last = starts[tract], starts[tract + 1]
                while v < last:
                    if sign * t[k, v] < threshold:
                        if sign > 0:
                            out[k, v] = 0.0
                        v += 1
                        continue
                    end, mass = v, 0.0
                    while end < last and sign * t[k, end] >= threshold:
                        mass += abs(t[k, end])
                        end += 1
                    for u in range(v, end):
                        out[k, u] = sign * mass
                    v = end


def enhanced(
    t: NDArray[np.float32], starts: NDArray[np.int64], kind: str, threshold: float
) -> NDArray[np.float32]:
    """Statistics of (K, V) by their kind: `max` leaves t as it is, `tfce`, `mass`."""
    if kind == "max":
        return t
    out = np.empty_like(t)
    if kind == "tfce":
        # Height and extent of Smith & Nichols (NeuroImage 2009).
        tfce(t, starts, 0.1, 2.0, 0.5, out)
    else:
        cluster_mass(t, starts, threshold, out)
    return out
