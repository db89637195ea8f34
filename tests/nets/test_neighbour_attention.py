"""NeighbourAttention over neighbours: what it must never do, whatever its weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fornix.nets.encoding import EncodedVoxels
from fornix.nets.neighbour_attention import NeighbourAttention, Neighbourhood, averages, offsets
from fornix.physics.noise import fwhm_of, smooth


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
    before = attention(seen)[-1]
    away = ~seen.inside
    changed = seen.projected.clone()
    changed[away] = 100.0
    other = replace(seen, projected=changed)
    after = attention(other)[-1]
    for name in ("projected", "noise", "unlike"):
        one, two = getattr(after, name), getattr(before, name)
        torch.testing.assert_close(one[seen.inside], two[seen.inside])


def test_rotating_the_coordinates_rotates_the_average(attention):
    """The coordinates of another gradient frame are an orthogonal transform of these, which mixes
    only coordinates of the same variance."""
    seen = replace(patch(), variance=torch.full((20,), 0.4))
    q, _ = torch.linalg.qr(torch.randn(20, 20))
    other = replace(seen, projected=seen.projected @ q)
    before = attention(seen)[-1]
    after = attention(other)[-1]
    torch.testing.assert_close(after.projected, before.projected @ q, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.noise, before.noise, atol=1e-5, rtol=1e-4)


def test_it_averages_and_knows_the_noise_that_is_left(attention):
    """White noise about one value: the spread of the average is what it says."""
    draw = torch.Generator().manual_seed(3)
    grid = (1, 12, 12, 12)
    seen = Neighbourhood(
        projected=0.3 * torch.randn(*grid, 20, generator=draw),
        sigma=torch.full(grid, 0.3), scale=torch.ones(grid), s0_std=torch.full(grid, 0.05),
        inside=torch.ones(grid, dtype=torch.bool), variance=torch.ones(20), size=(2.0, 2.0, 2.0),
    )  # fmt: skip
    made = attention(seen)[-1]
    assert (made.noise <= 0.3 + 1e-6).all()
    # Untrained weights hardly depend on the signals: then the claim must hold.
    assert abs(made.projected.std() / made.noise.square().mean().sqrt() - 1) < 0.15


def test_noise_that_neighbours_share_is_known_to_be_left(attention):
    """Noise that interpolation correlated averages out less, and the average says so."""
    draw = torch.Generator().manual_seed(4)
    grid, correlation = (1, 16, 16, 16), (0.6, 0.5, 0.2)
    white = torch.randn(20, *grid[1:], generator=draw)
    widths = tuple(fwhm_of(c) for c in correlation)
    noise = smooth(white, widths).permute(1, 2, 3, 0)[None]
    seen = Neighbourhood(
        projected=0.3 * noise, sigma=torch.full(grid, 0.3), scale=torch.ones(grid),
        s0_std=torch.full(grid, 0.05), inside=torch.ones(grid, dtype=torch.bool),
        variance=torch.ones(20), size=(2.0, 2.0, 2.0),
    )  # fmt: skip

    def ratio(known: Neighbourhood) -> float:
        made = attention(known)[0]
        inner = (slice(None), *[slice(3, -3)] * 3)
        return float(made.projected[inner].std() / made.noise[inner].square().mean().sqrt())

    assert ratio(seen) > 1.3
    assert abs(ratio(replace(seen, correlation=correlation)) - 1) < 0.15


def test_moving_the_patch_moves_the_answer(attention):
    seen = patch(edge=9)
    part = {k: getattr(seen, k)[:, 1:] for k in ("projected", "sigma", "scale", "s0_std", "inside")}
    shifted = replace(seen, **part)
    whole, moved = attention(seen)[-1].projected, attention(shifted)[-1].projected
    # Two passes of reach 2 see four voxels far: beyond that the edge cannot be felt.
    torch.testing.assert_close(moved[:, 4:], whole[:, 5:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("correlation", [(0.0, 0.0, 0.0), (0.6, 0.3, 0.1)])
def test_the_compiled_pass_is_the_same(attention, correlation):
    seen = replace(patch(edge=8, count=40), correlation=correlation)
    place = seen.inside[0].nonzero()
    where = (torch.zeros(len(place), dtype=torch.long), *place.T)
    blank = torch.zeros(len(place))
    voxels = EncodedVoxels(
        projected=seen.projected[where], scale=seen.scale[where], sigma=seen.sigma[where],
        s0_std=seen.s0_std[where], fit=blank, fit_std=blank, tensor=blank, tensor_s0=blank,
        nonphysical=blank, misfit=blank, unlike=blank,
    )  # fmt: skip
    made = averages(attention, voxels, seen.variance, place.numpy(), seen.size, correlation)
    for found, true in zip(made, attention(seen), strict=True):
        torch.testing.assert_close(found.projected, true.projected[where], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.noise, true.noise[where], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.unlike, true.unlike[where], atol=1e-4, rtol=1e-4)
