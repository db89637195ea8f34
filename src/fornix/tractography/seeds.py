"""Where streamlines start: in voxels, at the edge of grey matter, or where they are still too few.

Seeds come in blocks. Block i depends on the seed and i alone (and, for dynamic seeds, on what earlier
blocks gave), so that neither the number of threads nor how many blocks run at once changes them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.tractography.tissue_fractions import TissueFractions

#: Seeds of a block.
BLOCK = 2000

Floats = NDArray[np.float64]
#: (block, tried for each voxel so far) -> (n, 3) voxel coordinates; none when there are no more.
Seeder = Callable[[int], Floats]

SEEDINGS = ("voxel", "interface", "dynamic")


def starting_numbers(index: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """What each streamline's random numbers begin with: of its number and the seed alone."""
    return index.astype(np.uint64) + np.uint64(seed * 0x2545F4914F6CDD1D % 2**64)


def voxel_seeds(where: NDArray[np.bool_], seed: int, per_voxel: int | None = None) -> Seeder:
    """Anywhere in the voxels of a mask: at random without end, or `per_voxel` in each and no more."""
    voxels = np.argwhere(where)
    if per_voxel is not None and per_voxel < 1:
        raise FornixError(f"seeds per voxel must be 1 or more, not {per_voxel}")

    def made(block: int) -> Floats:
        rng = np.random.default_rng([seed, 51, block])
        if per_voxel is None:
            chosen = voxels[rng.integers(len(voxels), size=BLOCK)]
        else:
            number = np.arange(block * BLOCK, min((block + 1) * BLOCK, per_voxel * len(voxels)))
            chosen = voxels[number % len(voxels)]
        return chosen + rng.uniform(-0.5, 0.5, (len(chosen), 3))

    return made


def interface_seeds(where: NDArray[np.bool_], tissue: TissueFractions, seed: int) -> Seeder:
    """On the surface where white and grey matter are equal, within the voxels of a mask.

    Random points near it are moved onto it along the gradient of white minus grey (Smith et al.,
    NeuroImage 2012).

    Raises FornixError where the mask holds no such surface.
    """
    apart = (tissue.wm - tissue.gm).astype(np.float64)
    mixed = (tissue.wm + tissue.gm > 0.5) & (tissue.csf < 0.5)
    low, high = ndimage.minimum_filter(apart, 3), ndimage.maximum_filter(apart, 3)
    surface = where & mixed & (low < 0) & (high > 0)
    voxels = np.argwhere(surface)
    if not len(voxels):
        raise FornixError(
            "no seed: grey and white matter do not meet inside the seed mask; give a mask that holds "
            "the interface, or seed in voxels"
        )
    slope = [np.gradient(apart, axis=a) for a in range(3)]

    def made(block: int) -> Floats:
        rng = np.random.default_rng([seed, 52, block])
        start = voxels[rng.integers(len(voxels), size=4 * BLOCK)]
        points = (start + rng.uniform(-0.5, 0.5, start.shape)).T
        still = points.copy()
        for _ in range(6):
            value = ndimage.map_coordinates(apart, points, order=1, mode="nearest")
            down = np.stack(
                [ndimage.map_coordinates(s, points, order=1, mode="nearest") for s in slope]
            )
            points = points - np.clip(value * down / ((down**2).sum(0) + 1e-3), -0.5, 0.5)
        value = ndimage.map_coordinates(apart, points, order=1, mode="nearest")
        good = (np.abs(value) < 0.05) & (np.abs(points - still).max(0) < 1.5)
        top = np.array(where.shape)[:, None] - 0.5
        good &= ((points >= -0.5) & (points < top)).all(0)
        return points.T[good][:BLOCK]

    return made


class DynamicSeeds:
    """Seeds go where streamlines are still fewer than the FOD's size asks for.

    After every block the density of accepted streamlines in each voxel is set against the FOD's
    integral there; a voxel's chance is its integral, less where it has its share already (after the
    dynamic seeding of Smith et al., NeuroImage 2015).
    """

    def __init__(self, where: NDArray[np.bool_], size: Floats, seed: int) -> None:
        self._flat = np.flatnonzero(where)
        self._voxels = np.argwhere(where)
        self._target = np.maximum(size[where].astype(np.float64), 1e-9)
        self._target /= self._target.sum()
        self._density = np.zeros(where.size)
        self._seed = seed

    def __call__(self, block: int) -> Floats:
        """The block's seeds ``(n, 3)`` in voxel coordinates."""
        rng = np.random.default_rng([self._seed, 53, block])
        chance = self._target.copy()
        found = self._density[self._flat]
        if found.sum() > 0:
            chance *= np.clip(1.5 - found / found.sum() / self._target, 0.05, 1.5)
        voxels = self._voxels[rng.choice(len(chance), size=BLOCK, p=chance / chance.sum())]
        return voxels + rng.uniform(-0.5, 0.5, voxels.shape)

    def learn(self, flat: NDArray[np.int64]) -> None:
        """Count the voxels (flat indices) that accepted streamlines' points lie in."""
        self._density += np.bincount(flat, minlength=len(self._density))
