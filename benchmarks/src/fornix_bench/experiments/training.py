"""Small networks trained inside an experiment, by the package's own trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

from torch import nn

from fornix.training.recipes import Recipe
from fornix.training.tasks.microstructure import Task
from fornix.training.trainer import train

Tell = Callable[[str], None]


def quiet(line: str) -> None:
    """Say nothing."""


def trained(recipe: Recipe, task: Task, tell: Tell = print) -> nn.Module:
    """The network of a task, trained from nothing on the CPU: the same seed gives the same one."""
    with tempfile.TemporaryDirectory() as folder:
        made = train(recipe, task, folder, "cpu", tell=quiet)
    tell(f"{recipe.name}: {made.steps} steps in {made.seconds:.0f} s")
    return made.model.eval().requires_grad_(False)
