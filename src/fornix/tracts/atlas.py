"""The tracts that are known: where each lies in MNI space, where it ends, how it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.io.files import atomic
from fornix.register.grids import Lattice

Array = NDArray[np.float32]

FOLDER = Path(__file__).parent
#: Steps of an axis's elements and of the place along a tract: 2 degrees and 1%, in half the bytes.
_AXIS, _ALONG = 31, 127
#: Files of the atlases that ship, by name.
ATLASES = {"tracts72": FOLDER / "tracts72.npz", "hcp1065": FOLDER / "hcp1065.npz"}


@dataclass(frozen=True, eq=False)
class Tract:
    """One tract on the voxels of an atlas where it may lie.

    Attributes:
        name: As in files, for example `CST_left`.
        voxels: (n,) flat indices on the atlas's grid, C order.
        share: (n,) of the known heads that have the tract there, blurred, in [0, 1].
        ends: (n, 2) the same of the region where it begins and of that where it ends.
        direction: (n, 3) mean unit axis along the tract from its beginning to its end, world axes.
        along: (n,) 0 where it begins to 1 where it ends.
    """

    name: str
    voxels: NDArray[np.int64]
    share: Array
    ends: Array
    direction: Array
    along: Array


@dataclass(frozen=True, eq=False)
class TractSet:
    """Tracts on one grid.

    Attributes:
        lattice: The grid, MNI mm.
        tracts: By name.
        about: Where they come from, a line for sidecars.
    """

    lattice: Lattice
    tracts: dict[str, Tract]
    about: str = ""

    def volume(self, tract: Tract, values: Array) -> Array:
        """Values (n,) or (n, C) of a tract's voxels as an image (X, Y, Z[, C]), 0 elsewhere."""
        out = np.zeros((int(np.prod(self.lattice.shape)), *values.shape[1:]), np.float32)
        out[tract.voxels] = values
        return out.reshape(*self.lattice.shape, *values.shape[1:])


def save_atlas(atlas: TractSet, path: Path) -> Path:
    """Write an atlas: bytes, compressed."""
    tracts = list(atlas.tracts.values())
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            affine=atlas.lattice.affine,
            shape=np.array(atlas.lattice.shape),
            about=np.array(atlas.about),
            names=np.array([t.name for t in tracts]),
            counts=np.array([len(t.voxels) for t in tracts]),
            # Steps between indices are small numbers, which pack well.
            steps=_joined(np.diff(t.voxels, prepend=0) for t in tracts).astype(np.int32),
            share=np.rint(_joined(t.share for t in tracts) * 255).astype(np.uint8),
            ends=np.rint(_joined(t.ends for t in tracts) * 255).astype(np.uint8),
            direction=np.rint(_joined(t.direction for t in tracts) * _AXIS).astype(np.int8),
            along=np.rint(_joined(t.along for t in tracts) * _ALONG).astype(np.uint8),
        )
    return path


@lru_cache(maxsize=4)
def load_atlas(path: Path) -> TractSet:
    """Read an atlas; kept once read."""
    with np.load(path) as stored:
        cuts = np.cumsum(stored["counts"])[:-1]
        columns = {
            key: np.split(stored[key], cuts)
            for key in ("steps", "share", "ends", "direction", "along")
        }
        names = [str(name) for name in stored["names"]]
        shape = tuple(int(n) for n in stored["shape"])
        lattice = Lattice(stored["affine"], (shape[0], shape[1], shape[2]))
        about = str(stored["about"])
    tracts = {
        name: Tract(
            name,
            np.cumsum(columns["steps"][i], dtype=np.int64),
            _share(columns["share"][i], 255),
            _share(columns["ends"][i], 255),
            _share(columns["direction"][i], _AXIS),
            _share(columns["along"][i], _ALONG),
        )
        for i, name in enumerate(names)
    }
    return TractSet(lattice, tracts, about)


def _joined(parts: Iterable[NDArray]) -> NDArray:
    return np.concatenate(list(parts))


def _share(values: NDArray, of: int) -> Array:
    return np.asarray(values / np.float32(of), np.float32)
