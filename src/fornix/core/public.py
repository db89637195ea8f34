"""Names of a package that are imported when first used, so that importing the package takes no time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def on_first_use(
    package: str, places: Mapping[str, str], *others: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package (PEP 562).

    Not for a function that is named like a module of its package: once that is imported, it stands there.

    Args:
        package: Its name, for the error.
        places: The module of each public name; of a module itself its own.
        others: Public names that are there already.
    """
    names = sorted([*places, *others])

    def getter(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"{package} has no {name!r}; public names: {', '.join(names)}")
        module = import_module(places[name])
        return module if places[name] == f"{package}.{name}" else getattr(module, name)

    return getter, lambda: names
