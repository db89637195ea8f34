"""A fitted harmonization: what it knows of each map, of the covariates and of where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.enhance.harmonization.combat import Combat
from fornix.enhance.harmonization.covariates import Covariate
from fornix.register.grids import Lattice


@dataclass(frozen=True, eq=False)
class MapModel:
    """One map.

    Attributes:
        tracts: (V,) of each column: a tract, a parcel, or `voxels`.
        nodes: (V,) node along the tract, or flat number of the voxel.
        combat: What sites add.
    """

    tracts: tuple[str, ...]
    nodes: NDArray[np.int64]
    combat: Combat


@dataclass(frozen=True, eq=False)
class Harmonization:
    """A frozen reference: other scans are made like those that it was fitted to.

    Attributes:
        level: What was measured, one of `values.LEVELS`.
        maps: By name.
        covariates: What is kept.
        lattice: Grid of voxels.
        about: How it was made, for the card: options, counts, warnings.
        digest: Of all numbers, as the file has it.
    """

    level: str
    maps: Mapping[str, MapModel]
    covariates: tuple[Covariate, ...]
    lattice: Lattice | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def __repr__(self) -> str:
        return (
            f"Harmonization({self.level} of {', '.join(self.maps)}; sites {', '.join(self.sites)})"
        )

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that it knows."""
        return next(iter(self.maps.values())).combat.sites

    @property
    def label(self) -> str:
        """Method and the digest's first digits, as sidecars say it."""
        return f"{self.about.get('Harmonized', 'combat')}:{self.digest[:12]}"
