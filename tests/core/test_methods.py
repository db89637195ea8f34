"""The table of methods and its late imports."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from fornix.core.errors import FornixError
from fornix.core.methods import Deferred, Method, MethodTable

ROOT = Path(__file__).parents[2]


def late_imports() -> list[tuple[str, str]]:
    """Module that imports late, and what it imports."""
    found = []
    for file in sorted((ROOT / "src/fornix").rglob("*.py")):
        inside = ".".join(file.relative_to(ROOT / "src").with_suffix("").parts)
        found += [
            (inside, place) for place in re.findall(r'Deferred\(\s*"([\w.:]+)"', file.read_text())
        ]
    return found


def layer(module: str) -> int:
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ][0]["layers"]
    package = module.split(".")[1]
    return next(i for i, names in enumerate(layers) if package in names.split(" | "))


def test_late_imports_keep_the_direction_of_imports():
    assert late_imports()
    for inside, place in late_imports():
        module, _, name = place.partition(":")
        assert callable(getattr(import_module(module), name)), place
        assert layer(module) >= layer(inside), f"{inside} reaches up to {place}"


def table() -> MethodTable:
    return MethodTable("fit", [
        Method("plain", lambda x: x, "As it is.", "none"),
        Method("net", Deferred("math:sqrt"), "Root.", "none", weights="w", adapts=True),
    ])  # fmt: skip


def test_a_word_that_is_no_method_is_refused_with_those_that_are():
    with pytest.raises(FornixError, match="plain") as caught:
        table().named("plan")
    assert "\n" not in str(caught.value)


def test_a_capability_is_asked_for_by_name():
    known = table()
    assert known.having("adapts") == ("net",)
    known.check("net", "adapts", "--adapt")
    with pytest.raises(FornixError, match="leave --adapt out, or take one of: net"):
        known.check("plain", "adapts", "--adapt")


def test_a_late_import_is_called():
    assert table()["net"].run(9.0) == 3.0
