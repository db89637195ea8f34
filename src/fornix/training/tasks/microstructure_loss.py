"""What a network is trained for: metrics, tensor, direction and signal, added up."""

from __future__ import annotations

import torch

from fornix.nets import losses
from fornix.nets.features import Features
from fornix.nets.microstructure_net import MicrostructurePrediction
from fornix.training.data.voxels import Batch

#: Squared errors that no longer count: of a direction's dyad, and of a signal over S0.
_FINE_DYAD, _FINE_SIGNAL = 3e-3, 3e-5


def answer_loss(
    answer: MicrostructurePrediction,
    batch: Batch,
    features: Features,
    chosen: torch.Tensor | None = None,
    loss: str = "gaussian",
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of an answer, and its parts for the log.

    Args:
        answer: What the network predicts.
        batch: Voxels with their truth.
        features: What the network read.
        chosen: The voxels of the batch that were answered; None is all.
        loss: Of the metrics, a name of `losses.PARAMETER_LOSSES`; voxels count by
            `batch.sample_weight`.
    """
    every = slice(None) if chosen is None else chosen
    metrics, sample_weight = batch.voxels.metrics[every], batch.sample_weight[every]
    parameter = losses.PARAMETER_LOSSES[loss]

    parts = {
        "metrics": (sample_weight * _tamed(parameter(answer.mean, answer.std, metrics))).mean()
    }
    fa = metrics[:, 0]
    # An error counts by what a tensor fit of the voxel would make: so do many measurements.
    doubt = (features.anchor_std[:, 0, 0] / (fa + 0.05)).clamp(max=1.0).square()
    weight = 0.2 * fa / (fa + 0.1) / (doubt + _FINE_DYAD)
    error = losses.dyad_error(answer.dyad, batch.voxels.v1[every], weight)
    parts["direction"] = _tamed(error).mean()
    parts["tensor"] = _tamed(
        losses.tensor_likelihood(answer.tensor, answer.tensor_std, batch.voxels.tensor[every])
    ).mean()
    parts["signal"] = signal_error(answer, batch, chosen).mean()
    total = parts["metrics"] + parts["direction"] + 0.5 * parts["tensor"] + 0.5 * parts["signal"]
    return total, {k: float(v.detach()) for k, v in parts.items()}


def signal_error(
    answer: MicrostructurePrediction, batch: Batch, chosen: torch.Tensor | None
) -> torch.Tensor:
    """Squared error of the signal at gradients not measured, over what the encoder alone expects
    of its own: (n, M); 1 is no better than the encoder.
    """
    encoder = batch.encoder.qspace
    seen = batch.seen if chosen is None else batch.seen.take(chosen)
    clean = batch.held_out_clean if chosen is None else batch.held_out_clean[chosen]
    with torch.no_grad():
        alone = encoder.shrink(seen.projected, seen.sigma)
        _, std = encoder.predict(alone, batch.held_out_gradients)
        assert std is not None
    made = encoder.signal(answer.z, batch.held_out_gradients)
    return ((made - clean).square() / (std.square() + _FINE_SIGNAL)).clamp(max=25.0)


def _tamed(values: torch.Tensor, top: float = 8.0) -> torch.Tensor:
    """Values above `top` grow like a logarithm: a few impossible voxels must not steer."""
    over = (values - top).clamp(min=0)
    return torch.minimum(values, torch.full_like(values, top)) + torch.log1p(over)
