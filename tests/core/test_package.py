"""The package's public names."""

from __future__ import annotations

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
