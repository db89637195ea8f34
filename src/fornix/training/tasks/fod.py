"""How the network of fibre orientations is trained."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from fornix.nets.features import Features, extract
from fornix.nets.fod_net import FodNet, FodPrediction
from fornix.numerics import harmonics
from fornix.numerics.directions import fibonacci
from fornix.physics.fod_truth import LMAX, nearness
from fornix.training.data.fod_voxels import FodBatch, FodStream, FodVoxels
from fornix.training.recipes import Recipe
from fornix.training.tasks.chance import generator, shown_voxels

#: Axes at which answers are compared with the truth.
_POINTS = 240
#: Weight of the field: a fibre covers about a sixtieth of the sphere.
_FIELD = 15.0


class FodTask:
    """Fibre orientations of single voxels."""

    def __init__(self, recipe: Recipe, anatomy: Path | None) -> None:
        self.recipe, self.anatomy = recipe, anatomy
        self._draw = generator(recipe.seed)

    def model(self) -> FodNet:
        return FodNet(self.recipe.width, self.recipe.depth)

    def stream(self, seed: int, device: torch.device) -> FodStream:
        return FodStream(self.anatomy, self.recipe.bank, seed, self.recipe.noise, device)

    def prepare(self, stream: FodStream) -> tuple[FodBatch, Features]:
        batch = stream.batch(self.recipe.batch)
        return batch, extract(batch.encoder, batch.seen)

    def loss(
        self, model: torch.nn.Module, made: tuple[FodBatch, Features]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        batch, features = made
        answer = model(features, shown_voxels(features.invariants, self._draw))
        return fod_loss(answer, batch.voxels)


def fod_loss(answer: FodPrediction, voxels: FodVoxels) -> tuple[torch.Tensor, dict[str, float]]:
    """Squared error of amplitudes over the sphere, what is negative, the likelihood of the spread,
    the cross-entropy of the field, and the tissue fractions; with its parts for the log.

    The mean learns from squares alone, so that it stays the posterior mean: a likelihood would let it
    give up on voxels that it calls uncertain. The spread learns from the likelihood of what is left.
    """
    points, basis = (table.to(answer.fod) for table in _sphere())
    truth = voxels.fod.to(answer.fod)
    rest = answer.fod - truth
    amplitude = answer.fod @ basis
    below = amplitude.clamp(max=0).square().mean(1)
    fixed = amplitude.detach()
    error = (rest.detach() @ basis).square()
    variance = answer.std(fixed).square()
    likelihood = (0.5 * (variance.log() + (error / variance).clamp(max=100))).mean(1)
    near = nearness(voxels.tissue.to(points.device), points)
    share, divided = voxels.share.to(truth), voxels.divided.to(truth)
    water = (answer.tissue[:, 2] - share[:, 2]).square()
    white = (answer.tissue[:, :2] - share[:, :2]).square().sum(1) * divided
    parts = {
        # By Parseval the sum over harmonics is the integral over the sphere.
        "amplitude": rest.square().sum(1).mean(),
        "negative": 10 * below.mean(),
        "spread": 0.05 * likelihood.mean(),
        "field": _FIELD * binary_cross_entropy_with_logits(answer.fibre_logits @ basis, near),
        "tissue": water.mean() + white.mean(),
    }
    total = torch.stack(list(parts.values())).sum()
    return total, {k: float(v.detach()) for k, v in parts.items()}


@lru_cache(maxsize=1)
def _sphere() -> tuple[torch.Tensor, torch.Tensor]:
    """Even axes (P, 3), which stand turned to every voxel's fibres otherwise, and harmonics (45, P)."""
    points = fibonacci(_POINTS)
    basis = harmonics.evaluate(LMAX, points).T
    return torch.from_numpy(points).float(), torch.from_numpy(basis.copy()).float()
