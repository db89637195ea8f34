"""Results of statistics as tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fornix.analysis.compare import Comparison
from fornix.analysis.measurements import Measurements
from fornix.analysis.normative import Deviation
from fornix.io.files import atomic
from fornix.io.sidecar import write_sidecar


def effect_table(found: Comparison) -> pd.DataFrame:
    """A row per node: effect with its interval, and every p."""
    made = found.measurements
    with np.errstate(invalid="ignore", divide="ignore"):
        percent = 100 * found.effect / np.abs(found.reference)
    return pd.DataFrame(
        {
            "tractID": made.tracts, "nodeID": made.nodes, "map": made.map, "n": found.count,
            "reference": found.reference, "effect": found.effect, "std": found.std,
            "low": found.low, "high": found.high, "percent": percent, "d": found.standardised,
            "t": found.t, "p": found.p, "q_fdr": found.q,
            **{f"p_{name}": p for name, p in found.p_fwe.items()},
            "significant": found.significant.astype(int),
        }
    )  # fmt: skip


def summary_table(found: Comparison) -> pd.DataFrame:
    """A row per tract: the smallest corrected p, where, the mean effect there, and who is missing."""
    made, rows = found.measurements, []
    for tract, span in made.spans().items():
        p = found.p_fwe[found.statistic][span]
        chosen = found.significant[span]
        where = chosen if chosen.any() else np.ones(len(p), bool)
        with np.errstate(invalid="ignore"):
            percent = 100 * found.effect[span] / np.abs(found.reference[span])
        rows.append(
            {
                "tractID": tract, "map": made.map, "n": int(found.count[span].max()),
                "missing": len(made.subjects) - int(found.count[span].max()),
                "p_fwe": _least(p), "nodes": _runs(made.nodes[span][chosen]),
                "effect": _mean(found.effect[span][where]), "percent": _mean(percent[where]),
                "d": _mean(found.standardised[span][where]),
                "reason": _reasons(made, tract, bool(np.isfinite(p).any())),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def deviation_table(found: Deviation) -> pd.DataFrame:
    """A row per node of one person."""
    made = found.measurements
    return pd.DataFrame(
        {
            "tractID": made.tracts, "nodeID": made.nodes, "map": made.map,
            "value": made.values[0], "expected": found.expected, "low": found.low,
            "high": found.high, "z": found.z, "p": found.p, "p_fwe": found.p_fwe, "n": found.count,
        }
    )  # fmt: skip


def write_table(path: Path, table: pd.DataFrame, fields: Mapping[str, Any] | None = None) -> Path:
    """Write a TSV, missing values as `n/a`, with a sidecar."""
    with atomic(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", float_format="%.6g")
    write_sidecar(path, dict(fields or {}))
    return path


def _least(p: NDArray[np.float64]) -> float:
    return float(np.nanmin(p)) if np.isfinite(p).any() else float("nan")


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _runs(nodes: NDArray[np.int64]) -> str:
    """Nodes as stretches: `12-30, 41`."""
    out = []
    for run in np.split(nodes, np.flatnonzero(np.diff(nodes) != 1) + 1):
        if len(run):
            out.append(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}")
    return ", ".join(out)


def _reasons(made: Measurements, tract: str, tested: bool) -> str:
    told = [r for (_, t), r in made.reasons.items() if t == tract]
    counts = {r: told.count(r) for r in dict.fromkeys(told)}
    words = [f"{r} ({n})" for r, n in counts.items()]
    return "; ".join(words if tested else ["too few subjects for the design", *words])
