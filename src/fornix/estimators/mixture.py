"""How much of each estimator a scan's own volumes ask for: network, Gaussian process, tensor fit.

Part of the volumes is hidden, each estimator predicts them from the others, and the weights are those,
none negative, whose mixture predicts what was measured there best: a network that leans on this scan loses
weight to the fit, and the mixture is hardly ever worse than its best part (stacking: Wolpert, Neural
Networks 1992; Breiman, Machine Learning 1996). Weights are found per kind of tissue, each kind drawn to
those of the whole scan as far as its voxels are few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from fornix.core.design import quadratic_form
from fornix.core.gradients import Gradients
from fornix.nets.adaptation import hidden_volumes
from fornix.nets.encoding import EncodedVoxels
from fornix.nets.features import microstructure_features
from fornix.nets.microstructure_net import MicrostructureNet
from fornix.nets.scan_view import ScanView
from fornix.nets.targets import METRICS
from fornix.qspace.encoder import Encoder

#: What is mixed, in order.
PARTS = ("network", "process", "tensor")
#: Kinds of tissue, in order: by mean diffusivity (µm²/ms) and fractional anisotropy that the network gives.
KINDS = ("fluid", "low anisotropy", "medium anisotropy", "high anisotropy")
_FLUID, _ANISOTROPY = 1.5, (0.2, 0.4)
#: Weights by kind where too few volumes were measured to hide some: the errors of the parts differ, and
#: average out. Chosen on the real scans at hand, from 6 directions (`fornix bench unseen`).
PRIOR = ((0.6, 0.2, 0.2), (0.6, 0.2, 0.2), (0.55, 0.2, 0.25), (0.5, 0.1, 0.4))
#: Voxels whose volumes are hidden; measurements as many as which the whole scan's weights count for a kind.
_BAND, _DRAWN = 8000, 2000
_FA, _MD = METRICS.index("dti_fa"), METRICS.index("dti_md")


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weights of the parts.

    Attributes:
        weights: (kinds, parts) of `KINDS` and `PARTS`, rows sum to 1.
        share: (kinds,) share of the voxels that were looked at; 0 where none were.
        errors: (parts + 1,) root mean square error of the parts and of the mixture on hidden volumes,
            over S0; empty where none could be hidden.
    """

    weights: NDArray[np.float64]
    share: NDArray[np.float64]
    errors: NDArray[np.float64]

    @property
    def note(self) -> str:
        """One line for the report."""
        if not len(self.errors):
            return "too few volumes to hide a part of them: mixed as is usual"
        parts = [
            f"{_words(row)} in {kind}"
            for kind, row, share in zip(KINDS, self.weights, self.share, strict=True)
            if share > 0.01
        ]
        errors = ", ".join(
            f"{name} {error:.4f}"
            for name, error in zip((*PARTS, "mixture"), self.errors, strict=True)
        )
        return f"mixed as hidden volumes ask for: {'; '.join(parts)}; their error over S0: {errors}"

    @property
    def details(self) -> dict[str, object]:
        """For the sidecar."""
        weights = {
            kind: {name: round(float(v), 3) for name, v in zip(PARTS, row, strict=True)}
            for kind, row in zip(KINDS, self.weights, strict=True)
        }
        names = (*PARTS, "mixture")
        errors = {k: round(float(v), 5) for k, v in zip(names, self.errors, strict=False)}
        return {"MixtureWeights": weights, "ErrorOfHiddenVolumes": errors}

    def mixed(self, parts: tuple[torch.Tensor, ...], metrics: NDArray[np.float32]) -> torch.Tensor:
        """Signals (n, M) from those of each part; metrics: (n, M) of `targets.METRICS`."""
        weights = torch.as_tensor(self.weights[kinds_of(metrics)]).to(parts[0])
        return sum((weights[:, k, None] * part for k, part in enumerate(parts)), 0 * parts[0])


def kinds_of(metrics: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n,) index in `KINDS` of voxels with these metrics (n, M)."""
    fa, md = metrics[:, _FA], metrics[:, _MD]
    return np.where(md > _FLUID, 0, 1 + np.searchsorted(_ANISOTROPY, fa))


def signals_of(
    qspace: Encoder, own: EncodedVoxels, z: torch.Tensor, there: Gradients
) -> tuple[torch.Tensor, ...]:
    """Signals (n, M) over S0 at some gradients by each of `PARTS`; z: the network's (n, F)."""
    process = qspace.signal(qspace.shrink(own.projected, own.sigma).z, there)
    b = torch.as_tensor(there.b).to(own.tensor)
    exponent = own.tensor @ torch.as_tensor(quadratic_form(there.directions)).to(own.tensor).T
    tensor = own.tensor_s0[:, None] * torch.exp(-b * exponent)
    return qspace.signal(z, there), process, tensor


@torch.no_grad()
def mixture_of(
    view: ScanView, network: MicrostructureNet, code: torch.Tensor, seed: int = 0
) -> Mixture:
    """Find the weights from a part of the scan.

    Args:
        view: The scan as the network sees it.
        network: Whose signal is one of the parts.
        code: Of the whole scan.
        seed: Which volumes are hidden together.
    """
    lots = hidden_volumes(view.dwi.gradients, seed)
    if not lots:
        return _usual()
    middle = len(view) // 2
    band = slice(max(0, middle - _BAND // 2), middle + _BAND // 2)
    made: list[NDArray[np.float64]] = []
    measured, kinds = [], []
    for hidden in lots:
        part = view.without(hidden, band)
        rows = slice(0, len(part))
        own, near = part.context(rows)
        features = microstructure_features(part.encoder, own, near)
        prediction = network(features, code)
        there = view.dwi.gradients.subset(hidden)
        parts = signals_of(part.encoder.qspace, own, prediction.z, there)
        values = view.signals(np.arange(len(view))[band][part.usable])[:, hidden]
        made.append(np.stack([p.cpu().double().numpy().ravel() for p in parts], 1))
        measured.append((values / own.scale.cpu().numpy()[:, None]).ravel())
        kinds.append(np.repeat(kinds_of(prediction.mean.cpu().numpy()), len(there)))
    return fitted(np.concatenate(made), np.concatenate(measured), np.concatenate(kinds))


def fitted(
    parts: NDArray[np.float64], measured: NDArray[np.float64], kinds: NDArray[np.int64]
) -> Mixture:
    """Weights from what each part predicted (m, parts) of measurements (m,) in voxels of kinds (m,)."""
    fine = np.isfinite(parts).all(1) & np.isfinite(measured)
    parts, measured, kinds = np.clip(parts[fine], 0, 2), np.clip(measured[fine], 0, 2), kinds[fine]
    if not len(measured):
        return _usual()
    whole = _simplex(parts, measured, np.array(PRIOR[1]), 0.0)
    weights, mixed = np.empty((len(KINDS), len(PARTS))), np.empty(len(measured))
    for kind in range(len(KINDS)):
        here = kinds == kind
        weights[kind] = _simplex(parts[here], measured[here], whole, _DRAWN)
        mixed[here] = parts[here] @ weights[kind]
    share = np.bincount(kinds, minlength=len(KINDS)) / len(kinds)
    every = np.column_stack([parts, mixed]) - measured[:, None]
    return Mixture(weights, share, np.sqrt((every**2).mean(0)))


def _usual() -> Mixture:
    return Mixture(np.array(PRIOR), np.zeros(len(KINDS)), np.zeros(0))


def _simplex(
    parts: NDArray[np.float64], measured: NDArray[np.float64], towards: NDArray, count: float
) -> NDArray[np.float64]:
    """Least squares with weights from 0 that sum to 1, drawn `towards` others by `count` measurements."""
    if not len(measured):
        return np.asarray(towards, dtype=np.float64)
    spread = parts - parts.mean(1, keepdims=True)
    scale = np.sqrt((spread**2).mean() + 1e-12)
    normal, right = parts.T @ parts, parts.T @ measured
    normal = normal + count * scale**2 * np.eye(len(towards))
    right = right + count * scale**2 * towards
    # The sum is held by a measurement that outweighs all others.
    heavy = 1e3 * np.trace(normal)
    factor = np.linalg.cholesky(normal + heavy + 1e-9 * np.trace(normal) * np.eye(len(towards)))
    weights = nnls(factor.T, np.linalg.solve(factor, right + heavy))[0]
    total = weights.sum()
    return weights / total if total > 0 else np.asarray(towards, dtype=np.float64)


def _words(row: NDArray[np.float64]) -> str:
    order = np.argsort(-row)
    return ", ".join(f"{100 * row[k]:.0f}% {PARTS[k]}" for k in order if row[k] >= 0.005)
