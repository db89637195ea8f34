"""Brain, tissues and side of the head of every voxel, from a diffusion scan alone."""

from __future__ import annotations

from functools import lru_cache, reduce

import numpy as np
import torch
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.grid import head_scale
from fornix.nets import weights
from fornix.nets.tissue_channels import ScanMaps, channels, scan_maps
from fornix.nets.tissue_classes import TissueSegmentation
from fornix.nets.tissue_net import TissueNet

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

NAME = "tissue"
#: mm between the points where the network sees the head.
STEP = 2.5
#: Litres that a whole human brain with the water around it holds.
_LEAST, _MOST = 0.7, 2.2
#: Mean probability of the likeliest class in the brain, below which the network is unsure: real scans have
#: 0.65 to 0.73, pure noise 0.4. Heads upside down or blurred have 0.64 to 0.70 and are not told by it.
_SURE = 0.55
#: mm: an image smaller than this in any direction need not show a whole brain.
WHOLE = 110.0


def segment(dwi: DWI, network: TissueNet | None = None) -> TissueSegmentation:
    """Brain and tissues of a scan of any protocol, grid and storage order.

    Args:
        dwi: The scan; its mask is not used.
        network: Another than the one that ships.
    """
    label = ""
    if network is None:
        network, label = _shipped()
    maps = scan_maps(dwi)
    order = io_orientation(dwi.affine)
    axes, flips = order[:, 0].astype(int), order[:, 1]
    size = dwi.voxel_size[np.argsort(axes)]
    found = _answered(_reordered(maps, axes, flips), size, network)
    found = np.stack([_restored(f, axes, flips) for f in found])
    probabilities = np.ascontiguousarray(np.moveaxis(found[:-1], 0, -1))
    mask = _mask(probabilities[..., 0] < 0.5)
    notes = _doubts(probabilities, mask, dwi.voxel_size)
    return TissueSegmentation(probabilities, found[-1], mask, notes, label)


@lru_cache(maxsize=1)
def _shipped() -> tuple[TissueNet, str]:
    made = weights.load(NAME)
    recipe = made.about["recipe"]
    return weights.fill(TissueNet(recipe["width"], recipe["depth"]), made), made.label


def _reordered(maps: ScanMaps, axes: NDArray[np.int64], flips: NDArray[np.float64]) -> ScanMaps:
    """Maps with axes nearest to RAS: how a scan was stored cannot matter to what follows."""

    def turned(image: Array | None) -> Array | None:
        if image is None:
            return None
        flipped = np.flip(image, tuple(i for i in range(3) if flips[i] < 0))
        return np.ascontiguousarray(np.transpose(flipped, np.argsort(axes)))

    b0 = turned(maps.b0)
    assert b0 is not None
    return ScanMaps(b0, turned(maps.weighted), maps.b, turned(maps.anisotropy))


def _restored(image: Array, axes: NDArray[np.int64], flips: NDArray[np.float64]) -> Array:
    return np.flip(np.transpose(image, axes), tuple(i for i in range(3) if flips[i] < 0))


def _answered(maps: ScanMaps, size: NDArray[np.float64], network: TissueNet) -> Array:
    """Probabilities of the classes and of the left, (8, X, Y, Z), of maps with RAS axes."""
    grid = maps.b0.shape
    there = [_to_step(n, s) for n, s in zip(grid, size)]
    back = [_from_step(n, len(w), s) for n, w, s in zip(grid, there, size)]

    def on_step(image: Array | None) -> torch.Tensor | None:
        return None if image is None else torch.from_numpy(_along(image, there))

    b0 = on_step(maps.b0)
    assert b0 is not None
    seen = channels(
        b0, on_step(maps.weighted), maps.b, on_step(maps.anisotropy), torch.ones_like(b0)
    )
    pads = [(-n) % network.multiple for n in seen.shape[1:]]
    before = [p // 2 for p in pads]
    sides = [v for b, p in zip(reversed(before), reversed(pads)) for v in (b, p - b)]
    padded = torch.nn.functional.pad(seen, sides)
    with torch.no_grad():
        odds = network(padded[None])[0]
        found = torch.cat([torch.softmax(odds[:-1], 0), torch.sigmoid(odds[-1:])])
    kept = [slice(b, b + n) for b, n in zip(before, seen.shape[1:])]
    inner = found[(slice(None), *kept)].numpy()
    out = np.stack([_along(f, back) for f in inner])
    out[:-1] /= out[:-1].sum(0)
    return out


def _along(image: Array, matrices: list[Array]) -> Array:
    """A matrix applied along each axis."""
    made = reduce(
        lambda x, m: np.moveaxis(np.tensordot(m, x, (1, x.ndim - 3)), 0, -1), matrices, image
    )
    return np.ascontiguousarray(made, np.float32)


def _to_step(n: int, size: float) -> Array:
    """Weights (m, n) from n voxels of a size in mm to points STEP apart, both about the same middle."""
    m = max(1, round(n * size / STEP + 0.3))
    at = np.asarray((np.arange(m) - (m - 1) / 2) * STEP / size + (n - 1) / 2, np.float64)
    return _means(at, n, STEP / size) if size < STEP else _linear(at, n)


def _from_step(n: int, m: int, size: float) -> Array:
    """Weights (n, m) from those points back to the voxels."""
    at = np.asarray((np.arange(n) - (n - 1) / 2) * size / STEP + (m - 1) / 2, np.float64)
    return _means(at, m, size / STEP) if size > STEP else _linear(at, m)


def _linear(at: NDArray[np.float64], n: int) -> Array:
    away = np.abs(at.clip(0, n - 1)[:, None] - np.arange(n))
    return np.asarray((1 - away).clip(0), np.float32)


def _means(at: NDArray[np.float64], n: int, width: float) -> Array:
    """Means over `width` elements: what a voxel of that width would have shown."""
    low, high = at - width / 2, at + width / 2
    edges = np.arange(n + 1) - 0.5
    overlap = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
    overlap = overlap.clip(0) + 1e-9 * _linear(at, n)
    return np.asarray(overlap / overlap.sum(1, keepdims=True), np.float32)


def _mask(likely: Mask) -> Mask:
    """The largest part, filled."""
    labels, count = ndimage.label(likely)
    if not count:
        return likely
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(ndimage.binary_fill_holes(labels == sizes.argmax()), bool)


def _doubts(probabilities: Array, mask: Mask, size: NDArray[np.float64]) -> tuple[str, ...]:
    """What is unlikely, a line each."""
    if not mask.any():
        return ("the tissue network finds no brain in this scan",)
    found = []
    litres = float(mask.sum() * size.prod() / 1e6)
    whole = bool((np.array(mask.shape) * size > WHOLE).all())
    if whole and not _LEAST < litres < _MOST:
        animal = head_scale(mask, size) < 1
        what = ", smaller than a human's" if animal else ""
        found.append(
            f"the brain that the tissue network finds holds {litres:.2f} litres{what}; look at it"
        )
    sure = float(probabilities[mask].max(-1).mean())
    if sure < _SURE:
        found.append(
            f"the tissue network is unsure about this scan (mean probability {sure:.2f}): it may be unlike "
            "the human heads of its training"
        )
    return tuple(found)
