"""The endless stream of simulated patches, for networks that see neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fornix.core.gradients import Gradients
from fornix.nets.encoding import ProtocolEncoder
from fornix.nets.neighbour_attention import Neighbourhood, neighbourhood
from fornix.physics.noise import smooth
from fornix.physics.tissue import signal
from fornix.training.data.tissue import (
    TRAIN_SHIFT,
    SimulatedSubject,
    SubjectShift,
    Voxels,
    join,
    prior_voxels,
    random_subject,
    source_anatomy,
)
from fornix.training.data.voxels import (
    Batch,
    Conditions,
    NoiseRange,
    PriorBalancer,
    held_out_gradients,
    training_protocol,
    with_artefacts,
)


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """Patches as one protocol sees them.

    Attributes:
        batch: Their voxels inside the brain, patch by patch in C order.
        place: (n, 4) patch and voxel of each.
        grid: (X, Y, Z).
        size: Voxel edges in mm.
        clean: (n, R) coordinates of the signals without noise, over the scale that was measured.
    """

    batch: Batch
    place: torch.Tensor
    count: int
    grid: tuple[int, int, int]
    size: tuple[float, float, float]
    clean: torch.Tensor

    def neighbourhood(self) -> Neighbourhood:
        """What the attention reads."""
        batch = self.batch
        variance = batch.encoder.qspace.variance
        return neighbourhood(batch.seen, variance, self.place, self.count, self.grid, self.size)


class PatchStream:
    """Batches of patches from simulated subjects, with lesions and unusual blobs of sharp edges.

    Args:
        folder: Of a subject's anatomy, None takes the embedded one.
        heads: Kept at a time.
        edge: Patch size in voxels.
        shift: How far heads differ.
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
    ) -> None:
        self.noise, self.device, self.edge, self._seed = noise, device, edge, seed
        self._shift = shift
        self._rng = np.random.default_rng([seed, 506])
        self._source = source_anatomy(folder, seed)
        self._made = 0
        self._heads = [self._new_head() for _ in range(heads)]
        self._unusual = prior_voxels(8000, seed + 77)
        self._balance = PriorBalancer(join([h.voxels for h in self._heads]).metrics)

    def _new_head(self) -> SimulatedSubject:
        self._made += 1
        return random_subject(self._source, 1000 * (self._seed + 1) + self._made, self._shift)

    def renew(self) -> None:
        """Replace the oldest subject and the unusual voxels."""
        self._heads = [*self._heads[1:], self._new_head()]
        self._unusual = prior_voxels(8000, 1000 * (self._seed + 1) + self._made)

    def batch(self, count: int = 2, gradients: Gradients | None = None) -> PatchBatch:
        """The next patches, at a random protocol unless one is given."""
        rng = self._rng
        head = self._heads[int(rng.integers(len(self._heads)))]
        index = torch.stack([self._crop(head, rng) for _ in range(count)])
        place = (index >= 0).nonzero()
        voxels = self._with_blobs(head.voxels[index[index >= 0]], place, rng)
        gradients = gradients or training_protocol(rng)
        turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
        gradients = gradients.rotated(turn)
        there = held_out_gradients(rng, gradients)
        both = Gradients(
            np.concatenate([gradients.bvals, there.bvals]),
            np.concatenate([gradients.directions, there.directions]),
        )
        clean = signal(voxels.tissue, both)
        measured = clean[:, : len(gradients)]
        grid = (self.edge, self.edge, self.edge)
        scan = Conditions.draw(self.noise, rng)
        signals, sigma = _noisy(measured, place, count, grid, self.noise, scan, rng)
        encoder = ProtocolEncoder(gradients, self.device)
        seen = encoder.encode(signals, sigma)
        ahead = clean[:, len(gradients) :].to(encoder.device) / seen.scale[:, None]
        true = encoder.qspace.project(measured.to(encoder.device) / seen.scale[:, None])
        sample_weight = self._balance(voxels.metrics)
        batch = Batch(encoder, seen, voxels, signals, sigma, sample_weight, there, ahead)
        place = place.to(encoder.device)
        return PatchBatch(batch, place, count, grid, head.size, true)

    def _crop(self, head: SimulatedSubject, rng: np.random.Generator) -> torch.Tensor:
        """A patch around a random voxel of the brain; places beyond the grid count as outside."""
        centre = (head.index >= 0).nonzero()[int(rng.integers(len(head.voxels)))]
        out = torch.full((self.edge,) * 3, -1, dtype=torch.long)
        start = centre - self.edge // 2
        low, high = (
            start.clamp(min=0),
            torch.minimum(start + self.edge, torch.tensor(head.index.shape)),
        )
        to = [slice(int(a - s), int(b - s)) for a, b, s in zip(low, high, start)]
        of = [slice(int(a), int(b)) for a, b in zip(low, high)]
        out[tuple(to)] = head.index[tuple(of)]
        return out

    def _with_blobs(self, voxels: Voxels, place: torch.Tensor, rng: np.random.Generator) -> Voxels:
        """Up to six ellipsoids per batch of tissue that does not belong there."""
        blobs = int(rng.integers(0, 7))
        unusual = self._unusual[
            torch.as_tensor(rng.integers(len(self._unusual), size=max(blobs, 1)))
        ]
        parts, order = [voxels], torch.arange(len(voxels))
        for k in range(blobs):
            centre = place[int(rng.integers(len(place)))]
            radius = torch.as_tensor(rng.uniform(0.8, 3.0, size=3)).float()
            away = ((place[:, 1:] - centre[1:]).float() / radius).square().sum(1)
            inside = ((away < 1) & (place[:, 0] == centre[0])).nonzero()[:, 0]
            if len(inside):
                order[inside] = sum(len(p) for p in parts)
                parts.append(unusual[torch.tensor([k])])
        return voxels if len(parts) == 1 else join(parts)[order]


def _noisy(
    clean: torch.Tensor,
    place: torch.Tensor,
    count: int,
    grid: tuple[int, int, int],
    noise: NoiseRange,
    scan: Conditions,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """As `stream.noisy`, with a level that drifts in space and noise that interpolation correlated."""
    n, volumes = clean.shape
    slope = rng.normal(0, 0.15, 3) / max(grid)
    middle = place[:, 1:].numpy() - np.array(grid) / 2
    level = (np.exp(middle @ slope) / scan.snr).astype(np.float32)[:, None]

    def field() -> np.ndarray:
        if not scan.fwhm:
            return rng.standard_normal((n, volumes), dtype=np.float32)
        white = torch.from_numpy(rng.standard_normal((count * volumes, *grid), dtype=np.float32))
        smoothed = smooth(white, scan.fwhm).view(count, volumes, *grid)
        patch, x, y, z = place.T
        return smoothed[patch, :, x, y, z].numpy()

    values = with_artefacts(clean.numpy(), noise, rng)
    total = (values + level * field()) ** 2 + (level * field()) ** 2
    if scan.coils > 1:
        total += level**2 * rng.chisquare(2 * scan.coils - 2, (n, volumes)).astype(np.float32)
    return np.sqrt(total), (level[:, 0] * scan.sigma_factor).astype(np.float32)
