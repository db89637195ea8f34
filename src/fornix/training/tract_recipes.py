"""What ships for registration and tracts, by the name that `fornix train` makes it under."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fornix.core.errors import FornixError
from fornix.training.mni_template import build_template
from fornix.training.tract_atlas import build_hcp1065, build_tracts72
from fornix.training.tract_network import HEADS, train_tracts

#: Names, and the folder that `--anatomy` has to name for each.
RECIPES = {
    "template": "the atlas folder that holds mni/ and adult1065/",
    "tracts72": "the folder of a subject's bedpostx fit and bundles72/",
    "hcp1065": "the folder adult1065/ that holds bundles/",
    "tracts": "the folder of a subject's bedpostx fit and bundles72/",
}


def make(
    name: str, anatomy: Path | None, steps: int | None, work: Path, out: Path, tell: Callable[[str], None]
) -> Path:  # fmt: skip
    """Make what ships under a name again.

    Args:
        name: One of RECIPES.
        anatomy: The folder it is made from.
        steps: Heads that `tracts` is trained on; HEADS if absent.
        work: Folder for the examples of `tracts`.
        out: Folder of the weights of `tracts`; the atlases have their own place.
        tell: Told how far it is.

    Raises:
        FornixError: The folder is not given.
    """
    if anatomy is None:
        raise FornixError(f"{name} is made from a folder: give --anatomy, {RECIPES[name]}")
    if name == "template":
        return build_template(anatomy)
    if name == "tracts72":
        return build_tracts72(anatomy)
    if name == "hcp1065":
        return build_hcp1065(anatomy)
    return train_tracts(anatomy, work, out, heads=steps or HEADS, tell=tell)
