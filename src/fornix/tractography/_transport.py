"""What is compiled for smooth curves: a frame carried along arcs whose curvature is drawn.

Parallel transport tractography (Aydogan & Shi, IEEE TMI 2021). At every step a curvature (k1, k2) is
drawn from a disk, with the mean FOD amplitude along a probe of that curvature as its probability: the
tangent never jumps, and a fibre is followed for as far as the probe reaches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.numerics.algebra import compiled_exact
from fornix.tractography._kernel_arguments import FieldArrays, Floats64, Scratch, StepParams
from fornix.tractography._kernels import trilinear_rows, uniform

#: Points of a probe beyond its start, tries before the curve ends, and tries that set the bound.
_POINTS, _TRIES, _FIRST = 4, 300, 20


@compiled_exact
def start_frame(direction: Floats64, state: np.uint64, frame: Floats64) -> np.uint64:
    """Into frame (3, 3): the tangent and two normals, turned at random about it."""
    small = 0
    for d in range(1, 3):
        if abs(direction[d]) < abs(direction[small]):
            small = d
    n = np.zeros(3)
    n[small] = 1.0
    dot = direction[small]
    norm = 0.0
    for d in range(3):
        n[d] -= dot * direction[d]
        norm += n[d] * n[d]
    for d in range(3):
        frame[0, d] = direction[d]
        n[d] /= np.sqrt(norm)
    c = np.empty(3)
    _cross(direction, n, c)
    state, u = uniform(state)
    cos, sin = np.cos(2 * np.pi * u), np.sin(2 * np.pi * u)
    for d in range(3):
        frame[1, d] = cos * n[d] + sin * c[d]
        frame[2, d] = cos * c[d] - sin * n[d]
    return state


@compiled_exact
def _cross(a: Floats64, b: Floats64, out: Floats64) -> None:
    out[0] = a[1] * b[2] - a[2] * b[1]
    out[1] = a[2] * b[0] - a[0] * b[2]
    out[2] = a[0] * b[1] - a[1] * b[0]


@compiled_exact
def transport_frame(frame: Floats64, point: Floats64, k1: float, k2: float, length: float) -> None:
    """Move the frame and its point along an arc with curvatures k1, k2 (1/mm) towards its normals."""
    k = np.sqrt(k1 * k1 + k2 * k2)
    angle = k * length
    if angle < 1e-6:
        for d in range(3):
            point[d] += length * frame[0, d]
        return
    sin, cos = np.sin(angle), np.cos(angle)
    e1, e2 = k1 / k, k2 / k
    for d in range(3):
        t, n1, n2 = frame[0, d], frame[1, d], frame[2, d]
        normal = e1 * n1 + e2 * n2
        point[d] += sin / k * t + (1 - cos) / k * normal
        # A rotation in the plane of tangent and normal: the frame does not twist.
        turned = cos * normal - sin * t
        frame[0, d] = cos * t + sin * normal
        frame[1, d] = n1 + e1 * (turned - normal)
        frame[2, d] = n2 + e2 * (turned - normal)


@compiled_exact
def nearest_axis_of(x: float, y: float, z: float, nearest: NDArray[np.int32]) -> int:
    """The axis nearest to a direction, from a table on the octahedron's upper half."""
    side = nearest.shape[0]
    if z < 0:
        x, y, z = -x, -y, -z
    scale = 1.0 / (abs(x) + abs(y) + z)
    # The upper half of the octahedron is a square, turned by 45 degrees.
    u = 0.5 * (1.0 + (x + y) * scale)
    v = 0.5 * (1.0 + (x - y) * scale)
    return nearest[min(side - 1, int(u * side)), min(side - 1, int(v * side))]


@compiled_exact
def _probe_amplitude(
    field: FieldArrays,
    params: StepParams,
    frame: Floats64,
    point: Floats64,
    k1: float,
    k2: float,
    scratch: Scratch,
) -> float:
    """Mean amplitude along a probe; 0 where any of it falls below the threshold."""
    # Read once: each look into a named tuple counts a reference.
    lookup, amplitudes, std, nearest = field.lookup, field.amplitudes, field.std, field.nearest
    f, p, size, noise = scratch.frame, scratch.point, field.voxel_size, scratch.noise
    rows, weights = scratch.rows, scratch.weights
    for d in range(3):
        p[d] = point[d]
        for e in range(3):
            f[e, d] = frame[e, d]
    total = 0.0
    for _ in range(_POINTS):
        transport_frame(f, p, k1, k2, params.probe / _POINTS)
        x, y, z = p[0] / size[0], p[1] / size[1], p[2] / size[2]
        count = trilinear_rows(lookup, x, y, z, rows, weights)
        m = nearest_axis_of(f[0, 0], f[0, 1], f[0, 2], nearest)
        value = 0.0
        for e in range(count):
            value += weights[e] * amplitudes[rows[e], m]
            if std.shape[0]:
                value += weights[e] * noise[m] * std[rows[e], m]
        if value < params.threshold:
            return 0.0
        total += value
    return total / _POINTS


@compiled_exact
def sample_curvature(
    field: FieldArrays,
    params: StepParams,
    frame: Floats64,
    point: Floats64,
    scratch: Scratch,
    state: np.uint64,
    curvature: Floats64,
) -> tuple[bool, np.uint64]:
    """Draw the next curvatures into curvature (2,), 1/mm; returns whether there are any, and the state.

    Rejection sampling: the largest amplitude of a few tries, times 1.2, bounds the others.
    """
    top = 0.0
    for attempt in range(_FIRST + _TRIES):
        state, u = uniform(state)
        state, v = uniform(state)
        k = params.max_curvature * np.sqrt(u)
        k1, k2 = k * np.cos(2 * np.pi * v), k * np.sin(2 * np.pi * v)
        amplitude = _probe_amplitude(field, params, frame, point, k1, k2, scratch)
        if attempt < _FIRST:
            top = max(top, amplitude)
            if attempt == _FIRST - 1:
                if top <= 0.0:
                    return False, state
                top *= 1.2
            continue
        state, u = uniform(state)
        if amplitude > 0.0 and u * top <= amplitude:
            curvature[0], curvature[1] = k1, k2
            return True, state
    return False, state
