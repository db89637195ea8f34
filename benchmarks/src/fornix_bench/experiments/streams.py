"""Small streams of training examples at one protocol: made in seconds, from pieces of heads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fornix.core.gradients import Gradients
from fornix.nets.features import matrix
from fornix.physics import Anatomy
from fornix.physics.tissue import signal
from fornix.training.data.patches import PatchBatch, PatchStream
from fornix.training.data.subjects import (
    SimulatedSubject,
    anatomical_voxels,
    random_subject,
    source_anatomy,
)
from fornix.training.data.tissue import SubjectShift, Voxels, prior_voxels
from fornix.training.data.voxels import Batch, VoxelStream
from fornix.training.recipes import Recipe
from fornix_bench.experiments.heads import somewhere, training_anatomy, turned
from fornix_bench.suites.microstructure.populations import Block


class FixedVoxels(VoxelStream):
    """Voxels at one protocol, half of them of no place, half from pieces of varied heads.

    Each voxel is turned by a rotation of its own when it is made, so that no direction of the head is
    special.
    """

    def __init__(
        self, recipe: Recipe, gradients: Gradients, block: Block, seed: int, device: torch.device
    ) -> None:
        self._gradients, self._block = gradients, block
        super().__init__(training_anatomy(), recipe.bank, seed, recipe.noise, device)

    def _maker(
        self, folder: str | Path | None, size: int, shift: SubjectShift
    ) -> Callable[[int], tuple[Voxels, Voxels]]:
        return partial(self._lot, source_anatomy(folder, 0), size // 2)

    def _lot(self, source: Anatomy, half: int, seed: int) -> tuple[Voxels, Voxels]:
        piece = somewhere(source, self._block, seed)
        turn = Rotation.random(half, random_state=seed).as_matrix().astype(np.float32)
        made = (prior_voxels(half, seed), anatomical_voxels(piece, half, seed))
        return turned_voxels(made[0], torch.from_numpy(turn)), turned_voxels(
            made[1], torch.from_numpy(turn)
        )

    def batch(self, count: int, gradients: Gradients | None = None) -> Batch:
        return super().batch(count, gradients or self._gradients)

    @property
    def rng(self) -> np.random.Generator:
        """The stream's chance, for whatever else an example needs."""
        return self._rng


class FixedPatches(PatchStream):
    """Patches at one protocol from pieces of varied heads, with lesions and unusual blobs."""

    def __init__(
        self, recipe: Recipe, gradients: Gradients, block: Block, edge: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self._gradients, self._block = gradients, block
        super().__init__(training_anatomy(), recipe.bank, edge, seed, recipe.noise, device)

    def _maker(
        self, folder: str | Path | None, shift: SubjectShift
    ) -> Callable[[int], tuple[SimulatedSubject, Voxels]]:
        return partial(self._lot, source_anatomy(folder, 0))

    def _lot(self, source: Anatomy, seed: int) -> tuple[SimulatedSubject, Voxels]:
        head = random_subject(somewhere(source, self._block, seed), seed)
        return head, prior_voxels(2000, seed + 77)

    def batch(self, count: int = 2, gradients: Gradients | None = None) -> PatchBatch:
        return super().batch(count, gradients or self._gradients)


def turned_voxels(voxels: Voxels, rotation: torch.Tensor) -> Voxels:
    """Voxels each turned by its rotation (n, 3, 3), tissue and truth together."""
    whole = rotation @ matrix(voxels.tensor) @ rotation.transpose(1, 2)
    rows, columns = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
    return Voxels(
        voxels.tissue.rotated(rotation), voxels.metrics, whole[:, rows, columns],
        turned(voxels.v1, rotation),
    )  # fmt: skip


def clean_signals(batch: Batch) -> torch.Tensor:
    """The batch's signals without noise at its own gradients, over the measured scale, (n, N)."""
    made = signal(batch.voxels.tissue, batch.encoder.gradients)
    return made.to(batch.seen.scale) / batch.seen.scale[:, None]
