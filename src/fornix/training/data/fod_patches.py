"""The endless stream of patches for the orientation network that reads neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fornix.core.compute import pick_device
from fornix.core.gradients import Gradients
from fornix.nets.encoding import EncodedVoxels, ProtocolEncoder
from fornix.physics import anatomy
from fornix.physics.tissue import Tissue, signal
from fornix.training.data.coherent_bundles import coherent
from fornix.training.data.farm import Farm
from fornix.training.data.fod_voxels import FEW, SERIES, FodVoxels, white_share, with_truth
from fornix.training.data.patches import crops, noisy_patches
from fornix.training.data.subjects import smoothed, source_anatomy
from fornix.training.data.tissue import (
    join_tissue,
    shift_subject_parameters,
    spatially_vary_parameters,
)
from fornix.training.data.voxels import Conditions, NoiseRange, protocol_lot

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

    def to(self, device: torch.device) -> _Head:
        """The same on another device."""
        white, index = self.white.to(device), self.index.to(device)
        return _Head(self.tissue.to(device), white, index, self.size)


class FodPatchStream:
    """Batches of patches: half of heads as they are, half with bundles in their white matter.

    Args:
        folder: Of a subject's anatomy, None takes the embedded one.
        heads: Kept at a time.
        edge: Patch size in voxels.
        seed: Of everything.
        noise: That is met.
        device: Where tissue, signals and features live.
        workers: Processes that make heads and protocols ahead; 0 makes them when they are needed.
    """

    def __init__(
        self,
        folder: str | Path | None,
        heads: int = 3,
        edge: int = 12,
        seed: int = 0,
        noise: NoiseRange = NoiseRange(),
        device: str | torch.device = "auto",
        workers: int = 0,
    ) -> None:
        self.noise, self.device, self.edge = noise, pick_device(device), edge
        self._rng = np.random.default_rng([seed, 608])
        self._draw = torch.Generator(self.device).manual_seed(1000 * seed + 608)
        self._farm = Farm(partial(_head_lot, folder), 1000 * (seed + 1), workers)
        lot = partial(protocol_lot, few=FEW, times=_REUSED)
        self._protocols = Farm(lot, 1000 * (seed + 1) + 500, min(workers, 2))
        self._waiting: list[Gradients] = []
        self._heads = [self._new_head() for _ in range(heads)]

    def _new_head(self) -> _Head:
        return self._farm.next().to(self.device)

    def renew(self) -> None:
        """Replace the oldest head, if another is ready."""
        if self._farm.ready():
            self._heads = [*self._heads[1:], self._new_head()]

    def close(self) -> None:
        """End the processes."""
        self._farm.close()
        self._protocols.close()

    def batch(self, count: int = 2, gradients: Gradients | None = None) -> FodPatches:
        """The next patches, at a random protocol unless one is given: a scan of its own."""
        rng = self._rng
        head = self._heads[int(rng.integers(len(self._heads)))]
        index = crops(head.index, self.edge, count, rng)
        place = (index >= 0).nonzero()
        chosen = index[index >= 0]
        tissue, white = head.tissue[chosen], head.white[chosen]
        for k in np.flatnonzero(rng.random(count) < _BUNDLES):
            here = (place[:, 0] == int(k)) & (white > 0.6) & (tissue.fwf < 0.5)
            tissue = self._with_bundles(tissue, here, place, head.size)
        if gradients is None:
            if not self._waiting:
                self._waiting = self._protocols.next()
            gradients = self._waiting.pop()
        turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
        turned = gradients.rotated(turn)
        block = 1 << 16 if self.device.type == "cuda" else 4096
        clean = signal(tissue, turned, lmax=SERIES, block=block)
        grid, scan = (self.edge,) * 3, Conditions.draw(self.noise, rng)
        signals, sigma = noisy_patches(clean, place, count, grid, self.noise, scan, rng, self._draw)
        encoder = ProtocolEncoder(turned, self.device)
        voxels = with_truth(tissue, white)
        seen = encoder.encode(signals, sigma)
        return FodPatches(encoder, seen, voxels, place, self.edge, head.size)

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
        mm = (place[rows, 1:].cpu().numpy() - self.edge / 2) * np.array(size)
        order = torch.arange(len(tissue), device=rows.device)
        order[rows] = len(tissue) + torch.arange(len(rows), device=rows.device)
        bundles = coherent(mm, self._rng).to(rows.device)
        return join_tissue([tissue, bundles])[order].with_(s0=None)


def _head_lot(folder: str | Path | None, seed: int) -> _Head:
    """One head; what a process makes ahead."""
    rng = np.random.default_rng([seed, 609])
    lesions = int(rng.integers(3, 14))
    source = smoothed(source_anatomy(folder, 0), rng)
    varied = spatially_vary_parameters(anatomy.vary(source, seed, lesions=lesions), rng)
    mask = torch.as_tensor(varied.mask)
    index = torch.full(varied.grid, -1, dtype=torch.long)
    index[mask] = torch.arange(int(mask.sum()))
    x, y, z = (float(v) for v in np.linalg.norm(varied.affine[:3, :3], axis=0))
    tissue = shift_subject_parameters(varied.tissue(), rng).with_(s0=None)
    return _Head(tissue, white_share(varied), index, (x, y, z))
