"""Adaptation of an orientation network to one scan, by the scan alone, through the forward model.

The FOD and the tissue shares that a network gives predict the signal at any gradient once it is known
what one fibre, grey matter and water look like: sticks in Gaussian water, whose density and
diffusivities are six numbers of the whole scan. These six are fitted to volumes that the network was
not shown; then what it takes the scan to be (`population.Population`'s few numbers) is moved with them
until the hidden volumes become likelier. Volumes of their own say when to stop and others whether it
helped, as in `learn.adapt`: if not, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fornix.core import harmonics
from fornix.core.gradients import Gradients
from fornix.learn.adapt import Adapted
from fornix.learn.features import Features
from fornix.learn.fod_network import PARTS, FodAnswer, FodNetwork
from fornix.learn.fod_truth import LMAX
from fornix.learn.losses import rician
from fornix.physics.kernels import zonal
from fornix.physics.tissue import D_FREE

_RATE, _STEPS, _PATIENCE = 0.03, 60, 8
#: Steps that fit the tissue's six numbers alone.
_TISSUE_STEPS = 60


@dataclass(frozen=True, eq=False)
class FodFold:
    """n voxels of the scan without some of its volumes, and these.

    features: of what is shown. hidden: gradients of the others; measured: (n, M) their magnitudes over
    S0; sigma: (n,) noise over S0.
    """

    features: Features
    hidden: Gradients
    measured: torch.Tensor
    sigma: torch.Tensor


class Forward(nn.Module):
    """Signals of an answer. Neurite density, parallel and perpendicular diffusivity (µm²/ms) of white
    and of grey matter, the same in the whole scan."""

    def __init__(self) -> None:
        super().__init__()
        begin = torch.tensor([[0.6, 1.9, 0.6], [0.4, 1.3, 0.9]])
        self.logs = nn.Parameter(begin.log())

    def forward(self, answer: FodAnswer, gradients: Gradients) -> torch.Tensor:
        """(n, M) over S0."""
        b = torch.as_tensor(gradients.b, dtype=torch.float32, device=answer.fod.device)
        basis = torch.as_tensor(harmonics.evaluate(LMAX, gradients.directions)).to(answer.fod)
        white = answer.tissue[:, :1] / (1 - answer.tissue[:, 2:]).clamp(min=1e-3)
        made = answer.tissue[:, 2:] * torch.exp(-b * D_FREE)
        for share, numbers in zip((white, 1 - white), self.logs.exp()):
            made = made + share * _convolved(answer.fod, basis, self._kernel(b, numbers))
        return made.clamp(min=1e-4)

    @staticmethod
    def _kernel(b: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """(M, orders) of one population: a share of sticks, the rest a zeppelin."""
        ndi, along, across = numbers[0].clamp(max=0.98), numbers[1], numbers[2]
        outside = torch.exp(-b * across)[:, None] * zonal(b * (along - across), LMAX)
        return ndi * zonal(b * along, LMAX) + (1 - ndi) * outside


def _convolved(fod: torch.Tensor, basis: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """(n, M): each order of the FOD times that of the kernel, which is summed with (2l + 1) P_l."""
    parts = [fod[:, p] @ (basis[:, p] * kernel[:, i, None]).T for i, p in enumerate(PARTS)]
    return 4 * np.pi * torch.stack(parts).sum(0)


@torch.enable_grad()
def adapt_fod(network: FodNetwork, folds: Sequence[FodFold]) -> Adapted:
    """Fit tissue and shift on all folds but two; stop by the last but one, judge by the last."""
    *fitted, watched, judge = folds
    with torch.no_grad():
        codes = [network.population(fold.features.invariants) for fold in folds]
    forward = Forward().to(codes[0].device)
    tissue = torch.optim.Adam(forward.parameters(), lr=_RATE)
    with torch.no_grad():
        plain = [network(fold.features, code) for fold, code in zip(fitted, codes)]
    for _ in range(_TISSUE_STEPS):
        tissue.zero_grad()
        for fold, answer in zip(fitted, plain):
            _unlikely(forward, answer, fold).mean().backward()
        tissue.step()
    with torch.no_grad():
        before = _surprise(network, forward, judge, codes[-1])
    shift = torch.zeros_like(codes[0], requires_grad=True)
    optimiser = torch.optim.Adam([shift], lr=_RATE)
    tissue = torch.optim.Adam(forward.parameters(), lr=_RATE / 3)
    lowest, best, best_step = np.inf, (shift.detach().clone(), forward.logs.detach().clone()), 0
    for step in range(_STEPS + 1):
        with torch.no_grad():
            now = float(_surprise(network, forward, watched, codes[-2] + shift).mean())
        if now < lowest:
            lowest, best_step = now, step
            best = (shift.detach().clone(), forward.logs.detach().clone())
        if step - best_step >= _PATIENCE:
            break
        for each in (optimiser, tissue):
            each.zero_grad()
        for fold, code in zip(fitted, codes):
            (_surprise(network, forward, fold, code + shift).mean() / len(fitted)).backward()
        for each in (optimiser, tissue):
            each.step()
    with torch.no_grad():
        forward.logs.copy_(best[1])
        after = _surprise(network, forward, judge, codes[-1] + best[0])
    gain = before - after
    kept = bool(gain.mean() > 2 * gain.std() / len(gain) ** 0.5)
    return Adapted(
        best[0] if kept else torch.zeros_like(best[0]), float(before.mean()), float(after.mean()),
        kept, best_step,
    )  # fmt: skip


def _surprise(
    network: FodNetwork, forward: Forward, fold: FodFold, code: torch.Tensor
) -> torch.Tensor:
    return _unlikely(forward, network(fold.features, code), fold)


def _unlikely(forward: Forward, answer: FodAnswer, fold: FodFold) -> torch.Tensor:
    """Mean negative log likelihood (n,) of the hidden volumes."""
    return rician(forward(answer, fold.hidden), fold.measured, fold.sigma).mean(1)
