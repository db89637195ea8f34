"""Simulated subjects: heads made of one, smoothed, deformed, aged, with lesions, their truth known.

How rough a head is decides how far averages over neighbours are off. The fit that a head comes from is as
rough as its noise, real tissue seen through a scanner is smoother, and bundles run on from voxel to voxel:
networks that see neighbours must meet all of these, and tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fornix.physics import anatomy
from fornix.physics.anatomy import Anatomy
from fornix.physics.noise import stream
from fornix.physics.tissue import Tissue
from fornix.training.data.coherent_bundles import coherent
from fornix.training.data.tissue import (
    TRAIN_SHIFT,
    SubjectShift,
    Voxels,
    jitter_voxel_parameters,
    join_tissue,
    s0_of,
    shift_subject_parameters,
    spatially_vary_parameters,
    with_truth,
)

#: Share of heads whose white matter is made of bundles, and edges of the blocks that each hold one
#: crossing of bundles, mm.
_BUNDLED, _BLOCK = 0.35, (20.0, 45.0)
#: White matter: more than this share of the voxel.
_WHITE = 0.6
#: Power of the cosine by which axes of neighbours count as the same fibre's.
_SAME_FIBRE = 8


def smoothed(head: Anatomy, rng: np.random.Generator) -> Anatomy:
    """A head with its microstructure and its axes smoothed over up to two voxels, by chance not at all."""
    width = float(rng.uniform(-0.5, 1.8))
    if width <= 0.3:
        return head
    inside = ndimage.gaussian_filter(head.mask.astype(np.float32), width)

    def blurred(values: NDArray[np.floating]) -> NDArray[np.floating]:
        over = values.reshape(*head.grid, -1)
        made = np.empty_like(over)
        for k in range(over.shape[3]):
            held = np.where(head.mask, over[..., k], 0)
            made[..., k] = ndimage.gaussian_filter(held, width) / np.maximum(inside, 1e-3)
        return np.where(head.mask[..., None], made, over).reshape(values.shape)

    names = ("ndi", "odi", "fwf", "d_par", "d_perp", "s0", "fraction")
    made = {name: blurred(getattr(head, name)) for name in names}
    total = made["fraction"].sum(-1, keepdims=True)
    made["fraction"] = made["fraction"] / np.maximum(total, 1e-6)
    if rng.random() < 0.7:
        made["mu"] = _smoothed_axes(head, width)
    return head.with_(**{k: v.astype(np.float32) for k, v in made.items()})


def _smoothed_axes(head: Anatomy, width: float) -> NDArray[np.floating]:
    """Axes (X, Y, Z, 3, 3) averaged with those of neighbours that run alike, whichever number they have."""
    number = np.zeros(head.grid, dtype=np.int64)  # 0: nobody
    number[head.mask] = 1 + np.arange(int(head.mask.sum()))
    nobody = np.zeros((1, 3, 3), dtype=np.float32)
    mu = np.concatenate([nobody, head.mu[head.mask]]).astype(np.float32)
    weight = np.concatenate([nobody[:, 0], head.fraction[head.mask]]).astype(np.float32)
    dyad = np.einsum("nq,nqi,nqj->nqij", weight, mu, mu).reshape(-1, 3, 9)
    total = np.zeros_like(dyad)
    steps = np.arange(-2, 3)
    for step in np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3):
        near = np.float32(np.exp(-0.5 * (step**2).sum() / width**2))
        if near < 0.05:
            continue
        other = np.r_[0, np.roll(number, tuple(step), (0, 1, 2))[head.mask]]
        same = (mu @ mu[other].transpose(0, 2, 1)) ** _SAME_FIBRE * near
        total += same @ dyad[other]
    _, vectors = np.linalg.eigh(total.reshape(-1, 3, 3, 3)[1:])
    made = head.mu.copy()
    made[head.mask] = vectors[..., -1]
    return made


def with_bundles(tissue: Tissue, head: Anatomy, rng: np.random.Generator) -> Tissue:
    """A head's tissue with its white matter made of bundles that turn slowly, block by block.

    Args:
        tissue: Of the n voxels in the head's mask.
        head: Says where its white matter is.
        rng: Source of chance.
    """
    white = torch.as_tensor(head.wm[head.mask] > _WHITE) & (tissue.fwf < 0.5)
    place = np.argwhere(head.mask) * np.linalg.norm(head.affine[:3, :3], axis=0)
    block = rng.uniform(*_BLOCK)
    cells = np.floor((place + rng.uniform(0, block, 3)) / block).astype(np.int64)
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    order = torch.arange(len(tissue))
    parts, start = [tissue], len(tissue)
    for number in np.unique(cell[white.numpy()]):
        rows = np.flatnonzero((cell == number) & white.numpy())
        parts.append(coherent(place[rows] - place[rows].mean(0), rng))
        order[torch.from_numpy(rows)] = start + torch.arange(len(rows))
        start += len(rows)
    return join_tissue(parts)[order]


@dataclass(frozen=True, eq=False)
class SimulatedSubject:
    """A head whose every voxel has its truth.

    Attributes:
        index: (X, Y, Z) place of each voxel in `voxels`, -1 outside the brain.
        size: Voxel edges, mm.
    """

    voxels: Voxels
    index: torch.Tensor
    size: tuple[float, float, float]

    def to(self, device: torch.device) -> SimulatedSubject:
        """The same on another device."""
        return SimulatedSubject(self.voxels.to(device), self.index.to(device), self.size)


def source_anatomy(folder: str | Path | None, seed: int) -> Anatomy:
    """The anatomy to vary: a subject's where a folder is given, else the embedded one."""
    return anatomy.embedded(2.5, seed) if folder is None else anatomy.from_subject(folder)


def random_subject(
    source: Anatomy, seed: int, shift: SubjectShift = TRAIN_SHIFT
) -> SimulatedSubject:
    """A variation of a subject: smoothed, deformed, perturbed, aged, with lesions, its parameters varied in
    space and shifted as a whole.
    """
    rng = np.random.default_rng([seed, 503])
    lesions = int(rng.integers(3, 14))
    varied = spatially_vary_parameters(
        anatomy.vary(smoothed(source, rng), seed, lesions=lesions), rng
    )
    tissue = varied.tissue()
    s0 = s0_of(tissue) / varied.reference
    tissue = shift_subject_parameters(tissue, rng, shift)
    if rng.random() < _BUNDLED:
        tissue = with_bundles(tissue, varied, rng)
    tissue = tissue.with_(s0=s0)
    index = torch.full(varied.grid, -1, dtype=torch.long)
    mask = torch.as_tensor(varied.mask)
    index[mask] = torch.arange(int(mask.sum()))
    size = np.linalg.norm(varied.affine[:3, :3], axis=0)
    return SimulatedSubject(
        with_truth(tissue), index, (float(size[0]), float(size[1]), float(size[2]))
    )


def anatomical_voxels(
    source: Anatomy, count: int, seed: int, shift: SubjectShift = TRAIN_SHIFT
) -> Voxels:
    """Voxels of one varied and shifted head, drawn at random, some of them jitter_voxel_parameters."""
    rng = np.random.default_rng([seed, 507])
    varied = spatially_vary_parameters(anatomy.vary(source, seed, lesions=10), rng)
    tissue = varied.tissue()
    some = torch.randint(len(tissue), (count,), generator=stream(seed, 504))
    tissue = tissue[some]
    scaled = shift_subject_parameters(tissue, rng, shift).with_(s0=s0_of(tissue) / varied.reference)
    return with_truth(jitter_voxel_parameters(scaled, seed))
