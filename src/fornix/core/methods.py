"""A stage's table of methods: the classical reference methods and ours, chosen by one word.

Someone who adds a method writes one function and one line in the stage's table, with what the method
can do. Command line, errors, documentation, generic tests and benchmarks read the table: nothing hangs
on a method's name.
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

    Attributes:
        place: `package.module:function`.
    """

    place: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Imports the target on the first call, and calls it."""
        module, _, name = self.place.partition(":")
        return getattr(settle_threads(lambda: import_module(module)), name)(*args, **kwargs)


@dataclass(frozen=True)
class Method:
    """One entry of a stage's table.

    Attributes:
        name: The word a user types after `--method`.
        run: The function that does it; its arguments are those of the stage.
        summary: Half a line for `--method help`.
        reference: The paper to cite.
        peer: The library that does the work, where it is not ours ("DIPY").
        weights: Name of the shipped weights that it needs; a network has some.
        whole_scan: `run` takes the whole scan and all models at once, not voxels of one.
        raw_noise: It judges the noise itself, so it reads the scan before denoising.
        quantiles: It gives calibrated quantiles.
        reference_b: Its tensor can be asked for at a b-value of choice.
        adapts: It can be fitted to the scan's own volumes.
        peak_probabilities: It says how probable each peak is.
        min_volumes: Fewer volumes than this it refuses.
        seedings: Of a tracker: the ways of seeding that it knows.
        regions: Of a tracker: it knows regions to include, exclude and stop in, and any end.
        own_tissue: Of a tracker: its network learned with tissue by the tensor alone, and gets that.
        angle: Of a tracker: largest turn per step where none is asked for, degrees.
    """

    name: str
    run: Callable[..., Any]
    summary: str
    reference: str = ""
    peer: str = ""
    weights: str = ""
    whole_scan: bool = False
    raw_noise: bool = False
    quantiles: bool = False
    reference_b: bool = False
    adapts: bool = False
    peak_probabilities: bool = False
    min_volumes: int = 0
    seedings: tuple[str, ...] = ()
    regions: bool = False
    own_tissue: bool = False
    angle: float = 0.0

    @property
    def network(self) -> bool:
        """Whether it is a network with shipped weights."""
        return bool(self.weights)

    def capabilities(self) -> tuple[str, ...]:
        """What it can do, in words, for tables of methods."""
        words = {
            "network": self.network,
            "whole scan": self.whole_scan,
            "quantiles": self.quantiles,
            "adapts to the scan": self.adapts,
            "peak probabilities": self.peak_probabilities,
            "regions": self.regions,
        }
        least = (f"{self.min_volumes} volumes or more",) if self.min_volumes else ()
        peer = (f"by {self.peer}",) if self.peer else ()
        return (*(word for word, has in words.items() if has), *least, *peer)


class MethodTable(Mapping[str, Method]):
    """The methods of one stage, in the order they are shown; the first is the default.

    Args:
        stage: Its name, as users know it.
        methods: In the order in which they are shown.
    """

    def __init__(self, stage: str, methods: list[Method]) -> None:
        self.stage = stage
        self._methods = {m.name: m for m in methods}

    @property
    def default(self) -> str:
        """The name that `auto` stands for."""
        return next(iter(self._methods))

    def __getitem__(self, name: str) -> Method:
        if name not in self._methods:
            known = ", ".join(self._methods)
            raise FornixError(f"{self.stage} has no method {name!r}; choose one of: {known}")
        return self._methods[name]

    def named(self, word: str) -> Method:
        """The method of this name; `auto` is the default."""
        return self[self.default if word == "auto" else word]

    def having(self, capability: str) -> tuple[str, ...]:
        """Names of the methods that have a capability, a field of `Method`."""
        return tuple(name for name, m in self._methods.items() if getattr(m, capability))

    def check(self, word: str, capability: str, option: str) -> None:
        """Refuse an option that a method cannot serve.

        Args:
            word: The method asked for, or `auto`.
            capability: The field of `Method` that the option needs.
            option: As the user typed it, for the message.

        Raises:
            FornixError: The method lacks it; says which methods have it.
        """
        method = self.named(word)
        if not getattr(method, capability):
            able = ", ".join(self.having(capability)) or "no method"
            raise FornixError(
                f"{option} does not go with the {self.stage} method {method.name}; leave {option} out, "
                f"or take one of: {able}"
            )

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
