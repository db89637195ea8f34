"""The shipped estimators that an experiment can ask."""

from __future__ import annotations

from fornix.core.errors import FornixError
from fornix_bench.suites.microstructure import estimates


def shipped() -> list[str]:
    """The learned methods whose weights ship and run, `learned` first where it does.

    Raises FornixError where there are none.
    """
    found: list[str] = [m for m in ("learned", "voxelwise") if m in estimates.learned()]
    if not found:
        listed = "; ".join(estimates.left_out())
        raise FornixError(
            f"this experiment asks the shipped estimators, and none runs here ({listed}); train them "
            "with `fornix train voxelwise`"
        )
    return found
