"""The classes that the tissue network tells apart, and what it says of a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Classes by place: the first is not brain.
CLASSES = (
    "background", "cortical grey", "deep grey", "white", "csf", "cerebellum", "brainstem",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TissueSegmentation:
    """What the network says of a scan, on the scan's own grid.

    Attributes:
        probabilities: (X, Y, Z, 7) of the classes of `CLASSES`, summing to 1.
        left: (X, Y, Z) probability of the left hemisphere; without meaning outside of the brain.
        mask: (X, Y, Z) the brain with the water inside of the skull, one part without holes.
        notes: What is unlikely about it, a line each.
        label: Name and hash of the weights.
        turned: Where the header is wrong about which way is up, a line that says so.
    """

    probabilities: Array
    left: Array
    mask: Mask
    notes: tuple[str, ...] = ()
    label: str = ""
    turned: str = ""

    def __getitem__(self, name: str) -> Array:
        """The probability of a class, (X, Y, Z), by its name in `CLASSES`."""
        return np.asarray(self.probabilities[..., CLASSES.index(name)])

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(X, Y, Z) place of the likeliest class in `CLASSES`; 0 outside of the mask."""
        inside = self.probabilities[..., 1:].argmax(-1) + 1
        return np.asarray(np.where(self.mask, inside, 0), np.uint8)
