"""What two heads are matched by: tissues, the side of the head, and the tensor's shape and direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.register.grids import Lattice

Array = NDArray[np.float32]

#: Places of a symmetric tensor's elements in files: xx, yy, zz, xy, xz, yz.
_ROW, _COLUMN = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)


@dataclass(frozen=True, eq=False)
class Features:
    """A head on its own grid.

    Attributes:
        lattice: Where its voxels lie.
        tissue: (6, X, Y, Z) probabilities of the classes after the background in `tissue_classes.CLASSES`.
        left: (X, Y, Z) probability of the left side of the head; without meaning outside of the brain.
        shape: (6, X, Y, Z) the trace-free tensor of norm FA, elements xx yy zz xy xz yz, world axes.
        notes: What is unlikely about them, a line each.
    """

    lattice: Lattice
    tissue: torch.Tensor
    left: torch.Tensor
    shape: torch.Tensor
    notes: tuple[str, ...] = ()

    @property
    def brain(self) -> torch.Tensor:
        """(X, Y, Z) probability of being brain or the water around it."""
        return self.tissue.sum(0).clamp(0, 1)


def shape_tensor(tensor: Array, fa: Array) -> Array:
    """The trace-free part of tensors (..., 6), of length FA: what of a tensor no protocol changes.

    Args:
        tensor: Elements xx yy zz xy xz yz in any unit.
        fa: (...) in [0, 1].

    Returns:
        (..., 6); the Frobenius norm of the matrix is FA.
    """
    made = np.array(tensor, np.float32)
    made[..., :3] -= made[..., :3].mean(-1, keepdims=True)
    size = np.sqrt((made[..., :3] ** 2).sum(-1) + 2 * (made[..., 3:] ** 2).sum(-1))
    scaled = made * (fa / np.maximum(size, 1e-12))[..., None]
    return np.asarray(np.nan_to_num(scaled), np.float32)


def matrices(elements: torch.Tensor) -> torch.Tensor:
    """Symmetric matrices (..., 3, 3) of elements (6, ...)."""
    xx, yy, zz, xy, xz, yz = elements
    rows = [torch.stack(r, -1) for r in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))]
    return torch.stack(rows, -2)


def elements(matrices: torch.Tensor) -> torch.Tensor:
    """Elements (6, ...) of symmetric matrices (..., 3, 3)."""
    return torch.stack([matrices[..., i, j] for i, j in zip(_ROW, _COLUMN)])
