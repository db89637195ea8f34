"""What is to be kept of people's differences: columns of a table as a design that can be frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import patsy
from numpy.typing import NDArray

from fornix.core.errors import FornixError

#: Knots of a smooth covariate, its ends included.
_KNOTS = 5


@dataclass(frozen=True)
class Covariate:
    """One column whose effect is kept.

    Attributes:
        name: Of the column.
        kind: `linear`, `smooth` (a natural cubic spline) or `category`.
        centre: Mean of the rows that it was made from; numbers only.
        low: Their range; numbers only.
        high: See `low`.
        knots: Of a spline, the ends included.
        levels: Of a category; the first is the reference.
    """

    name: str
    kind: str
    centre: float = 0.0
    low: float = 0.0
    high: float = 0.0
    knots: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, values: pd.Series, smooth: bool = False) -> Covariate:
        """A covariate from the rows that a model is fitted to.

        Raises:
            FornixError: It has one value, or is to be smooth and is no number or has too few values.
        """
        if not pd.api.types.is_numeric_dtype(values):
            if smooth:
                raise FornixError(f"--smooth {name} is no column of numbers; leave it out")
            levels = tuple(sorted(set(values.astype(str))))
            if len(levels) < 2:
                raise FornixError(
                    f"the covariate {name} has one value ({levels[0]}) in all rows; leave it out"
                )
            return cls(name, "category", levels=levels)
        x = values.to_numpy(float)
        low, high = float(x.min()), float(x.max())
        if low == high:
            raise FornixError(
                f"the covariate {name} has one value ({low:g}) in all rows; leave it out"
            )
        knots: tuple[float, ...] = ()
        if smooth:
            places = np.unique(np.quantile(x, np.linspace(0, 1, _KNOTS)))
            if len(places) < _KNOTS:
                raise FornixError(
                    f"--smooth {name} has too few different values for a spline; leave --smooth out"
                )
            knots = tuple(float(k) for k in places)
        return cls(name, "smooth" if smooth else "linear", float(x.mean()), low, high, knots)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns in the design."""
        if self.kind == "linear":
            return (self.name,)
        if self.kind == "smooth":
            return tuple(f"{self.name} s{i}" for i in range(1, len(self.knots)))
        return tuple(f"{self.name}[{level}]" for level in self.levels[1:])

    def design(self, values: pd.Series) -> NDArray[np.float64]:
        """Its columns for other rows, (S, columns).

        Raises:
            FornixError: A category that it does not know.
        """
        if self.kind == "category":
            text = values.astype(str)
            strange = sorted(set(text) - set(self.levels))
            if strange:
                raise FornixError(
                    f"{self.name} has the value {strange[0]!r}, which the model does not know; it knows: "
                    f"{', '.join(self.levels)}"
                )
            return np.stack([(text == level).to_numpy(float) for level in self.levels[1:]], 1)
        x = values.to_numpy(float)
        if self.kind == "linear":
            return (x - self.centre)[:, None]
        inner, low, high = np.array(self.knots[1:-1]), self.knots[0], self.knots[-1]
        # The spline's columns add up to 1, as the intercept does: the first is left out.
        formula = "cr(x, knots=inner, lower_bound=low, upper_bound=high) - 1"
        both = np.append(x, self.centre)
        made = np.asarray(
            patsy.dmatrix(formula, {"x": both, "inner": inner, "low": low, "high": high})
        )
        return np.asarray(made[:-1, 1:] - made[-1:, 1:])

    def outside(self, values: pd.Series) -> NDArray[np.bool_]:
        """(S,) rows beyond the range that it was made from."""
        if self.kind == "category":
            return np.zeros(len(values), bool)
        x = values.to_numpy(float)
        return (x < self.low) | (x > self.high)

    def as_json(self) -> dict[str, Any]:
        """Fields for a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Covariate:
        """From the fields of a file."""
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()
        }
        return cls(**plain)


def make_covariates(
    table: pd.DataFrame, names: Sequence[str], smooth: Sequence[str] = ()
) -> tuple[Covariate, ...]:
    """Covariates of the rows that a model is fitted to.

    Args:
        table: A row per scan.
        names: Columns whose effect is kept.
        smooth: Those of them that are kept as a spline.
    """
    strange = [n for n in (*names, *smooth) if n not in table]
    if strange:
        raise FornixError(
            f"the table has no column {strange[0]}; it has: {', '.join(map(str, table))}"
        )
    every = list(dict.fromkeys((*names, *smooth)))
    return tuple(Covariate.of(name, table[name], name in smooth) for name in every)


def design_of(covariates: Sequence[Covariate], table: pd.DataFrame) -> NDArray[np.float64]:
    """(S, P) columns of all covariates for these rows; numbers are centred, so that 0 is the mean person."""
    lacking = [c.name for c in covariates if c.name not in table]
    if lacking:
        raise FornixError(
            f"the table has no column {lacking[0]}, whose effect the model keeps; add it for every row"
        )
    if not covariates:
        return np.zeros((len(table), 0))
    return np.concatenate([c.design(table[c.name]) for c in covariates], 1)


def column_names(covariates: Sequence[Covariate]) -> tuple[str, ...]:
    """Names of the design's columns."""
    return tuple(name for c in covariates for name in c.columns)
