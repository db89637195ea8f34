"""Adaptation of a network to one scan, by the scan alone: no labels, no other data.

What a network takes the scan's tissue and noise to be (`population.Population`'s few numbers, from
which every estimate starts) is moved until volumes it was not shown become likelier: the Rician
likelihood of the measured magnitudes under the signal it predicts. Volumes of their own say when to
stop, and others whether it helped at all; if not, nothing is changed. So few numbers cannot follow the
noise, and since the network learned them together with the tissue, every metric moves with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.gradients import Gradients
from fornix.learn.equivariant import Equivariant
from fornix.learn.features import Features
from fornix.learn.losses import rician
from fornix.microstructure.design import why_not_dti
from fornix.qspace import Encoder

#: Parts into which the volumes are divided: one says when to stop, one whether to keep the result.
FOLDS = 4
_RATE, _STEPS, _PATIENCE = 0.03, 60, 8


@dataclass(frozen=True, eq=False)
class Fold:
    """n voxels of the scan without some of its volumes, and these.

    features: of what is shown. encoder: of the shown volumes. hidden: gradients of the others;
    measured: (n, M) their magnitudes over S0; sigma: (n,) noise over S0.
    """

    features: Features
    encoder: Encoder
    hidden: Gradients
    measured: torch.Tensor
    sigma: torch.Tensor


@dataclass(frozen=True, eq=False)
class Adapted:
    """shift: (P,) to be added to what the network reads of the scan; zero where it was not kept.

    before, after: mean negative log likelihood of volumes that neither the fit nor the stopping saw.
    kept: whether it fell by more than twice its standard error. steps: taken until the best.
    """

    shift: torch.Tensor
    before: float
    after: float
    kept: bool
    steps: int

    @property
    def note(self) -> str:
        """One line for the report."""
        verdict = "kept" if self.kept else "not kept, the unseen volumes were not predicted better"
        return (
            f"adapted to this scan in {self.steps} steps: -log likelihood of unseen volumes "
            f"{self.before:.4f} before, {self.after:.4f} after; {verdict}"
        )


def parts(gradients: Gradients, seed: int = 0) -> list[NDArray[np.int64]]:
    """`FOLDS` lots of weighted volumes, each of which can be spared: the rest still gives a tensor.

    Empty where the protocol is too small for that.
    """
    weighted = np.flatnonzero(~gradients.b0_mask)
    order = np.random.default_rng([seed, 601]).permutation(weighted)
    # By b-value, then dealt out in turn, so that every lot has its share of every shell.
    dealt = order[np.argsort(np.round(gradients.bvals[order] / 100), kind="stable")]
    lots = [np.sort(dealt[k::FOLDS]) for k in range(FOLDS)]
    for lot in lots:
        shown = np.setdiff1d(np.arange(len(gradients)), lot)
        if not len(lot) or why_not_dti(gradients.subset(shown)):
            return []
    return lots


@torch.enable_grad()
def adapt(network: Equivariant, folds: Sequence[Fold]) -> Adapted:
    """Fit the shift on all folds but two; stop by the last but one, judge by the last."""
    *fitted, watched, judge = folds
    with torch.no_grad():
        codes = [network.population(fold.features.invariants) for fold in folds]
    shift = torch.zeros_like(codes[0], requires_grad=True)
    best, lowest, best_step = torch.zeros_like(codes[0]), np.inf, 0
    optimiser = torch.optim.Adam([shift], lr=_RATE)
    for step in range(_STEPS + 1):
        with torch.no_grad():
            now = float(_surprise(network, watched, codes[-2] + shift).mean())
        if now < lowest:
            best, lowest, best_step = shift.detach().clone(), now, step
        if step - best_step >= _PATIENCE:
            break
        optimiser.zero_grad()
        for fold, code in zip(fitted, codes, strict=False):
            (_surprise(network, fold, code + shift).mean() / len(fitted)).backward()
        optimiser.step()
    with torch.no_grad():
        before = _surprise(network, judge, codes[-1])
        after = _surprise(network, judge, codes[-1] + best)
    gain = before - after
    kept = bool(gain.mean() > 2 * gain.std() / len(gain) ** 0.5)
    return Adapted(
        best if kept else torch.zeros_like(best), float(before.mean()), float(after.mean()), kept,
        best_step,
    )  # fmt: skip


def _surprise(network: Equivariant, fold: Fold, code: torch.Tensor) -> torch.Tensor:
    """Mean negative log likelihood (n,) of the hidden volumes."""
    answer = network(fold.features, code)
    predicted = fold.encoder.signal(answer.z, fold.hidden).clamp(min=1e-4)
    return rician(predicted, fold.measured, fold.sigma).mean(1)
