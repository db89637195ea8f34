"""What statistics work on: a value of every subject at every node of every tract (or edge, or scalar)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError


@dataclass(frozen=True, eq=False)
class Measurements:
    """One map of a group of subjects.

    Attributes:
        subjects: (S,) their names; one appears again where it was measured again.
        tracts: (V,) tract of each column; columns of a tract are neighbours in the order of its nodes.
        nodes: (V,) node of each column.
        values: (S, V); NaN where there is none.
        std: (S, V) standard deviation of each value, or None.
        map: What was measured, for example `fa`.
        reasons: Why a subject has no value in a tract, by (subject, tract), where its table says so.
        sessions: (S,) session of each row, empty where there are none.
    """

    subjects: tuple[str, ...]
    tracts: tuple[str, ...]
    nodes: NDArray[np.int64]
    values: NDArray[np.float64]
    std: NDArray[np.float64] | None = None
    map: str = "value"
    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict)
    sessions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.subjects), len(self.tracts))
        if self.values.shape != shape or len(self.nodes) != shape[1]:
            raise FornixError(
                f"values of shape {self.values.shape} for {shape[0]} subjects and {shape[1]} nodes"
            )
        if self.std is not None and self.std.shape != shape:
            raise FornixError(f"standard deviations {self.std.shape} for values {shape}")

    def __repr__(self) -> str:
        return (
            f"Measurements({self.map}: {len(self.subjects)} rows, {len(self.spans())} tracts, "
            f"{len(self.tracts)} nodes)"
        )

    def spans(self) -> dict[str, slice]:
        """Columns of each tract."""
        out: dict[str, slice] = {}
        start = 0
        for i in range(1, len(self.tracts) + 1):
            if i == len(self.tracts) or self.tracts[i] != self.tracts[start]:
                if self.tracts[start] in out:
                    raise FornixError(f"the nodes of tract {self.tracts[start]} are not together")
                out[self.tracts[start]] = slice(start, i)
                start = i
        return out

    def rows(self, index: ArrayLike) -> Measurements:
        """Some of the rows, by indices or mask."""
        chosen = np.arange(len(self.subjects))[np.asarray(index)]
        return Measurements(
            tuple(self.subjects[i] for i in chosen), self.tracts, self.nodes, self.values[chosen],
            None if self.std is None else self.std[chosen], self.map, self.reasons,
            tuple(self.sessions[i] for i in chosen) if self.sessions else (),
        )  # fmt: skip

    def columns(self, index: Sequence[int] | NDArray[np.bool_]) -> Measurements:
        """Some of the columns."""
        chosen = np.arange(len(self.tracts))[np.asarray(index)]
        return Measurements(
            self.subjects, tuple(self.tracts[i] for i in chosen), self.nodes[chosen],
            self.values[:, chosen], None if self.std is None else self.std[:, chosen], self.map,
            self.reasons, self.sessions,
        )  # fmt: skip

    def tract_means(self) -> Measurements:
        """Mean over the nodes of each tract; its uncertainty as if the errors of nodes were one."""
        spans = self.spans()
        known = np.isfinite(self.values)
        values, stds = [], []
        for span in spans.values():
            n = known[:, span].sum(1)
            total = np.where(known[:, span], self.values[:, span], 0).sum(1)
            values.append(np.where(n > 0, total / np.maximum(n, 1), np.nan))
            if self.std is not None:
                error = np.where(known[:, span], self.std[:, span], 0).sum(1)
                stds.append(np.where(n > 0, error / np.maximum(n, 1), np.nan))
        return Measurements(
            self.subjects, tuple(spans), np.zeros(len(spans), np.int64), np.stack(values, 1),
            np.stack(stds, 1) if stds else None, self.map, self.reasons, self.sessions,
        )  # fmt: skip
