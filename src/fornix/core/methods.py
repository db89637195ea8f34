"""A stage's table of methods: the classical reference methods and ours, chosen by one word.

Someone who adds a method writes one function and one line in the stage's table; the command line,
the documentation, the generic tests and the benchmark read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fornix.core.compute import settle_threads
from fornix.core.errors import FornixError


@dataclass(frozen=True)
class Deferred:
    """A function that is imported when it is first called, for methods that are slow to load.

    place: `package.module:function`.
    """

    place: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, _, name = self.place.partition(":")
        return getattr(settle_threads(lambda: import_module(module)), name)(*args, **kwargs)


@dataclass(frozen=True)
class Method:
    """One entry of a stage's table.

    name: the word a user types after `--method`.
    run: the function that does it.
    summary: half a line for `--method help`.
    reference: the paper to cite.
    joint: `run` takes the whole scan and all models at once, not voxels of one.
    """

    name: str
    run: Callable[..., Any]
    summary: str
    reference: str = ""
    joint: bool = False


class MethodTable(Mapping[str, Method]):
    """The methods of one stage, in the order they are shown; the first is the default."""

    def __init__(self, stage: str, methods: list[Method]) -> None:
        self.stage = stage
        self._methods = {m.name: m for m in methods}

    @property
    def default(self) -> str:
        return next(iter(self._methods))

    def __getitem__(self, name: str) -> Method:
        if name not in self._methods:
            known = ", ".join(self._methods)
            raise FornixError(f"{self.stage} has no method {name!r}; choose one of: {known}")
        return self._methods[name]

    def named(self, word: str) -> Method:
        """The method of this name; `auto` is the default."""
        return self[self.default if word == "auto" else word]

    def __contains__(self, name: object) -> bool:
        return name in self._methods

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)

    def help(self) -> str:
        """One line per method, the default marked."""
        width = max(len(n) for n in self._methods)
        return "\n".join(
            f"{m.name:<{width}}  {m.summary}{' (default)' if m.name == self.default else ''}"
            + (f" [{m.reference}]" if m.reference else "")
            for m in self._methods.values()
        )
