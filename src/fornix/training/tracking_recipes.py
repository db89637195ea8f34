"""The networks of tracking that `fornix train` makes again, beside those of `learn/recipes.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fornix.core.errors import FornixError
from fornix.training.tasks import plausibility as filter_training
from fornix.training.tasks import policy as policy_training

#: Name -> its `make`.
RECIPES: dict[str, Callable[..., Path]] = {
    "plausibility": filter_training.make,
    "policy": policy_training.make,
}


def make(
    name: str,
    work: str | Path,
    anatomy: str | Path | None,
    epochs: int | None,
    folder: Path,
    tell: Callable[[str], None] = print,
) -> Path:
    """Train from nothing, or on from what the work folder holds; returns the path of the weights.

    anatomy: holds the bundles, as `from_bundles` takes them. epochs: instead of the recipe's.

    Raises FornixError where no anatomy is given, or no steps.
    """
    if anatomy is None:
        raise FornixError(
            f"{name} is trained on phantoms made of bundles; give the folder that holds them with "
            "--anatomy"
        )
    if epochs is not None and epochs < 1:
        raise FornixError(f"{name} cannot be trained in no steps; give --steps 1 or more")
    more = {} if epochs is None else {"epochs": epochs}
    return RECIPES[name](anatomy, work, folder, tell=tell, **more)
