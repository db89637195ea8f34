"""What other distributions add to the command line: benchmarks and experiments of `fornix-bench`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from fornix.core.errors import FornixError

Suites = Mapping[str, Callable[..., Any]]


def found(kind: str) -> Suites:
    """What `fornix-bench` offers.

    Args:
        kind: `suites` or `experiments`.

    Returns:
        Functions by name.

    Raises:
        FornixError: It is not installed; says how to install it.
    """
    for point in entry_points(group="fornix.benchmarks"):
        if point.name == kind:
            offered: Suites = point.load()
            return offered
    raise FornixError(
        f"{kind} are in the distribution fornix-bench, which is not installed; in a checkout of Fornix: "
        "pip install -c constraints.txt ./benchmarks"
    )


def named(kind: str, name: str) -> Callable[..., Any]:
    """One of them; `help` in place of a name lists them in the error."""
    offered = found(kind)
    if name not in offered:
        raise FornixError(f"no {kind[:-1]} {name!r}; choose one of: {', '.join(offered)}")
    return offered[name]
