"""Guided deconvolution: small voxels that give the measured ones, smooth except at edges of the means.

Edges are found on images that have little noise, means over volumes and the quadratic form of the signal, by
total variation (Rudin et al., Physica D 1992) of all of them together; every volume is then solved with those
edges: min |A x - y|² + strength |w ∇x|². With the edges fixed x is linear in y, so that contrast between
directions is neither made nor lost by the choice of edges.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fornix.physics.point_spread import Measurement

Image = NDArray[np.float32]
#: Steps of conjugate gradients: a round of reweighting, a volume.
_ROUNDS, _ROUND, STEPS = 3, 8, 14
#: Strength over the noise's variance (noise over white matter's signal at b = 0), and the least strength.
STRENGTH, LEAST = 40.0, 0.003
#: Of the guides.
_GUIDE = 0.01


def edges_of(guides: Image, operator: Measurement, start: Image) -> Image:
    """Weights of slopes (x, y, z), near 0 across edges.

    Args:
        guides: (X, Y, Z, G) measured images, over the scan's scale.
        operator: From small voxels to measured ones.
        start: (x, y, z, G) interpolated.
    """
    found = deconvolved(guides, operator, start, _GUIDE, rounds=_ROUNDS, steps=_ROUND)
    return edge_weight(found)


def strength_of(sigma: float) -> float:
    """The penalty's strength for volumes of this noise over white matter's signal at b = 0."""
    return max(STRENGTH * sigma**2, LEAST)


def solve_volumes(
    image: Image, operator: Measurement, start: Image, edges: Image, strength: float
) -> Image:
    """Volumes (x, y, z, V) that give the measured ones (X, Y, Z, V), with known edges."""
    return _solve(
        _normal(operator, edges, strength), operator.adjoint(image), start.astype(np.float32), STEPS
    )


def deconvolved(
    image: Image,
    operator: Measurement,
    start: Image,
    strength: float,
    edges: bool = True,
    rounds: int = 3,
    steps: int = 8,
) -> Image:
    """Least squares to what was measured plus a penalty on slopes, by conjugate gradients.

    Args:
        image: (X, Y, Z, V) as measured.
        operator: From small voxels to measured ones.
        start: Where it begins, (x, y, z, V).
        strength: Of the penalty.
        edges: Total variation of all volumes together, by reweighting (Blomgren and Chan, IEEE Trans Image
            Process 1998); else squared slopes (Tikhonov).
        rounds: Of reweighting; without edges all steps are one round.
        steps: Of conjugate gradients a round.
    """
    x, right = start.astype(np.float32), operator.adjoint(image)
    for _ in range(rounds if edges else 1):
        weight = edge_weight(x) if edges else np.ones(x.shape[:3], np.float32)
        normal = _normal(operator, weight, strength)
        x = _solve(normal, right, x, steps if edges else rounds * steps)
    return x.clip(0)


def edge_weight(x: Image) -> Image:
    """One over the slope's length over all volumes, with the median as a floor; (x, y, z)."""
    square = np.zeros(x.shape[:3], np.float32)
    for axis in range(3):
        slope = (np.diff(x, axis=axis) ** 2).mean(-1) / 2
        # Half of the slope to either neighbour: which way an axis is stored cannot matter.
        for side in ((0, 1), (1, 0)):
            square += np.pad(slope, [side if a == axis else (0, 0) for a in range(3)])
    length = np.sqrt(square)
    floor = float(np.median(length[length > 0])) if (length > 0).any() else 1.0
    return np.asarray(floor / np.sqrt(length**2 + (0.5 * floor) ** 2), np.float32)


def _normal(operator: Measurement, weight: Image, strength: float) -> Callable[[Image], Image]:
    def apply(x: Image) -> Image:
        return operator.adjoint(operator.measured(x)) + np.float32(strength) * _penalty(x, weight)

    return apply


def _penalty(x: Image, weight: Image) -> Image:
    """Half the gradient of the weighted sum of squared slopes."""
    out = np.zeros_like(x)
    for axis in range(3):
        slope = np.diff(x, axis=axis)
        all_low, all_high = [slice(None)] * 3, [slice(None)] * 3
        all_low[axis], all_high[axis] = slice(0, -1), slice(1, None)
        low, high = tuple(all_low), tuple(all_high)
        slope *= ((weight[low] + weight[high]) / 2)[..., None]
        out[low] -= slope
        out[high] += slope
    return out


def _solve(normal: Callable[[Image], Image], right: Image, x: Image, steps: int) -> Image:
    """Conjugate gradients, all volumes at once."""
    rest = right - normal(x)
    way, size = rest.copy(), _square(rest)
    for _ in range(steps):
        if size <= 1e-12:
            break
        turned = normal(way)
        length = np.float32(size / max(float(np.vdot(way, turned)), 1e-20))
        x = x + length * way
        rest = rest - length * turned
        new = _square(rest)
        way = rest + np.float32(new / size) * way
        size = new
    return x


def _square(x: Image) -> float:
    return float(np.vdot(x, x))
