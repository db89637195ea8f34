"""What the enhancement in space is measured against: interpolation; deconvolution is in `fornix.enhance`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from fornix.physics.point_spread import Grid, along, centres

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
    return along(tuple(axes), image).clip(0)
