"""The endless stream of patches for the orientation network that reads neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fornix.core.gradients import Gradients
from fornix.nets.encoding import EncodedVoxels, ProtocolEncoder
from fornix.physics import anatomy
from fornix.physics.tissue import Tissue, signal
from fornix.training.data.coherent_bundles import coherent
from fornix.training.data.fod_voxels import FEW, SERIES, FodVoxels, white_share, with_truth
from fornix.training.data.patches import noisy_patches
from fornix.training.data.subjects import smoothed, source_anatomy
from fornix.training.data.tissue import (
    join_tissue,
    shift_subject_parameters,
    spatially_vary_parameters,
)
from fornix.training.data.voxels import Conditions, NoiseRange, Protocols

#: Share of patches whose white matter is made of coherent bundles, not of the head's own fibres.
_BUNDLES = 0.5
#: Batches that one protocol serves, each turned otherwise.
_REUSED = 2


@dataclass(frozen=True, eq=False)
class FodPatches:
    """Patches as one protocol sees them.

    Attributes:
        seen: Of the voxels inside the brain, patch by patch in C order.
        voxels: See `seen`.
        place: (n, 4) patch and voxel of each.
        edge: Of a patch in voxels
        size: Voxel edges in mm.
    """

    encoder: ProtocolEncoder
    seen: EncodedVoxels
    voxels: FodVoxels
    place: torch.Tensor
    edge: int
    size: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class _Head:
    """white: (n,) share of white matter in what is not water. index: (X, Y, Z) place of each voxel."""

    tissue: Tissue
    white: torch.Tensor
    index: torch.Tensor
    size: tuple[float, float, float]


class FodPatchStream:
    """Batches of patches: half of heads as they are, half with bundles in their white matter.

    Args:
        folder: Of a subject's anatomy, None takes the embedded one.
        heads: Kept at a time.
        edge: Patch size in voxels.
        seed: Of everything.
    """

    def __init__(
        self,
        folder: str | Path | None,
        heads: int = 3,
        edge: int = 12,
        seed: int = 0,
        noise: NoiseRange = NoiseRange(),
        device: str | torch.device = "auto",
    ) -> None:
        self.noise, self.device, self.edge = noise, device, edge
        self._rng = np.random.default_rng([seed, 608])
        self._draw = torch.Generator().manual_seed(1000 * seed + 608)
        self._source = source_anatomy(folder, seed)
        self._seed, self._made = seed, 0
        self._protocols = Protocols(self._rng, _REUSED, FEW)
        self._heads = [self._new_head() for _ in range(heads)]

    def _new_head(self) -> _Head:
        seed = 1000 * (self._seed + 1) + self._made
        self._made += 1
        rng = np.random.default_rng([seed, 609])
        lesions = int(rng.integers(3, 14))
        varied = spatially_vary_parameters(
            anatomy.vary(smoothed(self._source, rng), seed, lesions=lesions), rng
        )
        mask = torch.as_tensor(varied.mask)
        index = torch.full(varied.grid, -1, dtype=torch.long)
        index[mask] = torch.arange(int(mask.sum()))
        x, y, z = (float(v) for v in np.linalg.norm(varied.affine[:3, :3], axis=0))
        return _Head(
            shift_subject_parameters(varied.tissue(), rng).with_(s0=None),
            white_share(varied),
            index,
            (x, y, z),
        )

    def renew(self) -> None:
        """Replace the oldest head."""
        self._heads = [*self._heads[1:], self._new_head()]

    def batch(self, count: int = 2, gradients: Gradients | None = None) -> FodPatches:
        """The next patches, at a random protocol unless one is given: a scan of its own."""
        rng = self._rng
        head = self._heads[int(rng.integers(len(self._heads)))]
        index = torch.stack([self._crop(head, rng) for _ in range(count)])
        place = (index >= 0).nonzero()
        chosen = index[index >= 0]
        tissue, white = head.tissue[chosen], head.white[chosen]
        for k in np.flatnonzero(rng.random(count) < _BUNDLES):
            here = (place[:, 0] == int(k)) & (white > 0.6) & (tissue.fwf < 0.5)
            tissue = self._with_bundles(tissue, here, place, head.size)
        if gradients is None:
            gradients = self._protocols.next()
        turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
        turned = gradients.rotated(turn)
        clean = signal(tissue, turned, lmax=SERIES)
        grid, scan = (self.edge,) * 3, Conditions.draw(self.noise, rng)
        signals, sigma = noisy_patches(clean, place, count, grid, self.noise, scan, rng, self._draw)
        encoder = ProtocolEncoder(turned, self.device)
        voxels = with_truth(tissue, white)
        seen = encoder.encode(signals, sigma)
        return FodPatches(encoder, seen, voxels, place.to(encoder.device), self.edge, head.size)

    def _with_bundles(
        self,
        tissue: Tissue,
        here: torch.Tensor,
        place: torch.Tensor,
        size: tuple[float, float, float],
    ) -> Tissue:
        rows = here.nonzero()[:, 0]
        if not len(rows):
            return tissue
        mm = (place[rows, 1:].numpy() - self.edge / 2) * np.array(size)
        order = torch.arange(len(tissue))
        order[rows] = len(tissue) + torch.arange(len(rows))
        return join_tissue([tissue, coherent(mm, self._rng)])[order].with_(s0=None)

    def _crop(self, head: _Head, rng: np.random.Generator) -> torch.Tensor:
        """Places (edge, edge, edge) about a random voxel of the brain, -1 outside."""
        inside = (head.index >= 0).nonzero()
        centre = inside[int(rng.integers(len(inside)))]
        half = self.edge // 2
        wide = torch.nn.functional.pad(head.index, (half,) * 6, value=-1)
        x, y, z = (slice(int(c), int(c) + self.edge) for c in centre)
        return wide[x, y, z]
