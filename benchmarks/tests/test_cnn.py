"""The convolutional network sees as far as it says, and nothing outside the brain."""

from __future__ import annotations

import pytest
import torch

from fornix.nets.features import Features
from fornix.nets.targets import METRICS
from fornix_bench.experiments.cnn import Cnn, Grid, on_grid

SIZE = 12


def network(layers: int = 2) -> Cnn:
    torch.manual_seed(0)
    made = Cnn(SIZE, channels=8, layers=layers, width=16, depth=1).eval()
    torch.nn.init.normal_(made.scalars.weight, std=1.0)
    return made


def a_grid(edge: int = 9, brain: float = 0.7, seed: int = 0) -> Grid:
    draw = torch.Generator().manual_seed(seed)
    shape = (2, edge, edge, edge)
    inside = torch.rand(shape, generator=draw) < brain
    fit = torch.rand((*shape, 4), generator=draw)
    return Grid(torch.randn((*shape, SIZE), generator=draw), inside, fit, 0.1 * fit + 0.05)


def test_what_lies_outside_the_mask_changes_nothing() -> None:
    seen, cnn = a_grid(), network()
    before = cnn(seen)
    outside = ~seen.inside
    for values in (seen.invariants, seen.anchor, seen.anchor_std):
        values[outside] = 1e3
    seen.invariants[outside & (torch.rand(outside.shape) < 0.5)] = float("nan")
    for a, b in zip(before, cnn(seen)):
        assert torch.equal(a, b)
    assert len(before[0]) == int(seen.inside.sum()) and before[0].shape[1] == len(METRICS)


@pytest.mark.parametrize("layers", [2, 3])
def test_field_of_view_is_one_voxel_per_layer(layers: int) -> None:
    seen, cnn = a_grid(edge=11, brain=1.1), network(layers)
    before = cnn(seen)[0].reshape(2, 11, 11, 11, -1)
    seen.invariants[0, 5, 5, 5] += 5.0
    changed = (cnn(seen)[0].reshape(before.shape) - before).abs().amax(-1) > 0
    place = torch.stack(torch.meshgrid(*[torch.arange(11)] * 3, indexing="ij"), -1)
    far = (place - 5).abs().amax(-1)
    assert not changed[1].any() and not changed[0][far > layers].any()
    assert changed[0][far == layers].float().mean() > 0.9 and changed[0, 5, 5, 5]


def test_voxels_come_back_in_the_order_of_their_places() -> None:
    seen, cnn = a_grid(edge=5), network()
    place = seen.inside.nonzero()
    where = tuple(place.T)
    anchor, anchor_std = seen.anchor[where][:, None], seen.anchor_std[where][:, None]
    features = Features(seen.invariants[where], (), (), anchor, anchor_std, torch.empty(0))
    again = on_grid(features, place, 2, (5, 5, 5))
    assert torch.equal(again.inside, seen.inside)
    assert torch.equal(cnn(again)[0], cnn(seen)[0])
