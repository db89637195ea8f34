"""The networks of tractography that `fornix train` makes again, beside those of `training.recipes`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fornix.core.errors import FornixError
from fornix.training.tasks import plausibility, policy

#: Name -> its `make`.
RECIPES: dict[str, Callable[..., Path]] = {
    "plausibility": plausibility.make,
    "policy": policy.make,
}


def make(
    name: str,
    work: str | Path,
    anatomy: str | Path | None,
    epochs: int | None,
    folder: Path,
    tell: Callable[[str], None] = print,
) -> Path:
    """Train from nothing, or on from what the work folder holds.

    Args:
        name: One of RECIPES.
        work: Folder of what is kept between runs.
        anatomy: Folder that holds the bundles, as `from_bundles` takes them.
        epochs: Instead of the recipe's.
        folder: For the weights.
        tell: Called with lines of progress.

    Returns:
        The path of the weights.

    Raises:
        FornixError: No anatomy is given, or no steps.
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
