"""One person against a reference: z along tracts, calibrated, with error controlled over all nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import patsy
from numpy.typing import NDArray
from scipy import stats

from fornix.analysis.measurements import Measurements
from fornix.core.errors import FornixError, tell


@dataclass(frozen=True, eq=False)
class Deviation:
    """How far one person is from a reference.

    Attributes:
        measurements: The person's row alone.
        expected: (V,) for a person of these covariates.
        low: (V,) of the 95% prediction interval.
        high: (V,) see `low`.
        z: (V,) standard normal for a person like the reference, whatever its size.
        p: (V,) of the node alone, two-sided.
        p_fwe: (V,) corrected over all nodes: rank of |z| among the largest |z| of each person of the
            reference, who is left out in turn.
        count: (V,) persons of the reference.
        reference: How many persons in all.
    """

    measurements: Measurements
    expected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    z: NDArray[np.float64]
    p: NDArray[np.float64]
    p_fwe: NDArray[np.float64]
    count: NDArray[np.int64]
    reference: int


def normative(
    measurements: Measurements, person: str, table: pd.DataFrame, formula: str = "1"
) -> Deviation:
    """Compare one person with all others of a table.

    A linear model of the covariates is fitted to the reference at each node; the person's deviation over
    its prediction error has a t distribution and is given as z (Crawford & Howell, The Clinical
    Neuropsychologist 1998, with covariates). For the correction over all nodes every person of the
    reference is compared with the rest of it in the same way (deleted residuals, closed form): if the
    person is one like them, its largest |z| has any rank among theirs with the same probability. The
    smallest corrected p is therefore 1 / (persons + 1).

    Args:
        measurements: Of the person and the reference.
        person: Its subject.
        table: A row per row of the measurements, with the covariates.
        formula: Covariates, for example `age + C(sex)`; the mean alone where absent.
    """
    if person not in measurements.subjects:
        raise FornixError(f"no subject {person} in the tables; there are: {_some(measurements)}")
    mine = np.array([s == person for s in measurements.subjects])
    if mine.sum() > 1:
        raise FornixError(f"{person} has {mine.sum()} sessions; give one")
    try:
        matrix = np.asarray(patsy.dmatrix(formula, table, NA_action="raise"), np.float64)
    except (patsy.PatsyError, NameError, KeyError, SyntaxError) as error:
        said = str(error).splitlines()[0]
        raise FornixError(f"the formula {formula!r} does not fit the table: {said}") from None
    values = measurements.values
    size = values.shape[1]
    out = {k: np.full(size, np.nan) for k in ("expected", "low", "high", "z", "p")}
    left_out = np.full((int((~mine).sum()), size), np.nan)
    known = np.isfinite(values)
    patterns, index = np.unique(known[~mine], axis=1, return_inverse=True)
    too_few = 0
    for i in range(patterns.shape[1]):
        columns = np.flatnonzero(index.ravel() == i)
        design = matrix[~mine][patterns[:, i]]
        rank = np.linalg.matrix_rank(design) if len(design) else 0
        if rank < design.shape[1] or len(design) < design.shape[1] + 3:
            too_few += len(columns)
            continue
        y = values[~mine][np.ix_(patterns[:, i], columns)]
        q, r = np.linalg.qr(design)
        df = len(design) - design.shape[1]
        residual = y - q @ (q.T @ y)
        total = (residual**2).sum(0)
        row = matrix[mine][0] @ np.linalg.inv(r)
        expected = row @ (q.T @ y)
        spread = np.sqrt(total / df * (1 + (row**2).sum()))
        t = (values[mine][0, columns] - expected) / spread
        half = stats.t.isf(0.025, df) * spread
        out["expected"][columns] = expected
        out["low"][columns], out["high"][columns] = expected - half, expected + half
        out["z"][columns] = _as_z(t, df)
        out["p"][columns] = 2 * stats.t.sf(np.abs(t), df)
        # Each of the reference against the others, without fitting anew.
        free = np.maximum(1 - (q**2).sum(1), 1e-9)[:, None]
        without = np.maximum(total - residual**2 / free, 1e-12 * total) / (df - 1)
        z = _as_z(residual / np.sqrt(without * free), df - 1)
        left_out[np.ix_(patterns[:, i], columns)] = z
    if too_few == size:
        raise FornixError(
            f"{int((~mine).sum())} persons are too few for a reference with {matrix.shape[1]} columns"
        )
    if too_few:
        tell(f"{too_few} nodes have too few persons in the reference and are left out")
    tops = np.where(np.isfinite(left_out), np.abs(left_out), 0).max(1)
    height = np.abs(out["z"])
    p_fwe = (1 + (tops[:, None] >= height).sum(0)) / (1 + len(tops))
    p_fwe = np.where(np.isfinite(height), p_fwe, np.nan)
    return Deviation(
        measurements.rows(mine), out["expected"], out["low"], out["high"], out["z"], out["p"], p_fwe,
        known[~mine].sum(0), len(tops),
    )  # fmt: skip


def _as_z(t: NDArray[np.float64], df: int) -> NDArray[np.float64]:
    """The standard normal quantile of a t value, exact in both tails."""
    return -np.sign(t) * stats.norm.ppf(np.maximum(stats.t.sf(np.abs(t), df), 1e-300))


def _some(measurements: Measurements) -> str:
    names = list(dict.fromkeys(measurements.subjects))
    return ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
