"""NeighbourAttention over neighbours: what it must never do, whatever its weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fornix.nets.encoding import EncodedVoxels
from fornix.nets.neighbour_attention import NeighbourAttention, Neighbourhood, averages, offsets


def patch(seed: int = 0, edge: int = 7, count: int = 20) -> Neighbourhood:
    draw = torch.Generator().manual_seed(seed)
    grid = (1, edge, edge, edge)
    return Neighbourhood(
        projected=torch.randn(*grid, count, generator=draw),
        sigma=torch.full(grid, 0.3),
        scale=torch.rand(grid, generator=draw) + 0.5,
        s0_std=torch.full(grid, 0.05),
        inside=torch.rand(grid, generator=draw) < 0.8,
        variance=torch.linspace(2, 0.01, count),
        size=(2.0, 2.0, 2.5),
    )


@pytest.fixture
def attention() -> NeighbourAttention:
    torch.manual_seed(1)
    return NeighbourAttention().eval().requires_grad_(False)


def test_offsets_are_symmetric_and_leave_the_centre_out():
    found = set(offsets())
    assert (0, 0, 0) not in found and len(found) == 56
    assert all((-x, -y, -z) in found for x, y, z in found)


def test_what_lies_outside_the_brain_changes_nothing(attention):
    seen = patch()
    before, noise = attention(seen)[-1]
    away = ~seen.inside
    changed = seen.projected.clone()
    changed[away] = 100.0
    other = replace(seen, projected=changed)
    after, noise_after = attention(other)[-1]
    torch.testing.assert_close(after[seen.inside], before[seen.inside])
    torch.testing.assert_close(noise_after[seen.inside], noise[seen.inside])


def test_rotating_the_coordinates_rotates_the_average(attention):
    """The coordinates of another gradient frame are an orthogonal transform of these, which mixes
    only coordinates of the same variance."""
    seen = replace(patch(), variance=torch.full((20,), 0.4))
    q, _ = torch.linalg.qr(torch.randn(20, 20))
    other = replace(seen, projected=seen.projected @ q)
    before, noise = attention(seen)[-1]
    after, noise_after = attention(other)[-1]
    torch.testing.assert_close(after, before @ q, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(noise_after, noise, atol=1e-5, rtol=1e-4)


def test_it_averages_and_knows_the_noise_that_is_left(attention):
    """White noise about one value: the spread of the average is what it says."""
    draw = torch.Generator().manual_seed(3)
    grid = (1, 12, 12, 12)
    seen = Neighbourhood(
        projected=0.3 * torch.randn(*grid, 20, generator=draw),
        sigma=torch.full(grid, 0.3), scale=torch.ones(grid), s0_std=torch.full(grid, 0.05),
        inside=torch.ones(grid, dtype=torch.bool), variance=torch.ones(20), size=(2.0, 2.0, 2.0),
    )  # fmt: skip
    made, noise = attention(seen)[-1]
    assert (noise <= 0.3 + 1e-6).all()
    # Untrained weights hardly depend on the signals: then the claim must hold.
    assert abs(made.std() / noise.square().mean().sqrt() - 1) < 0.15


def test_moving_the_patch_moves_the_answer(attention):
    seen = patch(edge=9)
    part = {k: getattr(seen, k)[:, 1:] for k in ("projected", "sigma", "scale", "s0_std", "inside")}
    shifted = replace(seen, **part)
    whole, _ = attention(seen)[-1]
    moved, _ = attention(shifted)[-1]
    # Two passes of reach 2 see four voxels far: beyond that the edge cannot be felt.
    torch.testing.assert_close(moved[:, 4:], whole[:, 5:], atol=1e-5, rtol=1e-4)


def test_the_compiled_pass_is_the_same(attention):
    seen = patch(edge=8, count=40)
    place = seen.inside[0].nonzero()
    where = (torch.zeros(len(place), dtype=torch.long), *place.T)
    blank = torch.zeros(len(place))
    voxels = EncodedVoxels(
        projected=seen.projected[where], scale=seen.scale[where], sigma=seen.sigma[where],
        s0_std=seen.s0_std[where], fit=blank, fit_std=blank, tensor=blank, nonphysical=blank, misfit=blank,
    )  # fmt: skip
    made = averages(attention, voxels, seen.variance, place.numpy(), seen.size)
    for (mean, noise), (true, left) in zip(made, attention(seen), strict=True):
        torch.testing.assert_close(mean, true[where], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(noise, left[where], atol=1e-5, rtol=1e-4)
