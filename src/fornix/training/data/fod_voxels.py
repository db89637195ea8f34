"""The endless stream of voxels for fibre orientations: crossings, tissue of no place, heads.

The truth of an orientation costs nothing, so tissue of single voxels is drawn anew for every batch;
only heads, which take seconds to vary, are kept and seen more than once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fornix.core.gradients import Gradients
from fornix.nets.encoding import EncodedVoxels, ProtocolEncoder
from fornix.physics import Anatomy, anatomy, random_tissue
from fornix.physics.fod_truth import true_fod
from fornix.physics.tissue import Tissue, signal
from fornix.training.data.crossings import crossings
from fornix.training.data.subjects import source_anatomy
from fornix.training.data.tissue import (
    jitter_voxel_parameters,
    join_tissue,
    shift_subject_parameters,
    spatially_vary_parameters,
)
from fornix.training.data.voxels import Conditions, NoiseRange, Protocols, noisy

#: Order of the signal's series in training: dispersion damps what is above.
SERIES = 14
#: Heads kept at a time, and the voxels of each.
HEADS, _HEAD_SIZE = 4, 40_000
#: How much a scan holds of crossings, of tissue of no place and of a head, on average (Dirichlet).
_MIX = (1.8, 0.7, 1.0)
#: Share of scans of few directions, beside those of `training_protocol`: second fibres are hardest there.
FEW = 0.15
#: Batches that one protocol serves, each turned otherwise.
_REUSED = 3


@dataclass(frozen=True, eq=False)
class FodVoxels:
    """n voxels with their truth.

    Attributes:
        fod: (n, 45) as in `fod_truth`.
        share: (n, 3) fractions of white matter, grey matter and free water.
        divided: (n,) whether the first two are defined, which they are in heads.
    """

    tissue: Tissue
    fod: torch.Tensor
    share: torch.Tensor
    divided: torch.Tensor

    def __len__(self) -> int:
        return len(self.fod)

    def __getitem__(self, index: torch.Tensor) -> FodVoxels:
        here = index.to(self.fod.device)
        return FodVoxels(self.tissue[here], self.fod[here], self.share[here], self.divided[here])


@dataclass(frozen=True, eq=False)
class FodBatch:
    """Voxels as one protocol sees them. signals: (n, N) noisy; sigma: (n,) noise level given."""

    encoder: ProtocolEncoder
    seen: EncodedVoxels
    voxels: FodVoxels
    signals: torch.Tensor
    sigma: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Head:
    tissue: Tissue
    white: torch.Tensor


class FodStream:
    """Batches of voxels of every kind.

    Args:
        folder: Of a subject's anatomy for the heads; None takes the embedded one.
        seed: Of everything.
    """

    def __init__(
        self,
        folder: str | Path | None,
        heads: int = HEADS,
        seed: int = 0,
        noise: NoiseRange = NoiseRange(),
        device: str | torch.device = "auto",
    ) -> None:
        self.noise, self.device = noise, device
        self._rng = np.random.default_rng([seed, 606])
        self._source = source_anatomy(folder, seed)
        self._seed, self._made = seed, 0
        self._protocols = Protocols(self._rng, _REUSED, FEW)
        self._heads = [self._new_head() for _ in range(heads)]

    def _new_head(self) -> _Head:
        seed = 1000 * (self._seed + 1) + self._made
        self._made += 1
        rng = np.random.default_rng([seed, 607])
        varied = spatially_vary_parameters(anatomy.vary(self._source, seed, lesions=10), rng)
        some = rng.permutation(int(varied.mask.sum()))[:_HEAD_SIZE]
        tissue = varied.tissue()[torch.as_tensor(some)]
        return _Head(
            jitter_voxel_parameters(shift_subject_parameters(tissue, rng).with_(s0=None), seed),
            white_share(varied)[some],
        )

    def renew(self) -> None:
        """Replace the oldest head."""
        self._heads = [*self._heads[1:], self._new_head()]

    def batch(self, count: int, gradients: Gradients | None = None) -> FodBatch:
        """The next voxels, at a random protocol unless one is given: a scan with its own mix."""
        rng = self._rng
        numbers = rng.multinomial(count, rng.dirichlet(_MIX))
        parts: list[Tissue] = []
        white = torch.full((count,), torch.nan)
        if numbers[0]:
            parts.append(crossings(int(numbers[0]), rng))
        if numbers[1]:
            parts.append(random_tissue(int(numbers[1]), seed=int(rng.integers(2**31))))
        start = int(numbers[0] + numbers[1])
        if numbers[2]:
            head = self._heads[int(rng.integers(len(self._heads)))]
            some = torch.as_tensor(rng.integers(len(head.tissue), size=int(numbers[2])))
            parts.append(head.tissue[some])
            white[start:] = head.white[some]
        order = torch.as_tensor(rng.permutation(count))
        return seen_through(
            with_truth(join_tissue(parts)[order], white[order]),
            gradients or self._protocols.next(), self.noise, rng, self.device,
        )  # fmt: skip


def white_share(head: Anatomy) -> torch.Tensor:
    """(n,) share of white matter in what is not water, of the voxels in the mask."""
    white, grey = (v[head.mask] for v in (head.wm, head.gm))
    return torch.as_tensor(white / np.maximum(white + grey, 1e-6), dtype=torch.float32)


def with_truth(tissue: Tissue, white: torch.Tensor) -> FodVoxels:
    """Voxels with their truth; white: (n,) share of white matter in what is not water, NaN where unknown."""
    divided = torch.isfinite(white)
    solid = 1 - tissue.fwf
    part = torch.nan_to_num(white)
    share = torch.stack([solid * part, solid * (1 - part), tissue.fwf], 1)
    return FodVoxels(tissue, true_fod(tissue), share, divided)


def seen_through(
    voxels: FodVoxels,
    gradients: Gradients,
    noise: NoiseRange,
    rng: np.random.Generator,
    device: str | torch.device = "auto",
) -> FodBatch:
    """Voxels seen through a protocol, turned at random, with the noise of one scan."""
    turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    turned = gradients.rotated(turn)
    clean = signal(voxels.tissue, turned, lmax=SERIES)
    draw = torch.Generator().manual_seed(int(rng.integers(2**62)))
    signals, sigma = noisy(clean, noise, Conditions.draw(noise, rng), rng, draw)
    encoder = ProtocolEncoder(turned, device)
    return FodBatch(encoder, encoder.encode(signals, sigma), voxels, signals, sigma)
