"""After training: what the network gets wrong on voxels it never saw, tabulated for `uncertainty/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fornix.nets.features import MicrostructureFeatures, microstructure_features
from fornix.nets.microstructure_estimator import predict_with_evidence, with_fit
from fornix.nets.microstructure_net import MicrostructureNet
from fornix.nets.neighbour_attention import NeighbourAttention
from fornix.training.data.patches import PatchStream
from fornix.training.data.voxels import Batch, VoxelStream
from fornix.training.tasks.microstructure import spatial_batch
from fornix.uncertainty.conformal import Calibration, strata
from fornix.uncertainty.ood import Evidence, OODScorer
from fornix.uncertainty.shared_error import SharedError

#: Added to the training seed: protocols, tissue and noise of the calibration are its own.
_SEED = 90_000
_COLLECTED = ("mean", "std", "truth", "stratum", "scan")


@torch.inference_mode()
def calibrate(
    network: MicrostructureNet,
    stream: VoxelStream | PatchStream,
    context: NeighbourAttention | None,
    protocols: int = 400,
    per_protocol: int = 1500,
    tell: Callable[[str], None] = print,
) -> dict[str, dict[str, torch.Tensor]]:
    """Tables of `uncertainty/` from `protocols` random protocols: groups to be saved with the weights."""
    collected: dict[str, list[np.ndarray]] = {k: [] for k in _COLLECTED}
    evidence: list[np.ndarray] = []
    invariants: list[np.ndarray] = []
    for k in range(protocols):
        batch, chosen, features = _next(stream, context, per_protocol)
        seen = batch.seen.take(chosen)
        code = network.scan_encoder(features.invariants)
        answer, found = predict_with_evidence(
            network, batch.encoder, seen, features, batch.signals[chosen], code
        )
        answer = with_fit(answer, seen, batch.encoder.near_reference)
        truth = batch.voxels.metrics[chosen]
        collected["scan"].append(np.full(len(truth), k))
        collected["mean"].append(answer.mean.cpu().numpy())
        collected["std"].append(answer.std.cpu().numpy())
        collected["truth"].append(truth.cpu().numpy())
        collected["stratum"].append(strata(batch.encoder.gradients, seen.sigma.cpu().numpy()))
        evidence.append(np.stack([found.misfit, found.worst, found.residual], 1))
        invariants.append(features.invariants.cpu().numpy())
        if (k + 1) % 40 == 0:
            tell(f"calibration: {k + 1} of {protocols} protocols")
    made = {k: np.concatenate(v) for k, v in collected.items()}
    every = np.concatenate(invariants)
    mean, whiten = OODScorer.whitening(every)
    distance = (((every - mean) @ whiten) ** 2).mean(1).astype(np.float32)
    misfit, worst, residual = np.concatenate(evidence).T
    scorer = OODScorer.fit(
        mean, whiten, Evidence(distance, misfit, worst, residual), made["stratum"]
    )
    calibration = Calibration.fit(
        made["mean"], made["std"], made["truth"], made["stratum"], made["scan"]
    )
    shared = SharedError.fit(made["truth"] - made["mean"], made["stratum"], made["scan"])
    return {"conformal": calibration.state(), "ood": scorer.state(), "shared": shared.state()}


def held_out_stream(task: Any, seed: int, device: torch.device) -> VoxelStream | PatchStream:
    """The task's stream with seeds that training did not use, and farther from the common where it can be.

    Intervals that hold on the training's own tissue are too narrow on any other: the shifts of subjects
    and the noise that calibration meets are wider than training's.
    """
    make = getattr(task, "unlike", task.stream)
    made: VoxelStream | PatchStream = make(seed + _SEED, device)
    return made


def _next(
    stream: VoxelStream | PatchStream, context: NeighbourAttention | None, count: int
) -> tuple[Batch, torch.Tensor, MicrostructureFeatures]:
    """A scan: its voxels, those chosen of them, and what the network reads of these."""
    if isinstance(stream, VoxelStream):
        batch = stream.batch(count)
        chosen = torch.arange(count, device=batch.encoder.device)
        return batch, chosen, microstructure_features(batch.encoder, batch.seen)
    assert context is not None
    made = spatial_batch(stream.batch(1), context)
    return made.batch, made.inner, made.features
