"""Lattices and sampling on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.register.grids import Lattice, blurred, inside, resampled, sample


def oblique(shape: tuple[int, int, int], seed: int = 0) -> Lattice:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(1.5, 3.0, 3)
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return Lattice(affine, shape)


@pytest.mark.parametrize("seed", range(4))
def test_linear_functions_of_the_world_are_sampled_exactly(seed: int) -> None:
    lattice = oblique((9, 11, 7), seed)
    slope = torch.tensor([0.3, -1.2, 0.7])
    image = (lattice.points() @ slope + 5)[None]
    inner = lattice.points()[1:-1, 1:-1, 1:-1].reshape(-1, 3)
    points = inner + 0.3 * torch.randn(inner.shape, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(sample(image, lattice, points)[0], points @ slope + 5, atol=1e-3)
    assert bool(inside(lattice, points).all())
    assert not bool(inside(lattice, points + 1000).any())


@pytest.mark.parametrize("spacing", [1.0, 4.0, 7.5])
def test_another_spacing_covers_the_same_box(spacing: float) -> None:
    lattice = oblique((20, 24, 16))
    other = lattice.with_spacing(spacing)
    for corner in (-0.5, 0.5):
        ends = [
            one.affine[:3, :3] @ ((np.array(one.shape) - 1) / 2 + corner * np.array(one.shape))
            + one.affine[:3, 3]
            for one in (lattice, other)
        ]
        assert np.allclose(ends[0], ends[1], atol=1e-6)
    assert np.allclose(other.spacing, spacing, rtol=0.25)


def test_blurring_keeps_constants_and_coarser_images_are_averages() -> None:
    lattice = oblique((16, 16, 16))
    image = torch.rand((1, *lattice.shape), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(blurred(torch.full_like(image, 3.0), 2.0), torch.tensor(3.0), atol=1e-5)
    coarse = resampled(image, lattice, lattice.with_spacing(3 * float(lattice.spacing.mean())))
    assert float(coarse.std()) < 0.5 * float(image.std())
    assert float(coarse.mean()) == pytest.approx(float(image.mean()), abs=0.03)
