"""The model of a comparison: a design matrix from a table and a formula, and the column that is tested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import patsy
from numpy.typing import NDArray

from fornix.core.errors import FornixError


@dataclass(frozen=True, eq=False)
class Design:
    """A linear model of subjects.

    Attributes:
        matrix: (S, P) with the intercept.
        names: (P,) of its columns.
        tested: Which column is tested.
        group: (S,) True for the second of two groups where the tested column is one, else None.
    """

    matrix: NDArray[np.float64]
    names: tuple[str, ...]
    tested: int
    group: NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        rows, columns = self.matrix.shape
        return f"Design({rows} rows, {', '.join(self.names)}; tested: {self.names[self.tested]} of {columns})"

    @property
    def nuisance(self) -> NDArray[np.float64]:
        """(S, P - 1) the columns that are not tested."""
        return np.delete(self.matrix, self.tested, axis=1)


def make_design(table: pd.DataFrame, formula: str, test: str | None = None) -> Design:
    """The design of a formula as in R, for example `group + age + C(site)`.

    Args:
        table: A row per subject, in the order of the measurements.
        formula: Its right side (patsy); the first term is tested unless `test` says another.
        test: Name of a term with one column, or of a column.

    Raises:
        FornixError: For a formula that does not fit the table, a missing value, a group of one, a singular
            matrix, fewer rows than columns.
    """
    formula = formula.split("~")[-1].strip()
    try:
        made = patsy.dmatrix(formula, table, NA_action="raise")
    except (patsy.PatsyError, NameError, KeyError, SyntaxError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "missing" in said.lower():
            holes = [str(c) for c in table if str(c) in formula and table[c].isna().any()]
            raise FornixError(
                f"the table has missing values in {', '.join(holes) or formula}; fill them or leave those "
                "subjects out"
            ) from None
        raise FornixError(
            f"the formula {formula!r} does not fit the table (columns {', '.join(map(str, table))}): {said}"
        ) from None
    info = made.design_info
    terms = [n for n in info.term_names if n != "Intercept"]
    if not terms:
        raise FornixError(f"the formula {formula!r} tests nothing; name a column of the table")
    matrix, names = np.asarray(made, np.float64), tuple(info.column_names)
    tested = _tested(info, terms, names, test)
    _check(matrix, names, tested, table, formula)
    column = matrix[:, tested]
    two = len(np.unique(column)) == 2
    return Design(matrix, names, tested, column == column.max() if two else None)


def _tested(
    info: patsy.DesignInfo, terms: list[str], names: tuple[str, ...], test: str | None
) -> int:
    word = test or terms[0]
    if word in names:
        return names.index(word)
    if word not in terms:
        raise FornixError(
            f"--test {word} is no term of the formula; there are: {', '.join(names[1:])}"
        )
    columns = range(len(names))[info.term_name_slices[word]]
    if len(columns) != 1:
        some = ", ".join(names[i] for i in columns)
        if not columns:
            raise FornixError(f"{word} has one value in all subjects: one group is empty")
        raise FornixError(f"{word} has several columns; choose one with --test: {some}")
    return columns[0]


def _check(
    matrix: NDArray[np.float64],
    names: tuple[str, ...],
    tested: int,
    table: pd.DataFrame,
    formula: str,
) -> None:
    rows, columns = matrix.shape
    if not np.isfinite(matrix).all():
        raise FornixError("the design holds values that are not finite; repair the table")
    if len(np.unique(matrix[:, tested])) < 2:
        raise FornixError(
            f"{names[tested]} has one value in all {rows} subjects: one group is empty, nothing to compare"
        )
    if rows <= columns:
        raise FornixError(
            f"{rows} subjects for {columns} columns of the design ({', '.join(names)}); at least "
            f"{columns + 1} are needed: leave covariates out"
        )
    scaled = matrix / np.maximum(np.linalg.norm(matrix, axis=0), 1e-300)
    if np.linalg.matrix_rank(scaled, tol=1e-8) < columns:
        kept: list[int] = []
        for i in range(columns):
            if np.linalg.matrix_rank(scaled[:, [*kept, i]], tol=1e-8) > len(kept):
                kept.append(i)
        extra = [n for i, n in enumerate(names) if i not in kept]
        raise FornixError(
            f"the design of {formula!r} is singular: {', '.join(extra)} is told by the other columns; leave "
            "it out"
        )
