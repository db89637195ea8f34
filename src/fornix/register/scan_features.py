"""What a scan is registered by, from the scan itself."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.models.tensor import fit_tensor
from fornix.nets.tissue_classes import TissueSegmentation
from fornix.register.features import Features, shape_tensor
from fornix.register.grids import Lattice
from fornix.register.upright import upright_segmentation

Array = NDArray[np.float32]


def scan_features(
    dwi: DWI,
    segmentation: TissueSegmentation | None = None,
    tensor: Array | None = None,
    fa: Array | None = None,
) -> Features:
    """Features of a scan of any protocol and grid.

    Args:
        dwi: The scan, with its mask.
        segmentation: Of the tissue network, if it is known already; else of `upright_segmentation`.
        tensor: (X, Y, Z, 6) world axes, any unit, if there is one already; else a least-squares fit.
        fa: (X, Y, Z), with `tensor`.
    """
    found = upright_segmentation(dwi) if segmentation is None else segmentation
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
        (*found.notes, *filter(None, [found.turned])),
    )


#: s/mm²: above it the tensor's logarithm bends, so lower volumes are fitted where they are enough.
_TENSOR_B = 1600.0


def _fitted(dwi: DWI) -> tuple[Array, Array]:
    """Tensor (X, Y, Z, 6) and FA (X, Y, Z) by weighted least squares."""
    low = dwi.subset(np.flatnonzero(dwi.gradients.bvals <= _TENSOR_B))
    used = low if not low.gradients.facts.why_not_dti else dwi
    fit = fit_tensor(used.signals(), used.gradients, std=False)
    return used.unmask(fit["tensor"]), used.unmask(fit["fa"])
