"""How each kind of network meets its stream: the model, the next batch, the loss on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from fornix.nets.encoding import EncodedVoxels
from fornix.nets.features import (
    FIT_SCALE,
    MicrostructureFeatures,
    microstructure_features,
    more_size,
    size,
    view_size,
)
from fornix.nets.fod_net import FodNet
from fornix.nets.microstructure_net import MicrostructureNet
from fornix.nets.neighbour_attention import REACH, NeighbourAttention, averages
from fornix.training.data.farm import simulators
from fornix.training.data.patches import PatchBatch, PatchStream
from fornix.training.data.tissue import CALIBRATION_SHIFT
from fornix.training.data.voxels import Batch, VoxelStream
from fornix.training.recipes import Recipe
from fornix.training.tasks.chance import generator, shown_voxels
from fornix.training.tasks.fod import FodTask
from fornix.training.tasks.fod_spatial import FodSpatialTask
from fornix.training.tasks.microstructure_loss import answer_loss

Parts = dict[str, float]
#: Edges of patches in voxels: the context's few weights learn from less.
_SMALL, _LARGE = 11, 14


class Task(Protocol):
    """One kind of training."""

    def model(self) -> nn.Module:
        """The network to train, with its first weights."""
        ...

    def stream(self, seed: int, device: torch.device) -> Any:
        """What draws batches of simulated voxels without end."""
        ...

    def prepare(self, stream: Any) -> Any:
        """The next batch, with the features that the network sees."""
        ...

    def loss(self, model: nn.Module, made: Any) -> tuple[torch.Tensor, Parts]:
        """The loss on what `prepare` made, and its parts by name for the log."""
        ...


class VoxelwiseTask:
    """The equivariant network on single voxels."""

    def __init__(self, recipe: Recipe, anatomy: Path | None) -> None:
        self.recipe, self.anatomy = recipe, anatomy
        self._draw = generator(recipe.seed)

    def model(self) -> nn.Module:
        return MicrostructureNet(self.recipe.width, self.recipe.depth)

    def stream(self, seed: int, device: torch.device) -> VoxelStream:
        return VoxelStream(
            self.anatomy, self.recipe.bank, seed, self.recipe.noise, device,
            workers=simulators(device),
        )  # fmt: skip

    def unlike(self, seed: int, device: torch.device) -> VoxelStream:
        """As `stream`, of tissue and noise farther from the common: for the calibration."""
        noise = self.recipe.noise.calibration_noise()
        return VoxelStream(self.anatomy, self.recipe.bank, seed, noise, device, CALIBRATION_SHIFT)

    def prepare(self, stream: VoxelStream) -> tuple[Batch, MicrostructureFeatures]:
        batch = stream.batch(self.recipe.batch)
        return batch, microstructure_features(batch.encoder, batch.seen)

    def loss(
        self, model: nn.Module, made: tuple[Batch, MicrostructureFeatures]
    ) -> tuple[torch.Tensor, Parts]:
        batch, features = made
        answer = model(features, shown_voxels(features.invariants, self._draw))
        return answer_loss(answer, batch, features, loss=self.recipe.loss)


class ContextTask:
    """The attention over neighbours: restore the signal, in units of the noise."""

    def __init__(self, recipe: Recipe, anatomy: Path | None) -> None:
        self.recipe, self.anatomy = recipe, anatomy

    def model(self) -> nn.Module:
        return NeighbourAttention(self.recipe.width, self.recipe.depth)

    def stream(self, seed: int, device: torch.device) -> PatchStream:
        return PatchStream(
            self.anatomy, self.recipe.bank, _SMALL, seed, self.recipe.noise, device,
            workers=simulators(device),
        )  # fmt: skip

    def prepare(self, stream: PatchStream) -> PatchBatch:
        return stream.batch(self.recipe.batch)

    def loss(self, model: nn.Module, made: PatchBatch) -> tuple[torch.Tensor, Parts]:
        where = tuple(made.place.T)
        seen = made.batch.seen
        level = seen.sigma[:, None]
        variance = made.batch.encoder.qspace.variance
        # What noise hides anyway is not worth averaging for; what shows is not to be blurred.
        telling = variance / (variance + level.square() / 4)

        def left(projected: torch.Tensor) -> torch.Tensor:
            return (telling * ((projected - made.clean) / level).square()).mean(1)

        # In units of the noise variance; where scanners told a wrong level, by what there was.
        before = left(seen.projected).mean().clamp(min=0.02)
        passes = [left(p.projected[where]) / before for p in model(made.neighbourhood())]
        means = [error.clamp(max=20).mean() for error in passes]
        total = torch.stack(means).mean()
        return total, {f"left{i + 1}": float(m.detach()) for i, m in enumerate(means)}


@dataclass(frozen=True, eq=False)
class SpatialBatch:
    """Patches ready for the network.

    Attributes:
        batch: Their voxels.
        features: What the network reads of those that count.
        inner: Their numbers: voxels at the faces lack neighbours.
    """

    batch: Batch
    features: MicrostructureFeatures
    inner: torch.Tensor


class SpatialTask:
    """The equivariant network on a voxel and its context, which stays as it was trained.

    It starts as the voxel-wise network that reads the context in place of the voxel.
    """

    def __init__(
        self,
        recipe: Recipe,
        anatomy: Path | None,
        context: NeighbourAttention,
        start: MicrostructureNet,
    ) -> None:
        self.recipe, self.anatomy = recipe, anatomy
        self._draw = generator(recipe.seed)
        self.context, self.start = context.eval(), start

    def model(self) -> nn.Module:
        sources = 1 + len(self.context.scores)
        made = MicrostructureNet(self.recipe.width, self.recipe.depth, sources)
        state = {k: v.clone() for k, v in self.start.state_dict().items()}
        # Views stand first, the widest average last of them, then their fits, then what they share.
        view, fit, read, total = view_size(), 2 * len(FIT_SCALE), size(1), size(sources)
        for name in ("trunk.first.weight", "scan_encoder.voxel_mlp.0.weight"):
            narrow = state[name]
            wide = narrow.new_zeros((len(narrow), total + more_size(sources)))
            # The scan is described by the voxels themselves.
            at = sources - 1 if name.startswith("trunk") else 0
            wide[:, at * view : (at + 1) * view] = narrow[:, :view]
            fits = sources * view + at * fit
            wide[:, fits : fits + fit] = narrow[:, view : view + fit]
            wide[:, sources * (view + fit) : total] = narrow[:, view + fit : read]
            wide[:, total : total + more_size(1)] = narrow[:, read:]
            state[name] = wide
        for part in ("weight", "bias"):
            grown = made.state_dict()[f"anchor.{part}"].clone()
            grown[-len(state[f"anchor.{part}"]) :] = state[f"anchor.{part}"]
            state[f"anchor.{part}"] = grown
        made.load_state_dict(made.state_dict() | state)
        return made

    def stream(self, seed: int, device: torch.device) -> PatchStream:
        self.context.to(device)
        return PatchStream(
            self.anatomy, self.recipe.bank, _LARGE, seed, self.recipe.noise, device,
            workers=simulators(device),
        )  # fmt: skip

    def unlike(self, seed: int, device: torch.device) -> PatchStream:
        """As `stream`, of tissue and noise farther from the common: for the calibration."""
        self.context.to(device)
        noise = self.recipe.noise.calibration_noise()
        return PatchStream(
            self.anatomy, self.recipe.bank, _LARGE, seed, noise, device, CALIBRATION_SHIFT
        )

    def prepare(self, stream: PatchStream) -> SpatialBatch:
        return spatial_batch(stream.batch(self.recipe.batch), self.context)

    def loss(self, model: nn.Module, made: SpatialBatch) -> tuple[torch.Tensor, Parts]:
        features = made.features
        answer = model(features, shown_voxels(features.invariants, self._draw))
        return answer_loss(answer, made.batch, features, made.inner, self.recipe.loss)


@torch.no_grad()
def spatial_batch(made: PatchBatch, context: NeighbourAttention) -> SpatialBatch:
    """What the network reads of some patches."""
    at, last = made.place[:, 1:], made.grid[0] - 1
    inner = ((at > 0) & (at < last)).all(1).nonzero()[:, 0]
    near = around(made, context, inner)
    features = microstructure_features(made.batch.encoder, made.batch.seen.take(inner), near)
    return SpatialBatch(made.batch, features, inner)


@torch.no_grad()
def around(
    made: PatchBatch, context: NeighbourAttention, chosen: torch.Tensor
) -> tuple[EncodedVoxels, ...]:
    """The voxels `chosen` of some patches, averaged with their neighbours by every pass."""
    seen, encoder = made.batch.seen, made.batch.encoder
    if encoder.device.type == "cpu":
        # Patches side by side in one grid, too far apart to be neighbours.
        place = made.place[:, 1:].clone()
        place[:, 0] += made.place[:, 0] * (made.grid[0] + REACH)
        wide = averages(
            context, seen, encoder.qspace.variance, place.numpy(), made.size, made.correlation
        )
        passes = [average[chosen] for average in wide]
    else:
        where = tuple(made.place[chosen].T)
        passes = [average[where] for average in context(made.neighbourhood())]
    some = seen.take(chosen)
    return tuple(encoder.averaged(some, p.projected, p.noise, p.unlike) for p in passes)


def task_of(
    recipe: Recipe, anatomy: Path | None, load: Callable[[str], nn.Module]
) -> VoxelwiseTask | ContextTask | SpatialTask | FodTask | FodSpatialTask:
    """The task of a recipe; load: gives trained weights by name, for recipes that need others."""
    if recipe.kind == "voxelwise":
        return VoxelwiseTask(recipe, anatomy)
    if recipe.kind == "context":
        return ContextTask(recipe, anatomy)
    if recipe.kind == "fod":
        return FodTask(recipe, anatomy)
    context, start = (load(name) for name in recipe.needs)
    assert isinstance(context, NeighbourAttention)
    if recipe.kind == "fod-spatial":
        assert isinstance(start, FodNet)
        return FodSpatialTask(recipe, anatomy, context, start)
    assert isinstance(start, MicrostructureNet)
    return SpatialTask(recipe, anatomy, context, start)


def workers_for(recipe: Recipe, device: torch.device) -> int:
    """Threads that prepare batches: the recipe's beside a CPU; a GPU's are launched by one."""
    return recipe.workers if device.type == "cpu" else 1
