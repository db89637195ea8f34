"""Attention over neighbours: what it must never do, whatever its weights."""

from __future__ import annotations

import pytest
import torch

from fornix.learn.context import Attention, Neighbourhood, offsets


def patch(seed: int = 0, edge: int = 7, count: int = 20) -> Neighbourhood:
    draw = torch.Generator().manual_seed(seed)
    grid = (1, edge, edge, edge)
    return Neighbourhood(
        projected=torch.randn(*grid, count, generator=draw),
        sigma=torch.full(grid, 0.3),
        scale=torch.rand(grid, generator=draw) + 0.5,
        s0_std=torch.full(grid, 0.05),
        inside=torch.rand(grid, generator=draw) < 0.8,
        size=(2.0, 2.0, 2.5),
    )


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(1)
    return Attention().eval().requires_grad_(False)


def test_offsets_are_symmetric_and_leave_the_centre_out():
    found = set(offsets())
    assert (0, 0, 0) not in found and len(found) == 56
    assert all((-x, -y, -z) in found for x, y, z in found)


def test_what_lies_outside_the_brain_changes_nothing(attention):
    seen = patch()
    before, noise = attention(seen)
    away = ~seen.inside
    changed = seen.projected.clone()
    changed[away] = 100.0
    other = Neighbourhood(changed, seen.sigma, seen.scale, seen.s0_std, seen.inside, seen.size)
    after, noise_after = attention(other)
    torch.testing.assert_close(after[seen.inside], before[seen.inside])
    torch.testing.assert_close(noise_after[seen.inside], noise[seen.inside])


def test_rotating_the_coordinates_rotates_the_average(attention):
    """The coordinates of another gradient frame are an orthogonal transform of these."""
    seen = patch()
    q, _ = torch.linalg.qr(torch.randn(20, 20))
    other = Neighbourhood(
        seen.projected @ q, seen.sigma, seen.scale, seen.s0_std, seen.inside, seen.size
    )
    before, noise = attention(seen)
    after, noise_after = attention(other)
    torch.testing.assert_close(after, before @ q, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(noise_after, noise, atol=1e-5, rtol=1e-4)


def test_it_averages_and_knows_the_noise_that_is_left(attention):
    """White noise about one value: the spread of the average is what it says."""
    draw = torch.Generator().manual_seed(3)
    grid = (1, 12, 12, 12)
    seen = Neighbourhood(
        projected=0.3 * torch.randn(*grid, 20, generator=draw),
        sigma=torch.full(grid, 0.3), scale=torch.ones(grid), s0_std=torch.full(grid, 0.05),
        inside=torch.ones(grid, dtype=torch.bool), size=(2.0, 2.0, 2.0),
    )  # fmt: skip
    made, noise = attention(seen)
    assert (noise <= 0.3 + 1e-6).all()
    # Untrained weights hardly depend on the signals: then the claim must hold.
    assert abs(made.std() / noise.square().mean().sqrt() - 1) < 0.15


def test_moving_the_patch_moves_the_answer(attention):
    seen = patch(edge=9)
    part = {k: getattr(seen, k)[:, 1:] for k in ("projected", "sigma", "scale", "s0_std", "inside")}
    shifted = Neighbourhood(**part, size=seen.size)
    whole, _ = attention(seen)
    moved, _ = attention(shifted)
    # Two passes of reach 2 see four voxels far: beyond that the edge cannot be felt.
    torch.testing.assert_close(moved[:, 4:], whole[:, 5:], atol=1e-5, rtol=1e-4)
