"""Synthetic heads: reproducible, plausible, and something that a network learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.nets.tissue_classes import CLASSES
from fornix.nets.tissue_net import TissueNet
from fornix.training.data.head_images import MULTIPLE, random_scan
from fornix.training.data.head_shapes import GRID, INSIDE, PARTS, random_head
from fornix.training.data.head_template import HeadTemplate, head_template
from fornix.training.recipes import RECIPES
from fornix.training.tasks.tissue import TissueTask, mixed, segmentation_loss


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def template():
    """A ball of white matter in a shell of grey matter: what the atlas would give, in a moment."""
    origin = np.array([-80.0, -115.0, -72.0])
    axes = [np.arange(n) + o for n, o in zip((161, 197, 163), origin)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    r = np.sqrt((x / 66) ** 2 + ((y + 18) / 86) ** 2 + ((z - 8) / 66) ** 2)
    soft = ndimage.gaussian_filter
    white, brain = soft((r < 0.75) * 1.0, 1), (r < 0.97) * 1.0
    grey = soft(((r >= 0.75) & (r < 0.92)) * 1.0, 1)
    ball = soft((np.sqrt(x**2 + (y + 5) ** 2 + (z - 5) ** 2) < 15) * 1.0, 1)
    behind = soft(((y < -45) & (z < -15) & (r < 0.92)) * 1.0, 1)
    none = np.zeros_like(x)
    maps = [white, grey, 60 * (0.97 - r) * brain - 20 * (r - 0.97) * (1 - brain), ball, none, none,
            behind, none, 0.4 * white]  # fmt: skip
    fields = np.zeros((2, 3, 81, 99, 82), np.float32)
    stack = torch.from_numpy(np.stack(maps).astype(np.float32))
    return HeadTemplate(stack, torch.from_numpy(fields), origin)


@pytest.fixture(scope="module")
def head(template):
    return random_head(template, seeded(1))


def test_the_same_generator_makes_the_same_head_and_scan(template, head):
    again = random_head(template, seeded(1))
    assert torch.equal(head.parts, again.parts) and torch.equal(head.pile, again.pile)
    one, two = (random_scan(head, seeded(5), (48, 64, 48)) for _ in range(2))
    assert torch.equal(one.seen, two.seen) and torch.equal(one.target, two.target)


def test_heads_differ(template, head):
    assert not torch.equal(head.parts, random_head(template, seeded(2)).parts)


def test_no_voxel_holds_more_than_its_volume(head):
    assert head.parts.shape == (len(PARTS), *GRID)
    assert float(head.parts.float().sum(0).max()) <= 255 + len(PARTS)
    litres = float(head.parts[:INSIDE].float().sum()) / 255 * 2.5**3 / 1e6
    assert 0.5 < litres < 3.5


@pytest.mark.parametrize("seed", range(12))
def test_scans_are_finite_and_ask_nothing_where_nothing_was_scanned(head, seed):
    made = random_scan(head, seeded(seed), (64, 80, 64))
    assert bool(torch.isfinite(made.seen).all())
    assert all(n % MULTIPLE == 0 for n in made.left.shape)
    total = made.target.sum(0)
    assert float(total.max()) < 1.05 and float(made.target.min()) >= 0
    assert float(total[made.seen[4] == 0].abs().max() if (made.seen[4] == 0).any() else 0) == 0
    assert float(made.seen[:4].abs().sum(0)[made.seen[4] == 0].sum()) == 0


def test_the_loss_is_least_at_the_truth(head):
    made = random_scan(head, seeded(4), (48, 64, 48))
    right = torch.cat([torch.log(made.target.clamp(min=1e-6)), torch.logit(made.left, 1e-4)[None]])
    wrong = right.roll(1, 0)
    good, parts = segmentation_loss(right, made.target, made.left)
    bad, _ = segmentation_loss(wrong, made.target, made.left)
    assert float(good) < float(bad) and parts["missed"] < 0.2


def test_a_network_learns_a_scan(head):
    made = random_scan(head, seeded(8), (48, 64, 48))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = TissueNet(width=8, depth=3)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    losses = []
    for _ in range(12):
        loss, _ = segmentation_loss(network(made.seen[None])[0], made.target, made.left)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_the_atlas_must_be_given(tmp_path):
    recipe = replace(RECIPES["tissue"], steps=1)
    with pytest.raises(FornixError, match="--anatomy"):
        TissueTask(recipe, None)
    with pytest.raises(FornixError, match="missing"):
        head_template(tmp_path)


def test_classes_and_answers_agree():
    with torch.no_grad():
        out = TissueNet(width=4, depth=2)(torch.zeros(1, 5, 4, 4, 4))
    assert out.shape == (1, len(CLASSES) + 1, 4, 4, 4)


def test_a_share_of_the_weights_begun_with_is_kept():
    before, after = {"a": torch.zeros(3)}, {"a": torch.full((3,), 2.0)}
    assert torch.equal(mixed(before, after, 0)["a"], after["a"])
    assert torch.equal(mixed(before, after, 1)["a"], before["a"])
    assert torch.allclose(mixed(before, after, 0.25)["a"], torch.full((3,), 1.5))
