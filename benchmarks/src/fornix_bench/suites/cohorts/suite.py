"""`fornix bench cohorts`: error rates and power of comparisons along tracts, on cohorts of known truth."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.analysis.compare import STATISTICS, compare
from fornix.analysis.design import make_design
from fornix.core.compute import use_threads
from fornix_bench.suites.cohorts.simulation import (
    STRETCHES,
    TRACTS,
    CohortSpec,
    affected,
    cohort,
)
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

#: Cohorts of each kind: name, how it is drawn, how many.
KINDS: dict[str, tuple[CohortSpec, int]] = {
    "no effect": (CohortSpec(), 500),
    "no effect, second group twice as noisy": (CohortSpec(noise_ratio=2.0), 150),
    "2%": (CohortSpec(effect=0.02), 100),
    "5%": (CohortSpec(effect=0.05), 100),
}
PERMUTATIONS, ALPHA = 500, 0.05
FDR, FDR_WEIGHTED = "t-tests, FDR", "weighted t-tests, FDR"


def run_cohorts(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Write cohorts.csv and cohorts.md into `out`; quick: four cohorts of each kind."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with use_threads(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind, (spec, count) in KINDS.items():
            found = [
                _one(spec, seed + 10_000 * len(rows) + i) for i in range(4 if quick else count)
            ]
            rows += _rates(kind, spec, found)
    write_csv(folder / "cohorts.csv", rows)
    _page(folder / "cohorts.md", rows, threads, seed)
    return rows


def _one(spec: CohortSpec, seed: int) -> dict[str, NDArray[np.bool_]]:
    """(V,) significant nodes of a cohort by method."""
    made, table = cohort(spec, seed)
    design = make_design(table, "group + age")
    out = {}
    for weighted in (True, False):
        found = compare(made, design, weighted=weighted, permutations=PERMUTATIONS, seed=seed)
        for name in STATISTICS:
            word = "weighted" if weighted else "unweighted"
            out[f"{name}, {word}"] = found.p_fwe[name] <= ALPHA
        out[FDR_WEIGHTED if weighted else FDR] = found.q <= ALPHA
    return out


def _rates(kind: str, spec: CohortSpec, found: list[dict[str, NDArray[np.bool_]]]) -> list[Row]:
    true = affected(spec.nodes) if spec.effect else np.zeros(len(TRACTS) * spec.nodes, bool)
    tract = np.repeat(np.arange(len(TRACTS)), spec.nodes)
    rows = []
    for method in found[0]:
        said = np.stack([f[method] for f in found])
        row: dict[str, Any] = {"cohorts": kind, "method": method, "count": len(said)}
        false = said[:, ~true].any(1)
        row["false alarm"], row["false alarm se"] = _share(np.asarray(false))
        if spec.effect:
            row["nodes found"], row["nodes found se"] = _mean(said[:, true].mean(1))
            per = [(said & true & (tract == TRACTS.index(name))).any(1) for name in STRETCHES]
            row["stretches found"], row["stretches found se"] = _mean(np.mean(per, 0))
            row.update({name: float(hit.mean()) for name, hit in zip(STRETCHES, per)})
        rows.append(row)
    return rows


def _share(hits: NDArray[np.bool_]) -> tuple[float, float]:
    p = float(hits.mean())
    return p, float(np.sqrt(p * (1 - p) / len(hits)))


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _page(path: Path, rows: list[Row], threads: int, seed: int) -> None:
    blocks = [
        f"{environment(threads, seed)}.",
        "Made by `fornix bench cohorts`.",
        "30 + 30 subjects, FA at 50 nodes of 20 tracts, age as a covariate. Subjects differ smoothly along "
        "a tract (0.025 FA) and in their level (0.010); measurements have noise of 0.025 FA in the median, "
        "six times as much at the 90th percentile of subjects as at the 10th, and come with standard "
        "deviations that are wrong by 15%. Permutations: 500. `tfce`, `mass` and "
        "`max`: the statistic whose maximum over all tracts is permuted, `max` being t of the node alone; "
        "weighted by 1 / (tau² + s²), or not. `t-tests, FDR`: node by node and Benjamini and Hochberg, as "
        "pyAFQ's users do; where there is an effect it allows false alarms by its definition. "
        "All see the same "
        "cohorts. Real scans may differ from these, and statistics voxel by voxel are not compared.",
        "## Without an effect",
        "Share of cohorts with any significant node (5% is asked for), with its standard error.",
    ]
    columns = ("method", "count", "false alarm", "false alarm se")
    for kind, (spec, _) in KINDS.items():
        mine = [r for r in rows if r["cohorts"] == kind]
        if not spec.effect:
            blocks += [f"### {kind}", markdown(mine, columns)]
    stretches = ", ".join(f"{n} ({a:.0%} to {b:.0%})" for n, (a, b) in STRETCHES.items())
    blocks += [
        "## With an effect",
        f"FA of the second group is lower in stretches of five tracts: {stretches}. `nodes found`: share of "
        "their nodes that are significant; `stretches found`: share of stretches with one or more; `false "
        "alarm`: cohorts with any significant node elsewhere (beside a stretch too).",
    ]
    more = ("nodes found", "nodes found se", "stretches found", *STRETCHES, "false alarm")
    for kind, (spec, _) in KINDS.items():
        mine = [r for r in rows if r["cohorts"] == kind]
        if spec.effect:
            blocks += [f"### Effect of {kind}", markdown(mine, ("method", "count", *more))]
    write_page(path, "Group statistics along tracts", blocks)
