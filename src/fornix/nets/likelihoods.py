"""How likely hidden volumes are under a network's prediction: what adaptation to a scan maximises."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fornix.core.gradients import Gradients
from fornix.nets.adaptation import Fold
from fornix.nets.fod_net import FodPrediction
from fornix.nets.losses import rician
from fornix.nets.microstructure_net import MicrostructurePrediction
from fornix.numerics import harmonics
from fornix.physics.fod_truth import LMAX
from fornix.physics.kernels import zonal
from fornix.physics.tissue import D_FREE


def signal_likelihood(prediction: MicrostructurePrediction, fold: Fold) -> torch.Tensor:
    """Mean negative log likelihood (n,) of hidden volumes under the network's own signal."""
    predicted = fold.qspace.signal(prediction.z, fold.hidden).clamp(min=1e-4)
    return rician(predicted, fold.measured, fold.sigma).mean(1)


class FodSignalModel(nn.Module):
    """Signals from fibre orientations and tissue fractions, through the forward model.

    An FOD and its tissue fractions predict the signal at any gradient once it is known what one fibre,
    grey matter and water look like: sticks in Gaussian water. Neurite density, parallel and perpendicular
    diffusivity (µm²/ms) of white and of grey matter are the parameters, the same in the whole scan.
    """

    def __init__(self) -> None:
        super().__init__()
        begin = torch.tensor([[0.6, 1.9, 0.6], [0.4, 1.3, 0.9]])
        self.logs = nn.Parameter(begin.log())

    def forward(self, prediction: FodPrediction, gradients: Gradients) -> torch.Tensor:
        """(n, M) over S0."""
        b = torch.as_tensor(gradients.b, dtype=torch.float32, device=prediction.fod.device)
        basis = torch.as_tensor(harmonics.evaluate(LMAX, gradients.directions)).to(prediction.fod)
        white = prediction.tissue[:, :1] / (1 - prediction.tissue[:, 2:]).clamp(min=1e-3)
        total = prediction.tissue[:, 2:] * torch.exp(-b * D_FREE)
        for share, numbers in zip((white, 1 - white), self.logs.exp(), strict=True):
            total = total + share * _convolved(prediction.fod, basis, self._kernel(b, numbers))
        return total.clamp(min=1e-4)

    def likelihood(self, prediction: FodPrediction, fold: Fold) -> torch.Tensor:
        """Mean negative log likelihood (n,) of hidden volumes."""
        return rician(self(prediction, fold.hidden), fold.measured, fold.sigma).mean(1)

    @staticmethod
    def _kernel(b: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """(M, orders) of one population: a share of sticks, the rest a zeppelin."""
        ndi, along, across = numbers[0].clamp(max=0.98), numbers[1], numbers[2]
        outside = torch.exp(-b * across)[:, None] * zonal(b * (along - across), LMAX)
        return ndi * zonal(b * along, LMAX) + (1 - ndi) * outside


def _convolved(fod: torch.Tensor, basis: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """(n, M): each order of the FOD times that of the kernel, which is summed with (2l + 1) P_l."""
    parts = [
        fod[:, p] @ (basis[:, p] * kernel[:, i, None]).T
        for i, p in enumerate(harmonics.order_slices(LMAX))
    ]
    return 4 * np.pi * torch.stack(parts).sum(0)
