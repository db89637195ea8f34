"""The losses of `fornix experiment losses`, each as a way to train and to ask the same network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fornix.core.gradients import Gradients
from fornix.models.tensor import fit_tensor
from fornix.nets import losses
from fornix.nets.encoding import ProtocolEncoder
from fornix.nets.features import matrix, microstructure_features
from fornix.nets.microstructure_net import MicrostructureNet, MicrostructurePrediction
from fornix.nets.targets import METRICS, possible
from fornix.physics.protocol import shells
from fornix.training.data.voxels import Batch
from fornix.training.recipes import Recipe
from fornix_bench.experiments.streams import FixedVoxels, clean_signals
from fornix_bench.suites.microstructure.populations import Block, Scan

#: Weight of a shell's mean error beside the variance over the sphere.
MEAN_WEIGHT = 0.1
#: Share of the volumes that the held-out likelihood lets the network see.
SEEN = (0.55, 0.95)
#: The signal is read at these gradients, one b0 and 30 directions at b = 1000 s/mm².
READ_AT = shells(1, (1000, 30), seed=7)


@dataclass(frozen=True)
class Variant:
    """One way to train.

    loss: a name of `losses.PARAMETER_LOSSES` (on the metrics), `spherical variance` (of the predicted
    against the noise-free signal), `rician` (of the predicted against the measured signal) or
    `rician, held out` (the same, on volumes that the network did not see). labels: `true`,
    `noise-free` (a tensor fit of the noise-free signal at the protocol itself), `noise-free signal`,
    or `none`.
    """

    loss: str
    labels: str

    @property
    def name(self) -> str:
        return f"{self.loss} ({self.labels})" if self.labels == "noise-free" else self.loss

    @property
    def on_signal(self) -> bool:
        """Whether the signal is trained, and the metrics are fits of it."""
        return self.loss not in losses.PARAMETER_LOSSES


VARIANTS = (
    Variant("l2", "true"),
    Variant("l2", "noise-free"),
    Variant("gaussian", "true"),
    Variant("quantile", "true"),
    Variant("spherical variance", "noise-free signal"),
    Variant("rician", "none"),
    Variant("rician, held out", "none"),
)


class LossTask:
    """The same small equivariant network, by one of the variants."""

    def __init__(
        self, variant: Variant, recipe: Recipe, gradients: Gradients, piece: Block
    ) -> None:
        self.variant, self.recipe, self.gradients, self.piece = variant, recipe, gradients, piece

    def model(self) -> nn.Module:
        return MicrostructureNet(self.recipe.width, self.recipe.depth)

    def stream(self, seed: int, device: torch.device) -> FixedVoxels:
        return FixedVoxels(self.recipe, self.gradients, self.piece, seed, device)

    def prepare(self, stream: FixedVoxels) -> tuple[Batch, tuple[Any, Any]]:
        """The batch with what the network reads and what its answer is compared with."""
        batch = stream.batch(self.recipe.batch)
        encoder, seen = batch.encoder, batch.seen
        target: Any
        if self.variant.loss == "rician, held out":
            encoder, seen, target = _split(batch, stream.rng)
        elif self.variant.loss == "rician":
            target = (encoder.gradients, _measured(batch, seen.scale), seen.sigma)
        elif self.variant.on_signal:
            target = clean_signals(batch)
        else:
            target = _labels(batch, self.variant.labels)
        return batch, (microstructure_features(encoder, seen), target)

    def loss(
        self, model: nn.Module, made: tuple[Batch, tuple[Any, Any]]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        batch, (features, target) = made
        answer = model(features, features.invariants)
        if self.variant.on_signal:
            total = self._signal_loss(answer, batch, target)
        else:
            metrics, v1 = target
            error = losses.PARAMETER_LOSSES[self.variant.loss](answer.mean, answer.std, metrics)
            fa = metrics[:, 0]
            direction = losses.dyad_error(answer.dyad, v1, fa / (fa + 0.1))
            total = error.clamp(max=20.0).mean() + direction.mean()
        return total, {"loss": float(total.detach())}

    def _signal_loss(
        self, answer: MicrostructurePrediction, batch: Batch, target: Any
    ) -> torch.Tensor:
        encoder = batch.encoder.qspace
        if self.variant.loss.startswith("rician"):
            gradients, measured, sigma = target
            predicted = encoder.signal(answer.z, gradients)
            return losses.rician(predicted, measured, sigma).mean()
        predicted = encoder.signal(answer.z, batch.encoder.gradients)
        shell = torch.as_tensor(np.round(batch.encoder.gradients.bvals / 100))
        apart = (predicted - target) / 0.05
        loss = losses.spherical_variance(predicted / 0.05, target / 0.05, shell)
        for level in shell.unique():
            loss = loss + MEAN_WEIGHT * apart[:, shell == level].mean(1).square()
        return loss.mean()


@torch.inference_mode()
def ask(variant: Variant, model: nn.Module, scan: Scan) -> dict[str, NDArray[np.float64]]:
    """fa, md (n,) and v1 (n, 3) of a scan's voxels: outputs, or fits of the predicted signal."""
    encoder = ProtocolEncoder(scan.dwi.gradients, "cpu")
    seen = encoder.encode(scan.dwi.signals(), scan.sigma[scan.dwi.brain()])
    features = microstructure_features(encoder, seen)
    answer = model(features, features.invariants)
    if variant.on_signal:
        return fitted(encoder.qspace.signal(answer.z, READ_AT).numpy(), READ_AT)
    mean = possible(answer.mean).double().numpy()
    v1 = torch.linalg.eigh(matrix(answer.dyad))[1][:, :, -1].double().numpy()
    return {
        "fa": mean[:, METRICS.index("dti_fa")],
        "md": mean[:, METRICS.index("dti_md")],
        "v1": v1,
    }


def fitted(
    signals: NDArray, gradients: Gradients, method: str = "wls", sigma: NDArray | None = None
) -> dict[str, NDArray[np.float64]]:
    """fa, md (n,) and v1 (n, 3) of a tensor fit."""
    fit = fit_tensor(np.maximum(signals, 1e-4), gradients, method, sigma=sigma, std=False)
    return {k: np.asarray(fit[k], np.float64) for k in ("fa", "md", "v1")}


def _labels(batch: Batch, labels: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Metrics (n, M) and v1 (n, 3): true, or the tensor's of a fit to the noise-free signals."""
    metrics, v1 = batch.voxels.metrics, batch.voxels.v1
    if labels == "noise-free":
        clean = clean_signals(batch).numpy()
        fit = fit_tensor(clean, batch.encoder.gradients, "wls", std=False)
        metrics = metrics.clone()
        for column, param in enumerate(("fa", "md", "ad", "rd")):
            metrics[:, column] = torch.from_numpy(fit[param])
        v1 = torch.from_numpy(fit["v1"])
    return metrics.to(batch.encoder.device), v1.to(batch.encoder.device)


def _measured(batch: Batch, scale: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(batch.signals).to(scale) / scale[:, None]


def _split(batch: Batch, rng: np.random.Generator) -> tuple[ProtocolEncoder, Any, Any]:
    """Some volumes to see, the others to predict: encoder, observed voxels, and (gradients,
    measured, sigma) of the others. The b0s are always seen, since they give the scale."""
    gradients = batch.encoder.gradients
    weighted = rng.permutation(np.flatnonzero(~gradients.b0_mask))
    count = round(rng.uniform(*SEEN) * len(weighted))
    while True:
        count = min(max(count, 6), len(weighted) - 1)
        shown = np.sort(np.r_[np.flatnonzero(gradients.b0_mask), weighted[:count]])
        if not gradients.subset(shown).facts.why_not_dti or count == len(weighted) - 1:
            break
        count += 1
    rest = np.sort(weighted[count:])
    encoder = ProtocolEncoder(gradients.subset(shown), batch.encoder.device)
    seen = encoder.encode(batch.signals[:, torch.as_tensor(shown)], batch.sigma)
    measured = _measured(batch, seen.scale)[:, torch.as_tensor(rest)]
    return encoder, seen, (gradients.subset(rest), measured, seen.sigma)
