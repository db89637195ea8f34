"""What estimators return: named maps on the scan's grid, each with its standard deviation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError

#: Units in files of every parameter that Fornix writes.
UNITS = {
    "md": "mm^2/s", "ad": "mm^2/s", "rd": "mm^2/s", "tensor": "mm^2/s", "s0": "arbitrary",
    "fa": "1", "v1": "1", "mk": "1", "ak": "1", "rk": "1", "kfa": "1",
    "ndi": "1", "odi": "1", "odiw": "1", "fwf": "1", "direction": "1",
    "ood": "1", "source": "1",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Map:
    """One estimated quantity.

    Attributes:
        model: As in the file name, for example `dti` and `fa`; model may be empty.
        param: See `model`.
        data: (X, Y, Z) or (X, Y, Z, C) float32 in file units (diffusivities mm²/s), 0 outside the mask.
        affine: (4, 4).
        std: Standard deviation of the estimate, same shape, or None where it has no meaning.
        units: Of data and std.
        quantiles: Calibrated quantiles of the true value by level (0.025, …), same shape, where asked
            for.
        description: One line for the sidecar
        reference: The paper of the method.
        details: More of what the sidecar says of how it was made, for example `ReferenceBValue`.
    """

    model: str
    param: str
    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    std: NDArray[np.float32] | None = None
    units: str = "1"
    method: str = ""
    description: str = ""
    reference: str = ""
    quantiles: Mapping[float, NDArray[np.float32]] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data.ndim not in (3, 4):
            raise FornixError(f"map {self.name} must have 3 or 4 dimensions, has {self.data.ndim}")
        if self.std is not None and self.std.shape != self.data.shape:
            raise FornixError(
                f"map {self.name}: standard deviation {self.std.shape} and value {self.data.shape} "
                "differ in shape"
            )

    @property
    def name(self) -> str:
        """The output's fixed name, e.g. ``dti_fa``."""
        return f"{self.model}_{self.param}" if self.model else self.param

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.data.shape))
        spread = ", std" if self.std is not None else ""
        return f"Map({self.name}, {size}, {self.units}{spread}, {self.method or 'no method'})"


@dataclass(frozen=True, eq=False)
class Maps(Mapping[str, Map]):
    """Maps of one scan by name (`dti_fa`, `noddi_ndi`), with the mask of where to trust them.

    `maps["dti_fa"]` and, where only one model has it, `maps["fa"]`.
    """

    maps: dict[str, Map] = field(default_factory=dict)
    trust: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Maps({', '.join(self.maps) or 'none'})"

    def __getitem__(self, name: str) -> Map:
        if name in self.maps:
            return self.maps[name]
        found = [m for m in self.maps.values() if m.param == name]
        if len(found) == 1:
            return found[0]
        raise KeyError(f"no map {name!r}; there are: {', '.join(self.maps)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def merged(self, other: Maps) -> Maps:
        """Both together; trusted is what both trust."""
        trust = self.trust if other.trust is None else other.trust
        if self.trust is not None and other.trust is not None:
            trust = self.trust & other.trust
        return Maps({**self.maps, **other.maps}, trust, self.notes + other.notes)
