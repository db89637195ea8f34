"""How the network of fibre orientations that reads neighbours is trained: on from the other one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fornix.nets.encoding import EncodedVoxels
from fornix.nets.features import FIT_SCALE, Features, extract, size, view_size
from fornix.nets.fod_net import SPATIAL_VIEWS, FodNet, FodPrediction
from fornix.nets.neighbour_attention import (
    REACH,
    Average,
    NeighbourAttention,
    averages,
    neighbourhood,
)
from fornix.training.data.farm import simulators
from fornix.training.data.fod_patches import FodPatches, FodPatchStream
from fornix.training.data.fod_voxels import FodVoxels
from fornix.training.recipes import Recipe
from fornix.training.tasks.chance import generator, shown_voxels
from fornix.training.tasks.fod import fod_loss


@dataclass(frozen=True, eq=False)
class Chosen:
    """Voxels of patches that were answered: all but the outermost, whose neighbours are missing."""

    voxels: FodVoxels


class FodSpatialTask:
    """Fibre orientations from a voxel and its context, which stays as it was trained.

    It starts as the voxel-wise network that reads the context in place of the voxel.
    """

    def __init__(
        self, recipe: Recipe, anatomy: Path | None, context: NeighbourAttention, start: FodNet
    ) -> None:
        self.recipe, self.anatomy = recipe, anatomy
        self._draw = generator(recipe.seed)
        self.context, self.start = context.first_pass(), start

    def model(self) -> FodNet:
        made = FodNet(self.recipe.width, self.recipe.depth, SPATIAL_VIEWS)
        made.load_state_dict(with_context(self.start.state_dict()))
        return made

    def stream(self, seed: int, device: torch.device) -> FodPatchStream:
        self.context.to(device)
        return FodPatchStream(
            self.anatomy, self.recipe.bank, seed=seed, noise=self.recipe.noise, device=device,
            workers=simulators(device),
        )  # fmt: skip

    @torch.no_grad()
    def prepare(self, stream: FodPatchStream) -> tuple[Chosen, Features]:
        made = stream.batch(self.recipe.batch)
        inner = ((made.place[:, 1:] > 0) & (made.place[:, 1:] < made.edge - 1)).all(1)
        chosen = inner.nonzero()[:, 0]
        average = _averaged(made, self.context)[chosen]
        seen = made.seen.take(chosen)
        near = made.encoder.averaged(seen, average.projected, average.noise)
        return Chosen(made.voxels[chosen]), extract(made.encoder, seen, (near,))

    def loss(
        self, model: nn.Module, made: tuple[Chosen, Features]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        chosen, features = made
        answer: FodPrediction = model(features, shown_voxels(features.invariants, self._draw))
        return fod_loss(answer, chosen.voxels)


def with_context(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a voxel-wise network widened to read the average where they read the voxel."""
    made = {k: v.clone() for k, v in state.items()}
    view, fit = view_size(), 2 * len(FIT_SCALE)
    for name in ("trunk.first.weight", "scan_encoder.voxel_mlp.0.weight"):
        narrow = state[name]
        wide = narrow.new_zeros((len(narrow), size(SPATIAL_VIEWS)))
        # Views stand first, the average last of them, then their fits, then what they share.
        wide[:, (SPATIAL_VIEWS - 1) * view : SPATIAL_VIEWS * view] = narrow[:, :view]
        wide[:, SPATIAL_VIEWS * view + (SPATIAL_VIEWS - 1) * fit :] = narrow[:, view:]
        # A view ends with its noise over the voxel's own, 0 for the voxel itself: nothing was learned.
        wide[:, SPATIAL_VIEWS * view - 1] = 0
        made[name] = wide
    return made


def _averaged(made: FodPatches, context: NeighbourAttention) -> Average:
    """Every voxel of the patches averaged with its like."""
    if made.encoder.device.type != "cpu":
        count, variance = int(made.place[-1, 0]) + 1, made.encoder.qspace.variance
        grid = (made.edge,) * 3
        near = neighbourhood(made.seen, variance, made.place, count, grid, made.size)
        average: Average = context(near)[0][tuple(made.place.T)]
        return average
    # Patches side by side in one grid, too far apart to be neighbours.
    place = made.place[:, 1:].clone()
    place[:, 0] += made.place[:, 0] * (made.edge + REACH)
    seen: EncodedVoxels = made.seen
    variance = made.encoder.qspace.variance
    return averages(context, seen, variance, place.numpy(), made.size)[0]
