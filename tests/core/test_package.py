"""The package's public names."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

import fornix


def test_functions_keep_their_names_after_their_packages_are_imported():
    import fornix.estimators.microstructure
    import fornix.report

    assert callable(fornix.microstructure)
    assert fornix.microstructure.__name__ == "microstructure"
    assert all(callable(getattr(fornix, name)) for name in fornix.__all__ if name != "__version__")


def test_unknown_names_are_said():
    with pytest.raises(AttributeError, match="public names"):
        fornix.nothing  # noqa: B018


@pytest.mark.parametrize(
    "name", ["fornix", "fornix.physics", "fornix.physics.scanner", "fornix.report", "fornix.workflow.stages"]
)  # fmt: skip
def test_names_imported_when_first_used_are_all_there(name):
    package = import_module(name)
    modules = {m.name for m in pkgutil.iter_modules(package.__path__)}
    places = package._PUBLIC
    hidden = {n for n in modules & set(places) if places[n] != f"{name}.{n}"}
    assert not hidden  # the module would stand where the function should
    assert set(package.__all__) - {"__version__"} == set(places)
    assert all(getattr(package, n) is not None for n in places)
    assert set(dir(package)) == set(package.__all__)
