"""Adaptation of a network to one scan, by the scan alone: no labels, no other data.

What a network takes the scan's tissue and noise to be (the `ScanEncoder`'s few numbers, from which
every estimate starts) is moved until volumes it was not shown become likelier: the likelihood of the
measured magnitudes under the signal that its prediction implies. Volumes of their own say when to stop,
and others whether it helped at all; if not, nothing is changed. So few numbers cannot follow the noise,
and since the network learned them together with the tissue, every output moves with them.

One loop serves all networks; `likelihoods` says how each one's prediction becomes a signal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fornix.core.gradients import Gradients
from fornix.nets.features import Features
from fornix.nets.scan_encoder import ScanEncoder
from fornix.nets.scan_view import ScanView
from fornix.qspace.encoder import Encoder

#: Parts into which the volumes are divided: one says when to stop, one whether to keep the result.
FOLDS = 4
#: Voxels that are averaged with their neighbours for an adaptation, and voxels it is fitted to.
BAND, SAMPLE = 30_000, 2048
_RATE, _STEPS, _PATIENCE = 0.03, 60, 8
_SEED = 602
#: Steps that fit a likelihood's own parameters alone, before the scan's numbers move.
_NUISANCE_STEPS = 60


@dataclass(frozen=True, eq=False)
class Fold:
    """n voxels of the scan without some of its volumes, and these.

    Attributes:
        features: Of the volumes that are shown.
        qspace: The q-space encoder of the shown volumes.
        hidden: Gradients of the hidden volumes.
        measured: (n, M) their magnitudes over S0.
        sigma: (n,) noise over S0.
    """

    features: Features
    qspace: Encoder
    hidden: Gradients
    measured: torch.Tensor
    sigma: torch.Tensor


class ScanNetwork(Protocol):
    """A network that starts from a code of the whole scan."""

    scan_encoder: ScanEncoder

    @property
    def reads(self) -> Callable[..., Features]:
        """What it reads of voxels, a function of `nets.features`."""
        ...

    def __call__(self, features: Features, code: torch.Tensor) -> Any:
        """What it predicts of voxels, given the code."""


#: Negative log likelihood (n,) of a fold's hidden volumes, from what the network predicts.
NegativeLogLikelihood = Callable[[Any, Fold], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Adapted:
    """The outcome.

    Attributes:
        shift: (P,) to be added to the scan's code; zero where it was not kept.
        before: Mean negative log likelihood of volumes that neither the fit nor the stopping saw.
        after: The same with the shift.
        kept: Whether it fell by more than twice its standard error.
        steps: Taken until the best.
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


def adapt_to_scan(
    view: ScanView,
    network: ScanNetwork,
    likelihood: NegativeLogLikelihood,
    nuisance: nn.Module | None = None,
    seed: int = 0,
) -> tuple[torch.Tensor, str]:
    """Fit a network to a scan.

    Args:
        view: The scan as the network sees it.
        network: With a `scan_encoder`, called as `network(features, code)`.
        likelihood: Of hidden volumes, see `likelihoods`.
        nuisance: Parameters of the likelihood that are the same in the whole scan, fitted along.
        seed: Which voxels and volumes are looked at.

    Returns:
        The shift (P,) of the scan's code, 0 where it does not help, and a line on it.
    """
    lots = hidden_volumes(view.dwi.gradients)
    if not lots:
        nothing = torch.zeros(network.scan_encoder.places, device=view.encoder.device)
        return nothing, (
            f"not adapted: {len(view.dwi.gradients)} volumes are too few to hide a part of them"
        )
    # A band of whole slices about the middle, so that its voxels have their neighbours.
    middle = len(view) // 2
    band = slice(max(0, middle - BAND // 2), middle + BAND // 2)
    count = len(view.voxels[band])
    chosen = np.sort(np.random.default_rng(_SEED + seed).permutation(count)[:SAMPLE])
    folds = [_fold(view, lot, band, chosen, network.reads) for lot in lots]
    found = adapt(network, folds, likelihood, nuisance)
    return found.shift, found.note


def hidden_volumes(gradients: Gradients, seed: int = 0) -> list[NDArray[np.int64]]:
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
        if not len(lot) or gradients.subset(shown).facts.why_not_dti:
            return []
    return lots


@torch.enable_grad()
def adapt(
    network: ScanNetwork,
    folds: Sequence[Fold],
    likelihood: NegativeLogLikelihood,
    nuisance: nn.Module | None = None,
) -> Adapted:
    """Fit the shift on all folds but two; stop by the last but one, judge by the last."""
    *fitted, watched, judge = folds
    with torch.no_grad():
        codes = [network.scan_encoder(fold.features.invariants) for fold in folds]

    def unlikely(fold: Fold, code: torch.Tensor) -> torch.Tensor:
        return likelihood(network(fold.features, code), fold)

    if nuisance is not None:
        _fit_nuisance(network, fitted, codes, likelihood, nuisance)
    with torch.no_grad():
        before = unlikely(judge, codes[-1])
    shift = torch.zeros_like(codes[0], requires_grad=True)
    groups: list[dict[str, Any]] = [{"params": [shift], "lr": _RATE}]
    if nuisance is not None:
        groups.append({"params": list(nuisance.parameters()), "lr": _RATE / 3})
    optimiser = torch.optim.Adam(groups)
    lowest, best, best_step = np.inf, _kept(shift, nuisance), 0
    for step in range(_STEPS + 1):
        with torch.no_grad():
            now = float(unlikely(watched, codes[-2] + shift).mean())
        if now < lowest:
            lowest, best, best_step = now, _kept(shift, nuisance), step
        if step - best_step >= _PATIENCE:
            break
        optimiser.zero_grad()
        for fold, code in zip(fitted, codes, strict=False):
            (unlikely(fold, code + shift).mean() / len(fitted)).backward()
        optimiser.step()
    found, state = best
    with torch.no_grad():
        if nuisance is not None:
            nuisance.load_state_dict(state)
        after = unlikely(judge, codes[-1] + found)
    gain = before - after
    kept = bool(gain.mean() > 2 * gain.std() / len(gain) ** 0.5)
    shift = found if kept else torch.zeros_like(found)
    return Adapted(shift, float(before.mean()), float(after.mean()), kept, best_step)


def _fit_nuisance(
    network: ScanNetwork,
    folds: Sequence[Fold],
    codes: Sequence[torch.Tensor],
    likelihood: NegativeLogLikelihood,
    nuisance: nn.Module,
) -> None:
    """The likelihood's own parameters, with the network left as it is."""
    with torch.no_grad():
        plain = [network(fold.features, code) for fold, code in zip(folds, codes, strict=False)]
    optimiser = torch.optim.Adam(nuisance.parameters(), lr=_RATE)
    for _ in range(_NUISANCE_STEPS):
        optimiser.zero_grad()
        for fold, prediction in zip(folds, plain, strict=True):
            likelihood(prediction, fold).mean().backward()
        optimiser.step()


def _kept(
    shift: torch.Tensor, nuisance: nn.Module | None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    state = {} if nuisance is None else nuisance.state_dict()
    return shift.detach().clone(), {k: v.detach().clone() for k, v in state.items()}


@torch.no_grad()
def _fold(
    view: ScanView,
    hidden: NDArray[np.int64],
    band: slice,
    chosen: NDArray[np.int64],
    reads: Callable[..., Features],
) -> Fold:
    part = view.without(hidden, band)
    seen = part.encoded.take(torch.as_tensor(chosen))
    measured = view.signals(np.arange(len(view))[band][chosen])[:, hidden]
    device = view.encoder.device
    return Fold(
        part.features(chosen, reads),
        part.encoder.qspace,
        view.dwi.gradients.subset(hidden),
        torch.as_tensor(measured, device=device) / seen.scale[:, None],
        seen.sigma,
    )
