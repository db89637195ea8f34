"""What a network is trained for: metrics, tensor, direction and signal, added up."""

from __future__ import annotations

import torch

from fornix.core.compute import pick_device
from fornix.nets import losses
from fornix.nets.microstructure_net import MicrostructurePrediction
from fornix.training.data.voxels import Batch


def answer_loss(
    answer: MicrostructurePrediction,
    batch: Batch,
    chosen: torch.Tensor | None = None,
    loss: str = "gaussian",
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of an answer, and its parts for the log.

    Args:
        answer: What the network predicts.
        batch: Voxels with their truth.
        chosen: The voxels of the batch that were answered; None is all.
        loss: Of the metrics, a name of `losses.PARAMETER_LOSSES`; voxels count by
            `batch.sample_weight`.
    """
    device = pick_device(answer.mean.device)
    every = torch.arange(len(batch.voxels)) if chosen is None else chosen.cpu()
    metrics = batch.voxels.metrics[every].to(device)
    parameter = losses.PARAMETER_LOSSES[loss]
    sample_weight = batch.sample_weight[every].to(device)
    parts = {
        "metrics": (sample_weight * _tamed(parameter(answer.mean, answer.std, metrics))).mean()
    }

    fa = metrics[:, 0]
    weight = fa / (fa + 0.1)
    v1 = batch.voxels.v1[every].to(device)
    parts["direction"] = losses.dyad_error(answer.dyad, v1, weight).mean()
    tensor = batch.voxels.tensor[every].to(device)
    parts["tensor"] = _tamed(
        losses.tensor_likelihood(answer.tensor, answer.tensor_std, tensor)
    ).mean()
    clean = batch.held_out_clean if chosen is None else batch.held_out_clean[chosen]
    parts["signal"] = signal_error(answer, batch, clean, chosen).mean()
    total = parts["metrics"] + parts["direction"] + 0.5 * parts["tensor"] + parts["signal"]
    return total, {k: float(v.detach()) for k, v in parts.items()}


def signal_error(
    answer: MicrostructurePrediction, batch: Batch, clean: torch.Tensor, chosen: torch.Tensor | None
) -> torch.Tensor:
    """Squared error of the signal at gradients not measured, over what the encoder alone expects
    of its own: (n, M); 1 is no better than the encoder.
    """
    encoder = batch.encoder.qspace
    seen = batch.seen if chosen is None else batch.seen.take(chosen)
    with torch.no_grad():
        alone = encoder.shrink(seen.projected, seen.sigma)
        _, std = encoder.predict(alone, batch.held_out_gradients)
        assert std is not None
    made = encoder.signal(answer.z, batch.held_out_gradients)
    return ((made - clean).square() / (std.square() + 2e-4)).clamp(max=25.0)


def _tamed(values: torch.Tensor, top: float = 8.0) -> torch.Tensor:
    """Values above `top` grow like a logarithm: a few impossible voxels must not steer."""
    over = (values - top).clamp(min=0)
    return torch.minimum(values, torch.full_like(values, top)) + torch.log1p(over)
