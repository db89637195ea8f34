"""What a phantom's head is made of: tissue on a grid, its bundles, its lesions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.physics.tissue import Tissue

Array = NDArray[np.float32]
Streamlines = list[NDArray[np.float32]]
Endings = tuple[NDArray[np.bool_], NDArray[np.bool_]]

#: Labels of `Anatomy.lesions`.
LESION, OEDEMA, CAVITY, MASS = 1, 2, 3, 4


@dataclass(frozen=True, eq=False)
class Bundle:
    """One tract's truth, made when first asked for and then kept.

    Attributes:
        name: For example `CST_left`.
        load_volume: Gives (mask (X, Y, Z) bool, orientation (X, Y, Z, 3) unit world axes, 0 outside).
        load_streamlines: Gives the streamlines, each (points, 3) in world mm.
        load_endings: Gives the two end regions, (X, Y, Z) bool each.
    """

    name: str
    load_volume: Callable[[], tuple[NDArray[np.bool_], Array]]
    load_streamlines: Callable[[], Streamlines]
    load_endings: Callable[[], Endings]

    @cached_property
    def _volume(self) -> tuple[NDArray[np.bool_], Array]:
        return self.load_volume()

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(X, Y, Z) bool."""
        return self._volume[0]

    @property
    def orientation(self) -> Array:
        """(X, Y, Z, 3) unit axes in world space, zero outside the mask."""
        return self._volume[1]

    @cached_property
    def streamlines(self) -> Streamlines:
        """Streamlines in world mm."""
        return self.load_streamlines()

    @cached_property
    def endings(self) -> Endings:
        """The regions where it begins and ends, (X, Y, Z) bool each."""
        return self.load_endings()


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A head on a grid. Everything a voxel's signal depends on, and what it is called.

    Attributes:
        affine: (4, 4) voxel to world (RAS+, mm).
        mask: (X, Y, Z) bool, the brain.
        wm: (X, Y, Z) volume fractions, summing to 1 in the mask.
        gm: See `wm`.
        csf: See `wm`.
        mu: (X, Y, Z, 3, 3) up to three unit axes per voxel in world space (population, component).
        fraction: (X, Y, Z, 3) their shares of the neural tissue, summing to 1 in the mask.
        odi: (X, Y, Z, 3) their dispersion.
        ndi: (X, Y, Z) intra-neurite share of neural tissue; free-water fraction.
        fwf: See `ndi`.
        d_par: (X, Y, Z) µm²/ms.
        d_perp: See `d_par`.
        s0: (X, Y, Z) signal at b = 0 in arbitrary units.
        lesions: (X, Y, Z) uint8, 0 none, 1 lesion, 2 oedema, 3 cavity, 4 mass.
        bundles: By name.
        reference: s0 of healthy white matter, to which SNR refers.
    """

    affine: NDArray[np.float64]
    mask: NDArray[np.bool_]
    wm: Array
    gm: Array
    csf: Array
    mu: Array
    fraction: Array
    odi: Array
    ndi: Array
    fwf: Array
    d_par: Array
    d_perp: Array
    s0: Array
    lesions: NDArray[np.uint8]
    bundles: Mapping[str, Bundle] = field(default_factory=dict)
    reference: float = 1000.0

    def __post_init__(self) -> None:
        grid = self.mask.shape
        if len(grid) != 3:
            raise FornixError(f"an anatomy lives on a 3D grid, the mask has shape {grid}")
        tails = {"mu": (3, 3), "fraction": (3,), "odi": (3,)}
        for name in VOLUMES + ("lesions",):
            expected = grid + tails.get(name, ())
            if getattr(self, name).shape != expected:
                raise FornixError(
                    f"anatomy: {name} must be {expected}, got {getattr(self, name).shape}"
                )

    @property
    def grid(self) -> tuple[int, int, int]:
        """(X, Y, Z)."""
        x, y, z = self.mask.shape
        return x, y, z

    def with_(self, **changes: Any) -> Anatomy:
        """A copy with some fields replaced, validated again."""
        return replace(self, **changes)

    def tissue(
        self,
        where: NDArray[np.bool_] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tissue:
        """The tissue of the voxels in `where` (default: the mask), in C order."""
        chosen = self.mask if where is None else where

        def pick(values: Array) -> torch.Tensor:
            return torch.as_tensor(values[chosen]).to(device=device, dtype=dtype)

        return Tissue(
            mu=pick(self.mu),
            fraction=pick(self.fraction),
            odi=pick(self.odi),
            ndi=pick(self.ndi),
            fwf=pick(self.fwf),
            d_par=pick(self.d_par),
            d_perp=pick(self.d_perp),
            s0=pick(self.s0),
        )


#: The fields that are volumes of numbers.
VOLUMES = (
    "wm", "gm", "csf", "mu", "fraction", "odi", "ndi", "fwf", "d_par", "d_perp", "s0",
)  # fmt: skip


def kept_inside(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> Array:
    """Values (X, Y, Z, …) as float32, zero outside the mask (X, Y, Z)."""
    tail = (1,) * (values.ndim - 3)
    return np.where(mask.reshape(*mask.shape, *tail), values, 0).astype(np.float32)
