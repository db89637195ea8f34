"""Where streamlines start: in voxels, at the edge of grey matter, or where there are still too few.

Seeds come in blocks. Block i depends on the seed and i alone (and, for dynamic seeds, on what earlier
blocks gave), so that neither the number of threads nor how many blocks run at once changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.tractography.tissue_fractions import TissueFractions

#: Seeds of a block.
BLOCK = 2000

Floats = NDArray[np.float64]
#: Block -> seeds (n, 3), voxel coordinates; none when there are no more.
Seeder = Callable[[int], Floats]

SEEDINGS = ("voxel", "interface", "dynamic")


def starting_numbers(index: NDArray[np.int64], *, seed: int) -> NDArray[np.uint64]:
    """What each streamline's random numbers start from: its number and the seed alone.

    Args:
        index: (n,) numbers of the streamlines.
        seed: Of all random numbers.
    """
    return index.astype(np.uint64) + np.uint64(seed * 0x2545F4914F6CDD1D % 2**64)


def seed_numbers(parts: Sequence[Floats], block: int) -> NDArray[np.int64]:
    """(n,) the number of each seed of some blocks, whichever blocks run together.

    Args:
        parts: Seeds of blocks that follow one another.
        block: The number of the first.
    """
    return np.concatenate([(block + i) * BLOCK + np.arange(len(p)) for i, p in enumerate(parts)])


def first_seeds(seeder: Seeder, count: int) -> Floats:
    """(count, 3) the first seeds, voxel coordinates."""
    return np.concatenate([seeder(i) for i in range(-(-count // BLOCK))])[:count]


def voxel_seeds(mask: NDArray[np.bool_], *, seed: int, per_voxel: int | None = None) -> Seeder:
    """Seeds anywhere in the voxels of a mask.

    Args:
        mask: (X, Y, Z) where to start.
        seed: Of all random numbers.
        per_voxel: So many in each voxel and no more; by default at random without end.

    Raises:
        FornixError: per_voxel is below 1.
    """
    voxels = np.argwhere(mask)
    if per_voxel is not None and per_voxel < 1:
        raise FornixError(f"seeds per voxel must be 1 or more, not {per_voxel}")

    def seeds(block: int) -> Floats:
        rng = np.random.default_rng([seed, 51, block])
        if per_voxel is None:
            drawn = voxels[rng.integers(len(voxels), size=BLOCK)]
        else:
            number = np.arange(block * BLOCK, min((block + 1) * BLOCK, per_voxel * len(voxels)))
            drawn = voxels[number % len(voxels)]
        return drawn + rng.uniform(-0.5, 0.5, (len(drawn), 3))

    return seeds


def interface_seeds(mask: NDArray[np.bool_], tissue: TissueFractions, *, seed: int) -> Seeder:
    """Seeds on the surface where white and grey matter are equal, within the voxels of a mask.

    Random points near it are moved onto it along the gradient of white minus grey matter (Smith et al.,
    NeuroImage 2012).

    Args:
        mask: (X, Y, Z) where to start.
        tissue: On the same grid.
        seed: Of all random numbers.

    Raises:
        FornixError: The mask holds no such surface.
    """
    difference = (tissue.wm - tissue.gm).astype(np.float64)
    mixed = (tissue.wm + tissue.gm > 0.5) & (tissue.csf < 0.5)
    low, high = ndimage.minimum_filter(difference, 3), ndimage.maximum_filter(difference, 3)
    voxels = np.argwhere(mask & mixed & (low < 0) & (high > 0))
    if not len(voxels):
        raise FornixError(
            "no seed: grey and white matter do not meet inside the seed mask; give a mask that holds "
            "the interface, or seed in voxels"
        )
    gradient = [np.gradient(difference, axis=a) for a in range(3)]

    def sampled(values: Floats, points: Floats) -> Floats:
        return np.asarray(ndimage.map_coordinates(values, points, order=1, mode="nearest"))

    def seeds(block: int) -> Floats:
        rng = np.random.default_rng([seed, 52, block])
        drawn = voxels[rng.integers(len(voxels), size=4 * BLOCK)]
        points = (drawn + rng.uniform(-0.5, 0.5, drawn.shape)).T
        origin = points.copy()
        for _ in range(6):
            value = sampled(difference, points)
            slope = np.stack([sampled(g, points) for g in gradient])
            points = points - np.clip(value * slope / ((slope**2).sum(0) + 1e-3), -0.5, 0.5)
        on_surface = np.abs(sampled(difference, points)) < 0.05
        top = np.array(mask.shape)[:, None] - 0.5
        good = on_surface & (np.abs(points - origin).max(0) < 1.5)
        good &= ((points >= -0.5) & (points < top)).all(0)
        return points.T[good][:BLOCK]

    return seeds


class DynamicSeeds:
    """Seeds where streamlines are still fewer than the FOD's size asks for.

    After every block the density of accepted streamlines in each voxel is set against the FOD's
    integral there; a voxel's chance is its integral, less where it has its share already (after the
    dynamic seeding of Smith et al., NeuroImage 2015).

    Args:
        mask: (X, Y, Z) where to start.
        target: (X, Y, Z) the FOD's integral.
        seed: Of all random numbers.
    """

    def __init__(self, mask: NDArray[np.bool_], target: Floats, *, seed: int) -> None:
        self._flat = np.flatnonzero(mask)
        self._voxels = np.argwhere(mask)
        self._target = np.maximum(target[mask].astype(np.float64), 1e-9)
        self._target /= self._target.sum()
        self._density = np.zeros(mask.size)
        self._seed = seed

    def __call__(self, block: int) -> Floats:
        """The block's seeds ``(n, 3)`` in voxel coordinates."""
        rng = np.random.default_rng([self._seed, 53, block])
        chance = self._target.copy()
        density = self._density[self._flat]
        if density.sum() > 0:
            chance *= np.clip(1.5 - density / density.sum() / self._target, 0.05, 1.5)
        voxels = self._voxels[rng.choice(len(chance), size=BLOCK, p=chance / chance.sum())]
        return voxels + rng.uniform(-0.5, 0.5, voxels.shape)

    def count(self, flat: NDArray[np.int64]) -> None:
        """Count the voxels (flat indices) in which points of accepted streamlines lie."""
        self._density += np.bincount(flat, minlength=len(self._density))
