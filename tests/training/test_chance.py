"""Training leaves nothing to chance that its seed does not decide."""

from __future__ import annotations

import random
from dataclasses import replace

import torch

from fornix.training.recipes import RECIPES
from fornix.training.tasks.chance import generator, shown_voxels
from fornix.training.tasks.microstructure import VoxelwiseTask
from fornix.training.trainer import train


def test_the_voxels_that_are_shown_are_those_of_the_generator():
    invariants = torch.arange(1000.0)[:, None]
    one, two = (shown_voxels(invariants, generator(3)) for _ in range(2))
    torch.testing.assert_close(one, two)
    assert 100 <= len(one) <= 1000 and len(one.unique()) == len(one)
    assert len(shown_voxels(invariants, generator(4))) != len(one)


def test_two_trainings_of_one_seed_are_the_same(tmp_path):
    """Whatever Python's and torch's own generators did before."""
    recipe = replace(RECIPES["voxelwise"], width=8, depth=1, batch=64, bank=800, steps=2)
    states = []
    for run in range(2):
        random.seed(run)
        torch.manual_seed(run)
        done = train(
            recipe, VoxelwiseTask(recipe, None), tmp_path / str(run), tell=lambda line: None
        )
        states.append(done.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=0, atol=0)
