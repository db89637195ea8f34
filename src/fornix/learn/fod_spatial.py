"""How the network of fibre orientations that reads neighbours is trained: on from the other one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fornix.learn.context import REACH, Attention, averages
from fornix.learn.features import FIT_SCALE, Features, extract, size, view_size
from fornix.learn.fod_network import FodAnswer, FodNetwork
from fornix.learn.fod_patches import FodPatches, FodPatchStream
from fornix.learn.fod_stream import FodVoxels
from fornix.learn.fod_task import fod_loss, some_of
from fornix.learn.observe import Observed
from fornix.learn.recipes import Recipe

#: Views of a voxel: itself, and the first average over its neighbours. The second adds noise here.
SOURCES = 2


@dataclass(frozen=True, eq=False)
class Chosen:
    """Voxels of patches that were answered: all but the outermost, whose neighbours are missing."""

    voxels: FodVoxels


class FodSpatialTask:
    """Fibre orientations from a voxel and its context, which stays as it was trained.

    It starts as the voxel-wise network that reads the context in place of the voxel.
    """

    def __init__(
        self, recipe: Recipe, anatomy: Path | None, context: Attention, start: FodNetwork
    ) -> None:
        self.recipe, self.anatomy = recipe, anatomy
        self.context, self.start = first_pass(context).eval(), start

    def model(self) -> FodNetwork:
        made = FodNetwork(self.recipe.width, self.recipe.depth, SOURCES)
        made.load_state_dict(with_context(self.start.state_dict()))
        return made

    def stream(self, seed: int, device: torch.device) -> FodPatchStream:
        self.context.to(device)
        return FodPatchStream(
            self.anatomy, self.recipe.bank, seed=seed, noise=self.recipe.noise, device="cpu"
        )

    def prepare(self, stream: FodPatchStream) -> tuple[Chosen, Features]:
        made = stream.batch(self.recipe.batch)
        inner = ((made.place[:, 1:] > 0) & (made.place[:, 1:] < made.edge - 1)).all(1)
        chosen = inner.nonzero()[:, 0]
        mean, noise = _averaged(made, self.context)
        seen = made.seen.take(chosen)
        near = made.observer.averaged(seen, mean[chosen], noise[chosen])
        return Chosen(made.voxels[chosen]), extract(made.observer, seen, (near,))

    def loss(
        self, model: nn.Module, made: tuple[Chosen, Features]
    ) -> tuple[torch.Tensor, dict[str, float]]:
        chosen, features = made
        answer: FodAnswer = model(features, some_of(features.invariants))
        return fod_loss(answer, chosen.voxels)


def first_pass(context: Attention) -> Attention:
    """An attention over neighbours that stops after its first pass."""
    hidden = context.scores[0][0].out_features  # type: ignore[index]
    made = Attention(int(hidden), 1)
    made.scores[0].load_state_dict(context.scores[0].state_dict())
    made.own[0].load_state_dict(context.own[0].state_dict())
    return made


def with_context(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a voxel-wise network widened to read the average where they read the voxel."""
    made = {k: v.clone() for k, v in state.items()}
    view, fit = view_size(), 2 * len(FIT_SCALE)
    for name in ("trunk.first.weight", "population.each.0.weight"):
        narrow = state[name]
        wide = narrow.new_zeros((len(narrow), size(SOURCES)))
        # Views stand first, the average last of them, then their fits, then what they share.
        wide[:, (SOURCES - 1) * view : SOURCES * view] = narrow[:, :view]
        wide[:, SOURCES * view + (SOURCES - 1) * fit :] = narrow[:, view:]
        # A view ends with its noise over the voxel's own, 0 for the voxel itself: nothing was learned.
        wide[:, SOURCES * view - 1] = 0
        made[name] = wide
    return made


def _averaged(made: FodPatches, context: Attention) -> tuple[torch.Tensor, torch.Tensor]:
    """Every voxel of the patches averaged with its like: (n, R) and its noise (n,)."""
    # Patches side by side in one grid, too far apart to be neighbours.
    place = made.place[:, 1:].clone()
    place[:, 0] += made.place[:, 0] * (made.edge + REACH)
    seen: Observed = made.seen
    variance = made.observer.encoder.variance
    return averages(context, seen, variance, place.numpy(), made.size)[0]
