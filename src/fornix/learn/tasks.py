"""How each kind of network meets its stream: the model, the next batch, the loss on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from fornix.core.compute import available_threads
from fornix.learn.context import Attention
from fornix.learn.equivariant import Equivariant
from fornix.learn.features import extract, size
from fornix.learn.objective import answer_loss
from fornix.learn.patches import PatchBatch, PatchStream
from fornix.learn.recipes import Recipe
from fornix.learn.stream import Batch, VoxelStream

Parts = dict[str, float]


class Task(Protocol):
    """One kind of training."""

    def model(self) -> nn.Module: ...

    def stream(self, seed: int, device: torch.device) -> Any: ...

    def prepare(self, stream: Any) -> Any: ...

    def loss(self, model: nn.Module, made: Any) -> tuple[torch.Tensor, Parts]: ...


class VoxelwiseTask:
    """The equivariant network on single voxels."""

    def __init__(self, recipe: Recipe, anatomy: Path | None) -> None:
        self.recipe, self.anatomy = recipe, anatomy

    def model(self) -> nn.Module:
        return Equivariant(size(1), self.recipe.width, self.recipe.depth)

    def stream(self, seed: int, device: torch.device) -> VoxelStream:
        return VoxelStream(self.anatomy, self.recipe.bank, seed, self.recipe.noise, device)

    def prepare(self, stream: VoxelStream) -> tuple[Batch, Any]:
        batch = stream.batch(self.recipe.batch)
        return batch, extract(batch.observer, batch.seen)

    def loss(self, model: nn.Module, made: tuple[Batch, Any]) -> tuple[torch.Tensor, Parts]:
        batch, features = made
        return answer_loss(model(features), batch, loss=self.recipe.loss)


class ContextTask:
    """The attention over neighbours: restore the signal, in units of the noise."""

    def __init__(self, recipe: Recipe, anatomy: Path | None) -> None:
        self.recipe, self.anatomy = recipe, anatomy

    def model(self) -> nn.Module:
        return Attention(self.recipe.width, self.recipe.depth)

    def stream(self, seed: int, device: torch.device) -> PatchStream:
        return PatchStream(self.anatomy, self.recipe.bank, 14, seed, self.recipe.noise, device)

    def prepare(self, stream: PatchStream) -> PatchBatch:
        return stream.batch(self.recipe.batch)

    def loss(self, model: nn.Module, made: PatchBatch) -> tuple[torch.Tensor, Parts]:
        where = tuple(made.place.T)
        average, _ = model(made.neighbourhood())
        level = made.batch.seen.sigma[:, None]
        error = ((average[where] - made.clean) / level).square().mean(1)
        before = ((made.batch.seen.projected - made.clean) / level).square().mean(1)
        # In units of the noise variance; where scanners told a wrong level, by what there was.
        total = (error / before.mean().clamp(min=0.1)).clamp(max=20).mean()
        return total, {"left": float(total.detach())}


class SpatialTask:
    """The equivariant network on a voxel and its context, which stays as it was trained.

    It starts as the voxel-wise network that reads the context in place of the voxel.
    """

    def __init__(
        self, recipe: Recipe, anatomy: Path | None, context: Attention, start: Equivariant
    ) -> None:
        self.recipe, self.anatomy = recipe, anatomy
        self.context, self.start = context.eval(), start

    def model(self) -> nn.Module:
        made = Equivariant(size(2), self.recipe.width, self.recipe.depth)
        state = {k: v.clone() for k, v in self.start.state_dict().items()}
        first = state["trunk.first.weight"]
        own = size(2) - size(1)
        wide = first.new_zeros((first.shape[0], size(2)))
        wide[:, own:] = (
            first  # the voxel's own block stands first, then the context's, then the rest
        )
        state["trunk.first.weight"] = wide
        made.load_state_dict(state)
        return made

    def stream(self, seed: int, device: torch.device) -> PatchStream:
        self.context.to(device)
        return PatchStream(self.anatomy, self.recipe.bank, 14, seed, self.recipe.noise, device)

    def prepare(self, stream: PatchStream) -> tuple[Batch, Any, torch.Tensor]:
        made = stream.batch(self.recipe.batch)
        seen = made.batch.seen
        with torch.no_grad():
            average, noise = self.context(made.neighbourhood())
        where = tuple(made.place.T)
        inner = ((made.place[:, 1:] > 0) & (made.place[:, 1:] < stream.edge - 1)).all(1)
        chosen = inner.nonzero()[:, 0]
        around = (average[where][chosen], noise[where][chosen])
        return made.batch, extract(made.batch.observer, seen.take(chosen), (around,)), chosen

    def loss(
        self, model: nn.Module, made: tuple[Batch, Any, torch.Tensor]
    ) -> tuple[torch.Tensor, Parts]:
        batch, features, chosen = made
        return answer_loss(model(features), batch, chosen, self.recipe.loss, balanced=True)


def task_of(
    recipe: Recipe, anatomy: Path | None, load: Callable[[str], nn.Module]
) -> VoxelwiseTask | ContextTask | SpatialTask:
    """The task of a recipe; load: gives trained weights by name, for recipes that need others."""
    if recipe.kind == "voxelwise":
        return VoxelwiseTask(recipe, anatomy)
    if recipe.kind == "context":
        return ContextTask(recipe, anatomy)
    context, start = (load(name) for name in recipe.needs)
    assert isinstance(context, Attention) and isinstance(start, Equivariant)
    return SpatialTask(recipe, anatomy, context, start)


def workers_for(recipe: Recipe, device: torch.device) -> int:
    """Threads that simulate: the recipe's beside a CPU, all but two for a GPU."""
    return recipe.workers if device.type == "cpu" else max(1, available_threads() - 2)
