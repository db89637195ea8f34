"""How the network of fibre orientations is trained."""

from __future__ import annotations

import math
import random
from pathlib import Path

import torch

from fornix.learn.features import Features, extract
from fornix.learn.fod_network import FodAnswer, FodNetwork
from fornix.learn.fod_stream import FodBatch, FodStream
from fornix.learn.recipes import Recipe


class FodTask:
    """Fibre orientations of single voxels."""

    def __init__(self, recipe: Recipe, anatomy: Path | None) -> None:
        self.recipe, self.anatomy = recipe, anatomy

    def model(self) -> FodNetwork:
        return FodNetwork(self.recipe.width, self.recipe.depth)

    def stream(self, seed: int, device: torch.device) -> FodStream:
        return FodStream(self.anatomy, self.recipe.bank, seed, self.recipe.noise, device)

    def prepare(self, stream: FodStream) -> tuple[FodBatch, Features]:
        batch = stream.batch(self.recipe.batch)
        return batch, extract(batch.observer, batch.seen)

    def loss(
        self, model: torch.nn.Module, made: tuple[FodBatch, Features]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        batch, features = made
        count = len(features.invariants)
        # A scan may show few voxels or many: the population is read from a part of the batch.
        part = math.exp(random.uniform(math.log(min(100, count)), math.log(count)))
        answer = model(features, features.invariants[: round(part)])
        basis, weights = model.basis, model.weights
        assert isinstance(basis, torch.Tensor) and isinstance(weights, torch.Tensor)
        return fod_loss(answer, batch, basis, weights)


def fod_loss(
    answer: FodAnswer, batch: FodBatch, basis: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Squared error of amplitudes over the sphere, what is negative, the likelihood of the spread,
    and the tissue fractions; with its parts for the log.

    basis: (45, P) at the directions of a quadrature, weights: (P,).

    The mean learns from squares alone, so that it stays the posterior mean: a likelihood would let it
    give up on voxels that it calls uncertain. The spread learns from the likelihood of what is left.
    """
    truth = batch.voxels.fod.to(answer.fod)
    rest = answer.fod - truth
    amplitude = answer.fod @ basis
    mean = weights / weights.sum()
    below = amplitude.clamp(max=0).square() @ mean
    fixed = amplitude.detach()
    error = (rest.detach() @ basis).square()
    variance = answer.std(fixed).square()
    likelihood = (0.5 * (variance.log() + (error / variance).clamp(max=100))) @ mean
    share, divided = batch.voxels.share.to(truth), batch.voxels.divided.to(truth)
    water = (answer.tissue[:, 2] - share[:, 2]).square()
    white = (answer.tissue[:, :2] - share[:, :2]).square().sum(1) * divided
    parts = {
        # By Parseval the sum over harmonics is the integral over the sphere.
        "amplitude": rest.square().sum(1).mean(),
        "negative": 10 * below.mean(),
        "spread": 0.05 * likelihood.mean(),
        "tissue": water.mean() + white.mean(),
    }
    total = torch.stack(list(parts.values())).sum()
    return total, {k: float(v.detach()) for k, v in parts.items()}
