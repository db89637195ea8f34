"""Harmonization by others: neuroHarmonize."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fornix.core.errors import FornixError

Array = NDArray[np.float64]


def neuroharmonize() -> Any:
    """The package, or a FornixError that says how to get it."""
    try:
        import neuroHarmonize as package
    except ImportError as missing:
        raise FornixError(
            "this needs neuroHarmonize, which asks for an older numpy than it needs: pip install --no-deps "
            "neuroHarmonize neuroCombat"
        ) from missing
    return package


def combat_learned(values: Array, sites: list[str], covariates: Array) -> tuple[Any, Array]:
    """Its model and the harmonized values, empirical Bayes, linear covariates.

    Pomponio et al., NeuroImage 208 (2020) 116450.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        model, made = neuroharmonize().harmonizationLearn(values, _table(sites, covariates))
    return model, np.asarray(made, float)


def combat_applied(model: Any, values: Array, sites: list[str], covariates: Array) -> Array:
    """Values of known sites by its model."""
    with contextlib.redirect_stdout(io.StringIO()):
        made = neuroharmonize().harmonizationApply(values, _table(sites, covariates), model)
    return np.asarray(made, float)


def _table(sites: list[str], covariates: Array) -> pd.DataFrame:
    columns = {f"c{i}": c for i, c in enumerate(covariates.T)}
    return pd.DataFrame({"SITE": sites, **columns})
