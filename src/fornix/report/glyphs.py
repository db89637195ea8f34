"""Fibre orientation distributions as surfaces, drawn without a renderer.

A glyph is the surface r = f(u) about a voxel's middle. Looking along a voxel axis, the ray through each
pixel meets the same directions in every voxel, so that one matrix of harmonics gives the function along
all rays of all voxels: the first place where r <= f is what is seen.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import blocks
from fornix.numerics import harmonics
from fornix.numerics.directions import fibonacci

Image = NDArray[np.float32]

#: Samples along a ray; voxels whose largest peak is at this percentile are just filled by it.
_DEPTH, _FULL = 56, 70.0
#: Where the light stands, in the picture's axes (right, up, toward the eye).
_LIGHT = np.array([-0.35, 0.45, 0.82])


def draw_glyphs(
    coefficients: NDArray[np.float32],
    background: NDArray[np.float32],
    shown: NDArray[np.bool_],
    frame: NDArray[np.float64],
    pixels: int = 32,
) -> Image:
    """A picture (U * pixels, V * pixels, 3) of a slice's glyphs over a grey background, 0 to 1.

    Args:
        coefficients: (U, V, harmonics), world axes.
        background: (U, V) 0 to 1.
        shown: (U, V) which voxels.
        frame: (3, 3) rows are the picture's axes in world space: right, up, and toward the eye. Colour
            is direction: red left-right, green front-back, blue up-down.
        pixels: Of the picture's longer side.
    """
    picture = np.repeat(np.repeat(background, pixels, 0), pixels, 1)[..., None] * np.ones(
        3, np.float32
    )
    chosen = np.argwhere(shown)
    if not len(chosen):
        return picture
    values = np.nan_to_num(coefficients[shown]).astype(np.float32)
    lmax = harmonics.lmax_of(values.shape[1])
    rays, radius, heights = _rays(lmax, pixels, frame.tobytes())
    largest = values @ harmonics.evaluate(lmax, fibonacci(300)).astype(np.float32).T
    peak = largest.max(1)
    typical = float(np.percentile(peak, _FULL))
    if typical <= 0:
        return picture
    # Never wider than the voxel: neighbours do not hide each other.
    unit = 0.5 / np.maximum(peak, typical)
    tiles = picture.reshape(background.shape[0], pixels, background.shape[1], pixels, 3)
    for part in blocks(len(values), 48):
        size = (values[part] * unit[part, None]) @ rays.T
        gap = size.reshape(-1, pixels, pixels, _DEPTH) - radius
        colour, there = _seen(gap, heights, pixels, frame)
        for (i, j), tint, mask in zip(chosen[part], colour, there):
            tiles[i, :, j][mask] = tint[mask]
    return np.clip(picture, 0, 1)


@lru_cache(maxsize=4)
def _rays(
    lmax: int, pixels: int, frame: bytes
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Harmonics at every sample of every ray (pixels² * depth, n), its radius in voxels, its height."""
    across = (np.arange(pixels) + 0.5) / pixels - 0.5
    heights = np.linspace(0.5, -0.5, _DEPTH)
    points = np.stack(np.meshgrid(across, across, heights, indexing="ij"), -1)
    world = points.reshape(-1, 3) @ np.frombuffer(frame).reshape(3, 3)
    radius = np.linalg.norm(points, axis=-1).astype(np.float32)
    return harmonics.evaluate(lmax, world).astype(np.float32), radius, heights


def _seen(
    gap: NDArray[np.float32], heights: NDArray[np.float64], pixels: int, frame: NDArray[np.float64]
) -> tuple[Image, NDArray[np.bool_]]:
    """Colour (n, pixels, pixels, 3) of what each ray meets first, and where it meets anything."""
    inside = gap >= 0
    there = inside.any(-1)
    first = inside.argmax(-1)
    now = np.take_along_axis(gap, first[..., None], -1)[..., 0]
    before = np.take_along_axis(gap, np.maximum(first - 1, 0)[..., None], -1)[..., 0]
    share = np.where(first > 0, now / np.maximum(now - before, 1e-6), 0.0)
    height = heights[first] + share * (heights[0] - heights[1])
    across = (np.arange(pixels) + 0.5) / pixels - 0.5
    place = np.stack(np.broadcast_arrays(across[:, None], across[None, :], height), -1)
    world = np.abs(place @ frame)
    tint = world / np.maximum(world.max(-1, keepdims=True), 1e-9)
    # Light from the slope of the surface; where a neighbour is empty there is none.
    height = np.where(there, height, np.nan)
    right, up = (np.nan_to_num(np.gradient(height, 1 / pixels, axis=a)) for a in (1, 2))
    normal = np.stack([-right, -up, np.ones_like(right)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = 0.45 + 0.55 * np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    return np.asarray(tint * light[..., None], np.float32), np.asarray(there)
