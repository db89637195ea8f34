"""The endless stream of simulated patches, for networks that see neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fornix.core.compute import pick_device
from fornix.core.gradients import Gradients
from fornix.nets.encoding import ProtocolEncoder
from fornix.nets.neighbour_attention import Neighbourhood, neighbourhood
from fornix.physics.noise import fwhm_of, smooth
from fornix.training.data.farm import Farm
from fornix.training.data.subjects import SimulatedSubject, random_subject, source_anatomy
from fornix.training.data.tissue import TRAIN_SHIFT, SubjectShift, Voxels, join, prior_voxels
from fornix.training.data.voxels import (
    Batch,
    Conditions,
    NoiseRange,
    PriorBalancer,
    clean_signals,
    magnitudes,
    protocol_lot,
    with_artefacts,
)


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """Patches as one protocol sees them.

    Attributes:
        batch: Their voxels inside the brain, patch by patch in C order.
        place: (n, 4) patch and voxel of each.
        count: Of patches.
        grid: (X, Y, Z).
        size: Voxel edges in mm.
        clean: (n, R) coordinates of the signals without noise, over the scale that was measured.
        correlation: Of the noise of neighbouring voxels, as the method is told.
    """

    batch: Batch
    place: torch.Tensor
    count: int
    grid: tuple[int, int, int]
    size: tuple[float, float, float]
    clean: torch.Tensor
    correlation: tuple[float, float, float]

    def neighbourhood(self) -> Neighbourhood:
        """What the attention reads."""
        batch = self.batch
        variance = batch.encoder.qspace.variance
        return neighbourhood(
            batch.seen, variance, self.place, self.count, self.grid, self.size, self.correlation
        )


#: A head, and voxels unlike its own.
Lot = tuple[SimulatedSubject, Voxels]


class PatchStream:
    """Batches of patches from simulated subjects, with lesions and unusual blobs of sharp edges.

    Args:
        folder: Of a subject's anatomy, None takes the embedded one.
        heads: Kept at a time.
        edge: Patch size in voxels.
        seed: Of everything.
        noise: That is met.
        device: Where voxels, signals and features live.
        shift: How far heads differ.
        workers: Processes that make heads ahead; 0 makes them when they are needed.
    """

    def __init__(
        self,
        folder: str | Path | None,
        heads: int = 4,
        edge: int = 14,
        seed: int = 0,
        noise: NoiseRange = NoiseRange(),
        device: str | torch.device = "auto",
        shift: SubjectShift = TRAIN_SHIFT,
        workers: int = 0,
    ) -> None:
        self.noise, self.device, self.edge = noise, pick_device(device), edge
        self._rng = np.random.default_rng([seed, 506])
        self._draw = torch.Generator(self.device).manual_seed(1000 * seed + 506)
        self._farm = Farm(self._maker(folder, shift), 1000 * (seed + 1) + 1, workers)
        self._protocols = Farm(protocol_lot, 1000 * (seed + 1) + 500, min(workers, 2))
        self._waiting: list[Gradients] = []
        self._heads: list[SimulatedSubject] = []
        self._unusual: list[Voxels] = []
        for _ in range(heads):
            self._add()
        self._balance = PriorBalancer(join([h.voxels for h in self._heads]).metrics)

    def _maker(self, folder: str | Path | None, shift: SubjectShift) -> Callable[[int], Lot]:
        """What makes a head from a seed."""
        return partial(head_lot, folder, shift)

    def _add(self) -> None:
        head, unusual = self._farm.next()
        self._heads.append(head.to(self.device))
        self._unusual.append(unusual.to(self.device))

    def renew(self) -> None:
        """Replace the oldest subject and its unusual voxels, if another is ready."""
        if self._farm.ready():
            self._heads, self._unusual = self._heads[1:], self._unusual[1:]
            self._add()

    def close(self) -> None:
        """End the processes."""
        self._farm.close()
        self._protocols.close()

    def batch(self, count: int = 2, gradients: Gradients | None = None) -> PatchBatch:
        """The next patches, at a random protocol unless one is given: one scan of one head."""
        rng = self._rng
        which = int(rng.integers(len(self._heads)))
        head = self._heads[which]
        index = crops(head.index, self.edge, count, rng)
        place = (index >= 0).nonzero()
        voxels = head.voxels[index[index >= 0]]
        voxels = self._with_blobs(voxels, self._unusual[which], place, rng)
        if gradients is None:
            if not self._waiting:
                self._waiting = self._protocols.next()
            gradients = self._waiting.pop()
        turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
        gradients = gradients.rotated(turn)
        clean, there, ahead = clean_signals(voxels, gradients, rng)
        grid = (self.edge, self.edge, self.edge)
        scan = Conditions.draw(self.noise, rng, int((~gradients.b0_mask).sum()))
        signals, sigma = noisy_patches(clean, place, count, grid, self.noise, scan, rng, self._draw)
        encoder = ProtocolEncoder(gradients, self.device)
        seen = encoder.encode(signals, sigma)
        ahead = ahead / seen.scale[:, None]
        true = encoder.qspace.project(clean / seen.scale[:, None])
        sample_weight = self._balance(voxels.metrics)
        batch = Batch(encoder, seen, voxels, signals, sigma, sample_weight, there, ahead)
        return PatchBatch(batch, place, count, grid, head.size, true, scan.told_correlation)

    @staticmethod
    def _with_blobs(
        voxels: Voxels, unusual: Voxels, place: torch.Tensor, rng: np.random.Generator
    ) -> Voxels:
        """Up to three ellipsoids per patch of tissue that does not belong there."""
        blobs = int(rng.integers(0, 3 * (int(place[-1, 0]) + 1) + 1))
        if not blobs:
            return voxels
        device = place.device
        centres = place[torch.as_tensor(rng.integers(len(place), size=blobs), device=device)]
        radius = torch.as_tensor(rng.uniform(0.8, 3.0, (blobs, 3)), device=device).float()
        kind = torch.as_tensor(rng.integers(len(unusual), size=blobs), device=device)
        order = torch.arange(len(voxels), device=device)
        for k in range(blobs):
            away = ((place[:, 1:] - centres[k, 1:]) / radius[k]).square().sum(1)
            inside = (away < 1) & (place[:, 0] == centres[k, 0])
            order = torch.where(inside, len(voxels) + k, order)
        return join([voxels, unusual[kind]])[order]


def head_lot(folder: str | Path | None, shift: SubjectShift, seed: int) -> Lot:
    """One head and voxels unlike its own; what a process makes ahead."""
    return random_subject(source_anatomy(folder, 0), seed, shift), prior_voxels(2000, seed + 77)


def crops(index: torch.Tensor, edge: int, count: int, rng: np.random.Generator) -> torch.Tensor:
    """(count, edge, edge, edge) of an index around random voxels of the brain; -1 outside."""
    inside = (index >= 0).nonzero()
    centres = inside[torch.as_tensor(rng.integers(len(inside), size=count), device=index.device)]
    steps = torch.arange(edge, device=index.device) - edge // 2
    sides, kept = [], []
    for axis, size in enumerate(index.shape):
        at = centres[:, axis, None] + steps
        kept.append((at >= 0) & (at < size))
        sides.append(at.clamp(0, size - 1))
    x, y, z = sides
    found = index[x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]]
    a, b, c = kept
    return torch.where(a[:, :, None, None] & b[:, None, :, None] & c[:, None, None, :], found, -1)


def noisy_patches(
    clean: torch.Tensor,
    place: torch.Tensor,
    count: int,
    grid: tuple[int, int, int],
    noise: NoiseRange,
    scan: Conditions,
    rng: np.random.Generator,
    draw: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `voxels.noisy`, with a level that drifts in space and noise that neighbours share."""
    volumes = clean.shape[1]
    slope = torch.as_tensor(rng.normal(0, 0.15, 3) / max(grid), device=clean.device)
    middle = place[:, 1:] - torch.tensor(grid, device=clean.device) / 2
    level = (torch.exp(middle @ slope.float()) / scan.snr)[:, None]
    x, y, z = (fwhm_of(c) for c in scan.correlation)

    def field() -> torch.Tensor:
        white = torch.randn((count * volumes, *grid), generator=draw, device=clean.device)
        smoothed = smooth(white, (x, y, z)).view(count, volumes, *grid)
        return smoothed[place[:, 0], :, place[:, 1], place[:, 2], place[:, 3]]

    values = with_artefacts(clean, noise, rng)
    shared = field if any(scan.correlation) else None
    made = magnitudes(values, level, scan.coils, draw, shared)
    return made, level[:, 0] * scan.sigma_factor
