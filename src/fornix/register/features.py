"""What two heads are matched by: tissues, the side of the head, and the tensor's shape and direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.models.tensor import fit_tensor
from fornix.nets.tissue_segmentation import TissueSegmentation, segment
from fornix.register.grids import Lattice

Array = NDArray[np.float32]

#: Places of a symmetric tensor's elements in files: xx, yy, zz, xy, xz, yz.
_ROW, _COLUMN = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)


@dataclass(frozen=True, eq=False)
class Features:
    """A head on its own grid.

    Attributes:
        lattice: Where its voxels lie.
        tissue: (6, X, Y, Z) probabilities of the classes after the background in `tissue_net.CLASSES`.
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


def scan_features(
    dwi: DWI,
    segmentation: TissueSegmentation | None = None,
    tensor: Array | None = None,
    fa: Array | None = None,
) -> Features:
    """Features of a scan of any protocol and grid.

    Args:
        dwi: The scan, with its mask.
        segmentation: Of the tissue network, if it is known already.
        tensor: (X, Y, Z, 6) world axes, any unit, if there is one already; else a least-squares fit.
        fa: (X, Y, Z), with `tensor`.
    """
    found = segment(dwi) if segmentation is None else segmentation
    if tensor is None or fa is None:
        tensor, fa = _fitted(dwi)
    brain = dwi.brain()
    shape = shape_tensor(tensor, np.clip(fa, 0, 1)) * brain[..., None]
    tissue = np.where(brain[..., None], found.probabilities[..., 1:], 0)
    return Features(
        Lattice(dwi.affine, dwi.grid),
        torch.from_numpy(np.ascontiguousarray(np.moveaxis(tissue, -1, 0), np.float32)),
        torch.from_numpy(np.ascontiguousarray(found.left, np.float32)),
        torch.from_numpy(np.ascontiguousarray(np.moveaxis(shape, -1, 0), np.float32)),
        found.notes,
    )


#: s/mm²: above it the tensor's logarithm bends, so lower volumes are fitted where they are enough.
_TENSOR_B = 1600.0


def _fitted(dwi: DWI) -> tuple[Array, Array]:
    """Tensor (X, Y, Z, 6) and FA (X, Y, Z) by weighted least squares."""
    low = dwi.subset(np.flatnonzero(dwi.gradients.bvals <= _TENSOR_B))
    used = low if not low.gradients.facts.why_not_dti else dwi
    fit = fit_tensor(used.signals(), used.gradients, std=False)
    return used.unmask(fit["tensor"]), used.unmask(fit["fa"])
