"""The three networks of `fornix experiment context`, trained alike and asked alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fornix.core.gradients import Gradients
from fornix.nets import losses
from fornix.nets.encoding import ProtocolEncoder
from fornix.nets.features import Features, extract, microstructure_features, size
from fornix.nets.microstructure_net import MicrostructureNet
from fornix.nets.neighbour_attention import NeighbourAttention, averages
from fornix.nets.targets import possible
from fornix.training.data.patches import PatchBatch
from fornix.training.data.voxels import Batch
from fornix.training.recipes import Recipe
from fornix.training.tasks.microstructure import ContextTask, SpatialTask, around
from fornix_bench.experiments.cnn import Cnn, on_grid
from fornix_bench.experiments.streams import FixedPatches
from fornix_bench.suites.microstructure.populations import Block, Scan

VOXELWISE, CNN, ATTENTION = "voxel-wise", "CNN", "attention"
#: Channels of the convolutions; voxels at a patch's rim, which are not scored in training.
CHANNELS, RIM = 32, 2

Inputs = tuple[Any, torch.Tensor]
Said = tuple[torch.Tensor, torch.Tensor]


class Fixed:
    """What all tasks here share: the stream of patches at one protocol."""

    def __init__(self, recipe: Recipe, gradients: Gradients, piece: Block, edge: int) -> None:
        self.recipe, self.gradients, self.piece, self.edge = recipe, gradients, piece, edge

    def stream(self, seed: int, device: torch.device) -> FixedPatches:
        return FixedPatches(self.recipe, self.gradients, self.piece, self.edge, seed, device)


class WeighingTask(Fixed):
    """The attention's weights: restore the signal (`tasks.ContextTask`), at the fixed protocol."""

    def __init__(self, recipe: Recipe, gradients: Gradients, piece: Block, edge: int) -> None:
        super().__init__(recipe, gradients, piece, edge)
        self._task = ContextTask(recipe, None)

    def model(self) -> nn.Module:
        return self._task.model()

    def prepare(self, stream: FixedPatches) -> PatchBatch:
        return self._task.prepare(stream)

    def loss(self, model: nn.Module, made: PatchBatch) -> tuple[torch.Tensor, dict[str, float]]:
        return self._task.loss(model, made)


class MetricsTask(Fixed):
    """Metrics from patches, by any of the three: the same voxels, the same loss.

    kind: the network. attention: the trained weights of `ATTENTION`; start: the voxel-wise network
    that it starts from, reading the average in place of the voxel (`tasks.SpatialTask`).
    """

    def __init__(
        self, kind: str, recipe: Recipe, gradients: Gradients, piece: Block, edge: int,
        attention: NeighbourAttention | None = None, start: MicrostructureNet | None = None,
    ) -> None:  # fmt: skip
        super().__init__(recipe, gradients, piece, edge)
        self.kind, self.attention, self.start = kind, attention, start

    def model(self) -> nn.Module:
        width, depth = self.recipe.width, self.recipe.depth
        if self.kind == CNN:
            return Cnn(size(1), CHANNELS, 2, width, depth)
        if self.kind == VOXELWISE:
            return MicrostructureNet(width, depth)
        assert self.attention is not None and self.start is not None
        return SpatialTask(self.recipe, None, self.attention, self.start).model()

    def prepare(self, stream: FixedPatches) -> tuple[Batch, Inputs]:
        made = stream.batch(self.recipe.batch)
        seen = read(self.kind, made, self.attention)
        inner = ((made.place[:, 1:] >= RIM) & (made.place[:, 1:] < stream.edge - RIM)).all(1)
        return made.batch, (seen, inner)

    def loss(
        self, model: nn.Module, made: tuple[Batch, Inputs]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        batch, (seen, inner) = made
        mean, std = said(model, seen)
        true = batch.voxels.metrics.to(mean)[inner]
        error = losses.PARAMETER_LOSSES[self.recipe.loss](mean[inner], std[inner], true)
        total = error.clamp(max=20.0).mean()
        return total, {"metrics": float(total.detach())}


def read(kind: str, made: PatchBatch, attention: NeighbourAttention | None) -> Any:
    """What a network of this kind reads of some patches."""
    encoder, seen = made.batch.encoder, made.batch.seen
    if kind == CNN:
        return on_grid(extract(encoder, seen), made.place, made.count, made.grid)
    if kind == VOXELWISE:
        return microstructure_features(encoder, seen)
    assert attention is not None
    near = around(made, attention, torch.arange(len(made.place)))
    return microstructure_features(encoder, seen, near)


def said(model: nn.Module, seen: Any) -> Said:
    """Means and standard deviations (n, M) of any of the three."""
    if not isinstance(seen, Features):
        mean, std = model(seen)
        return mean, std
    answer = model(seen, seen.invariants)
    return answer.mean, answer.std


@torch.inference_mode()
def on_scan(
    kind: str, model: nn.Module, scan: Scan, attention: NeighbourAttention | None = None
) -> NDArray[np.float64]:
    """Possible means (n, M) of every voxel of a scan's mask, µm²/ms."""
    mask = scan.dwi.brain()
    encoder = ProtocolEncoder(scan.dwi.gradients, "cpu")
    seen = encoder.encode(scan.dwi.signals(), scan.sigma[mask])
    place = torch.zeros((int(mask.sum()), 4), dtype=torch.long)
    place[:, 1:] = torch.from_numpy(np.argwhere(mask))
    grid = scan.dwi.grid
    made: Any
    if kind == ATTENTION:
        assert attention is not None
        x, y, z = (float(v) for v in scan.dwi.voxel_size)
        passes = averages(attention, seen, encoder.qspace.variance, place[:, 1:].numpy(), (x, y, z))
        near = tuple(encoder.averaged(seen, p.projected, p.noise, p.unlike) for p in passes)
        made = microstructure_features(encoder, seen, near)
    elif kind == CNN:
        made = on_grid(extract(encoder, seen), place, 1, grid)
    else:
        made = microstructure_features(encoder, seen)
    return possible(said(model, made)[0]).double().numpy()


def train_all(
    recipe: Recipe,
    weighing: Recipe,
    gradients: Gradients,
    piece: Block,
    edge: int,
    train: Callable[[Recipe, Any], nn.Module],
) -> dict[str, Callable[[Scan], NDArray[np.float64]]]:
    """Train the three, equally long in all; each as a function from a scan to means (n, M).

    recipe: of the three; the attention's network is trained half as long as the others from a
    voxel-wise one of the other half. weighing: of the attention's weights. train: the trainer.
    """
    attention = train(weighing, WeighingTask(weighing, gradients, piece, edge))
    half = replace(recipe, name=f"{recipe.name}, half", steps=max(recipe.steps // 2, 1))
    start = train(half, MetricsTask(VOXELWISE, half, gradients, piece, edge))
    assert isinstance(attention, NeighbourAttention) and isinstance(start, MicrostructureNet)
    made: dict[str, Callable[[Scan], NDArray[np.float64]]] = {}
    for kind in (VOXELWISE, CNN, ATTENTION):
        one = half if kind == ATTENTION else recipe
        # The second half sees other patches than the first.
        one = replace(one, seed=one.seed + 1) if kind == ATTENTION else one
        task = MetricsTask(kind, one, gradients, piece, edge, attention, start)
        made[kind] = _asked(kind, train(one, task), attention)
    return made


def _asked(
    kind: str, model: nn.Module, attention: NeighbourAttention
) -> Callable[[Scan], NDArray[np.float64]]:
    return lambda scan: on_scan(kind, model, scan, attention)
