"""Heads of the experiments: pieces of varied heads to train on, an unseen one with lesions to test."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fornix.physics import Anatomy, Noise, signal, truth
from fornix.physics.anatomy import LESION, embedded, with_lesions
from fornix.physics.anatomy.model import VOLUMES
from fornix_bench.suites.microstructure.populations import WHITE, Block, TestPopulation

Mask = NDArray[np.bool_]


def training_anatomy() -> Path | None:
    """The folder of the subject to train on; None, where it is not on this machine, is the embedded
    head, which the tests then vary too."""
    folder = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "anatomy"
    return folder if (folder / "bedpostx").is_dir() else None


def trained_on() -> str:
    """The training anatomy in words, for the page."""
    if training_anatomy() is None:
        return "variations of the embedded head (no subject's anatomy on this machine)"
    return "variations of one subject's anatomy, not the head of the test"


def part(head: Anatomy, centre: NDArray[np.floating], block: Block) -> Anatomy:
    """The piece of a head of at most `block` voxels about a voxel."""
    start = [
        int(np.clip(round(float(c)) - size // 2, 0, max(whole - size, 0)))
        for c, size, whole in zip(centre, block, head.grid)
    ]
    here = tuple(slice(s, s + size) for s, size in zip(start, block))
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array(start)
    volumes = {name: getattr(head, name)[here] for name in (*VOLUMES, "lesions", "mask")}
    return head.with_(affine=affine, bundles={}, **volumes)


def somewhere(head: Anatomy, block: Block, seed: int) -> Anatomy:
    """A piece of a head about a random voxel of its white matter."""
    white = np.argwhere(head.wm > 0.85)
    return part(head, white[np.random.default_rng([seed, 81]).integers(len(white))], block)


@dataclass(frozen=True, eq=False)
class Lesioned:
    """An unseen head with lesions.

    population: its voxels, noise Rician; regions white, lesion (cores), border and brain (n,).
    core: (X, Y, Z) lesion cores, whose edges are sharp. beside: (X, Y, Z) white matter that touches
    one. wm: (X, Y, Z) share of white matter.
    """

    population: TestPopulation
    core: Mask
    beside: Mask
    wm: NDArray[np.float32]

    def on_grid(self, values: NDArray) -> NDArray[np.float64]:
        """Values (n, …) of the population's voxels as (X, Y, Z, …), nan outside."""
        out = np.full((*self.core.shape, *np.shape(values)[1:]), np.nan)
        out[self.population.mask] = values
        return out


def lesioned(block: Block, seed: int, voxel_size: float = 2.5, lesions: int = 12) -> Lesioned:
    """A block of the embedded head with lesions, scanned with Rician noise."""
    head = embedded(voxel_size, seed)
    head = part(head, np.argwhere(head.wm > WHITE).mean(0), block)
    head = with_lesions(head, lesions, seed)
    tissue = head.tissue()
    found = truth.fitted(tissue) | truth.noddi(tissue)
    known = {k: v.double().numpy() for k, v in found.items()}
    core = (head.lesions == LESION) & head.mask
    healthy = (head.wm > WHITE) & head.mask & ~core
    beside = healthy & ndimage.binary_dilation(core)
    edge = beside | (core & ndimage.binary_dilation(healthy))
    regions = {
        "white": healthy & ~beside & (head.lesions == 0),
        "lesion": core,
        "border": edge,
        "brain": head.mask,
    }
    population = TestPopulation(
        "lesions", head.mask, head.affine, lambda g: signal(tissue, g), known,
        {k: v[head.mask] for k, v in regions.items()}, Noise(), head.reference,
    )  # fmt: skip
    return Lesioned(population, core, beside, head.wm)


def sharpness(found: NDArray, true: NDArray, core: Mask, beside: Mask) -> float:
    """Contrast across lesion borders over the true contrast, from maps (X, Y, Z).

    Over all pairs of a core's voxel and a voxel beside it that share a face, the least-squares slope
    of the found difference on the true one: 1 is a kept edge, 0 none; noise does not move its mean.
    """
    above = below = 0.0
    for axis in range(3):
        size = core.shape[axis]
        near = [np.arange(size - 1), np.arange(1, size)]
        for first, second in (near, near[::-1]):
            pair = np.take(core, first, axis) & np.take(beside, second, axis)
            step = [np.take(m, second, axis)[pair] - np.take(m, first, axis)[pair]
                    for m in (found, true)]  # fmt: skip
            above += float((step[0] * step[1]).sum())
            below += float((step[1] ** 2).sum())
    return above / below if below else float("nan")


def turned(vectors: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Vectors (n, 3) each turned by its rotation (n, 3, 3)."""
    return (rotation @ vectors[..., None])[..., 0]
