"""What ships for registration and tracts, by the name that `fornix train` makes it under."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fornix.core.errors import FornixError
from fornix.training.mni_template import build_template
from fornix.training.tract_atlas import build_hcp1065, build_tracts72
from fornix.training.tract_evidence import fit_evidence

#: Heads that the evidence's coefficients are fitted on.
HEADS = 10
#: Names, and the folder that `--anatomy` has to name for each.
RECIPES = {
    "template": "the atlas folder that holds mni/ and adult1065/",
    "tracts72": "the folder of a subject's bedpostx fit and bundles72/",
    "hcp1065": "the folder adult1065/ that holds bundles/",
    "evidence": "the folder of a subject's bedpostx fit and bundles72/",
}


def make(name: str, anatomy: Path | None, steps: int | None, tell: Callable[[str], None]) -> Path:
    """Make what ships under a name again.

    Args:
        name: One of RECIPES.
        anatomy: The folder it is made from.
        steps: Heads of `evidence`; HEADS if absent.
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
    return fit_evidence(
        anatomy, heads=steps or HEADS, progress=lambda done, all_: tell(f"head {done} of {all_}")
    )
