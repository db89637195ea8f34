"""The tensor at another b-value than that which the networks were trained for.

Diffusion in tissue is not Gaussian, so a tensor depends on the b-value at which it is measured: between
b = 1000 and b = 3000 s/mm² the mean diffusivity of white matter falls by a quarter. The networks' tensor
describes the signal near b = 1000 whatever was measured. Their own noise-free signal says how a tensor at
another b differs from it: both are fitted to that signal, and the difference is added to the estimate, which
therefore keeps what a network does better than a fit.

To first order the difference is b-difference times kurtosis (Jensen et al., MRM 2005), so that its relative
uncertainty is that of the estimated mean kurtosis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from fornix.core.design import quadratic_form
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.nets.encoding import REFERENCE_B
from fornix.nets.features import eigen
from fornix.numerics.directions import fibonacci
from fornix.qspace.encoder import Encoder

#: What the networks' tensor was trained for, s/mm².
TRAINED_B = 1000.0 * REFERENCE_B
#: Between these the networks know the signal well, s/mm².
LOWEST_B, HIGHEST_B = 500.0, 3000.0
#: Axes on which both tensors are fitted.
_AXES = 45
_FLOOR = 1e-3


@dataclass(frozen=True, eq=False)
class TensorChange:
    """What a tensor at another b has more than one at `TRAINED_B`, of n voxels.

    Attributes:
        metrics: (n, 4) of FA, MD, AD, RD, diffusivities in µm²/ms.
        tensor: (n, 6) Dxx Dyy Dzz Dxy Dxz Dyz, µm²/ms.
    """

    metrics: torch.Tensor
    tensor: torch.Tensor


def checked_reference_b(b: float) -> float:
    """The b-value, s/mm²; an error where the networks do not know the signal there."""
    if not LOWEST_B <= b <= HIGHEST_B:
        raise FornixError(
            f"the reference b must lie between {LOWEST_B:g} and {HIGHEST_B:g} s/mm², not {b:g}"
        )
    return float(b)


def tensor_change(qspace: Encoder, z: torch.Tensor, b: float) -> TensorChange:
    """How the tensor at b differs from that at `TRAINED_B`.

    Args:
        qspace: Encoder of any protocol; only its prior is used.
        z: (n, F) q-space features of the signal without noise.
        b: s/mm².
    """
    (there, six_there), (here, six_here) = (_fitted(qspace, z, at) for at in (b, TRAINED_B))
    return TensorChange(there - here, six_there - six_here)


def _fitted(qspace: Encoder, z: torch.Tensor, b: float) -> tuple[torch.Tensor, torch.Tensor]:
    """FA, MD, AD, RD (n, 4) and tensor (n, 6) of the signal at b = 0 and at b."""
    signal = qspace.signal(z, _gradients(b)).clamp(min=_FLOOR)
    apparent = torch.log(signal[:, :1] / signal[:, 1:]) * (1000.0 / b)
    six = apparent @ torch.as_tensor(_inverse()).to(z).T
    values, _ = eigen(six.contiguous())
    values = values.clamp(min=0)
    mean = values.mean(1)
    apart = (values - mean[:, None]).square().sum(1)
    fa = (1.5 * apart / values.square().sum(1).clamp(min=1e-12)).sqrt().clamp(max=1.0)
    return torch.stack([fa, mean, values[:, 2], values[:, :2].mean(1)], 1), six


@lru_cache(maxsize=8)
def _gradients(b: float) -> Gradients:
    axes = np.vstack([np.zeros((1, 3)), fibonacci(_AXES)])
    return Gradients(np.r_[0.0, np.full(_AXES, b)], axes)


@lru_cache(maxsize=1)
def _inverse() -> np.ndarray:
    """(6, axes): the tensor of apparent diffusivities."""
    return np.linalg.pinv(quadratic_form(fibonacci(_AXES)))
