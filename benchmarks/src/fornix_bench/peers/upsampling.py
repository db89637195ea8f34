"""What the enhancement in space is measured against: interpolation, and classical deconvolution.

Each function takes a measured image (X, Y, Z, V), the operator from small voxels to measured ones and the two
grids, and returns (x, y, z, V).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from fornix.physics.point_spread import Grid, Measurement, _along, centres

Image = NDArray[np.float32]
_LANCZOS = 3


def cubic(image: Image, coarse: Grid, fine: Grid) -> Image:
    """Cubic spline interpolation."""
    step = fine.voxel_size / coarse.voxel_size
    at = [centres(n, m, s)[0] for n, m, s in zip(coarse.shape, fine.shape, step)]
    out = np.empty((*fine.shape, image.shape[3]), np.float32)
    for v in range(image.shape[3]):
        ndimage.affine_transform(
            image[..., v], step, at, output_shape=fine.shape, order=3, mode="nearest",
            output=out[..., v],
        )  # fmt: skip
    return out.clip(0)


def lanczos(image: Image, coarse: Grid, fine: Grid) -> Image:
    """Lanczos interpolation of three lobes (Duchon, J Appl Meteorol 1979)."""
    step = fine.voxel_size / coarse.voxel_size
    axes = []
    for n, m, s in zip(coarse.shape, fine.shape, step):
        apart = centres(n, m, s)[:, None] - np.arange(n)
        weight = np.sinc(apart) * np.sinc(apart / _LANCZOS) * (np.abs(apart) < _LANCZOS)
        axes.append(sparse.csr_matrix(weight / weight.sum(1, keepdims=True), dtype=np.float32))
    return _along(tuple(axes), image).clip(0)


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
        image: As measured.
        operator: From small voxels to measured ones.
        start: Where it begins, (x, y, z, V).
        strength: Of the penalty.
        edges: Total variation of all volumes together, by reweighting (vectorial, Blomgren and Chan, IEEE
            Trans Image Process 1998); else squared slopes (Tikhonov).
        rounds: Of reweighting; without edges all steps are one round.
        steps: Of conjugate gradients a round.
    """
    x = start.astype(np.float32)
    for _ in range(rounds if edges else 1):
        weight = _edge_weight(x) if edges else np.ones(x.shape[:3], np.float32)

        def normal(v: Image, w: Image = weight) -> Image:
            return operator.adjoint(operator.measured(v)) + strength * _penalty(v, w)

        x = _solve(normal, operator.adjoint(image), x, steps if edges else rounds * steps)
    return x.clip(0)


def _edge_weight(x: Image) -> Image:
    """One over the slope's length over all volumes, with the median as a floor."""
    square = np.zeros(x.shape[:3], np.float32)
    for axis in range(3):
        slope = np.diff(x, axis=axis)
        square += _padded((slope**2).mean(-1), axis)
    length = np.sqrt(square)
    floor = float(np.median(length[length > 0])) if (length > 0).any() else 1.0
    return np.asarray(floor / np.sqrt(length**2 + (0.5 * floor) ** 2), np.float32)


def _penalty(x: Image, weight: Image) -> Image:
    out = np.zeros_like(x)
    for axis in range(3):
        slope = np.diff(x, axis=axis)
        kept = [slice(None)] * 3
        kept[axis] = slice(0, slope.shape[axis])
        slope *= weight[tuple(kept)][..., None]
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(0, -1), slice(1, None)
        out[tuple(low)] -= slope
        out[tuple(high)] += slope
    return out


def _padded(values: Image, axis: int) -> Image:
    wide = [(0, 1) if a == axis else (0, 0) for a in range(3)]
    return np.pad(values, wide)


def _solve(normal, right: Image, x: Image, steps: int) -> Image:  # type: ignore[no-untyped-def]
    """Conjugate gradients, all volumes at once."""
    rest = right - normal(x)
    way = rest.copy()
    size = float((rest.astype(np.float64) ** 2).sum())
    for _ in range(steps):
        if size <= 0:
            break
        turned = normal(way)
        length = size / max(float((way.astype(np.float64) * turned).sum()), 1e-12)
        x = x + np.float32(length) * way
        rest = rest - np.float32(length) * turned
        new = float((rest.astype(np.float64) ** 2).sum())
        way = rest + np.float32(new / size) * way
        size = new
    return x
