"""The goals of learned microstructure, each as one line: what was found at worst, and the goal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fornix_bench.suites.microstructure.estimates import learned
from fornix_bench.suites.microstructure.neurites import BIAS_GOALS, HIGHEST
from fornix_bench.suites.microstructure.repeat import SPREAD_GOAL
from fornix_bench.suites.microstructure.uncertainty import (
    AUROC_GOAL,
    COVERAGE_GOAL,
    SPEARMAN_GOAL,
    pooled,
)
from fornix_bench.table import Row


def met(value: float | None, goal: float | None) -> str | None:
    """`yes` where the value is at most the goal, `no` elsewhere (nan too); None without either."""
    if goal is None or value is None:
        return None
    return "yes" if value <= goal else "no"


def glance(rows: Sequence[Row]) -> list[Row]:
    """One row per method and goal: the worst figure of all rows to which the goal applies."""
    made: list[Row] = []
    for method in learned():
        mine = [r for r in rows if r.get("method") == method]
        made += [{"method": method, **line} for line in _lines(mine)]
    return made


def _lines(rows: list[Row]) -> list[Row]:
    def of(section: str, **wanted: object) -> list[Row]:
        found = (r for r in rows if r["section"] == section)
        return [r for r in found if all(r.get(k) == v for k, v in wanted.items())]

    made: list[Row] = []
    for number in sorted({r["directions"] for r in of("tensor")}):
        for population in dict.fromkeys(r["population"] for r in of("tensor")):
            here = of("tensor", directions=number, population=population)
            about = f"{population}, {number} directions"
            fa = [r for r in here if r["param"] == "fa"]
            made += _most(f"FA RMSE / WLS, {about}", _main(fa))
            made += _most(f"same in lesions, {about}", [r for r in fa if r["region"] == "lesion"])
            made += _most(
                f"size of the FA bias, {about}", fa, lambda r: abs(r["bias"]), "bias_goal"
            )
            angle = [r for r in here if r["param"] == "v1"]
            made += _most(f"v1 angle / WLS, {about}", _main(angle))
    for param, label in (("fa", "FA RMSE"), ("v1", "v1 angle")):
        worst = [{"ratio": r[f"{param}_ratio"], "goal": 1.0} for r in of("random")]
        made += _most(f"{label} / WLS, worst of {len(worst)} random protocols", worst)
    for param in ("fa", "v1"):
        for population in dict.fromkeys(r["population"] for r in of("sweep")):
            ratios = [r[f"{param}_ratio"] for r in of("sweep", population=population)]
            label = (
                f"{param} / WLS, {population}, worst of {len(ratios)} cells, 6 to 256 directions"
            )
            made.append(_line(label, max(ratios), 1.0))
    made += _neurites([r for r in of("neurites") if r["region"] != "lesion"])
    for param in dict.fromkeys(r["param"] for r in of("advanced")):
        for number in (12, 18):
            here = of("advanced", param=param, measurements=number)
            made += _most(f"{param.upper()} RMSE from {number} / peer with 90", here)
    cells = of("cells")
    if cells:
        share = sum(r["share"] < 0.5 for r in cells) / len(cells)
        made.append(_at_least("share of cells with a bias under half the spread", share, 0.9))
    calibrated = pooled([*of("coverage"), *of("rank")])
    for param in dict.fromkeys(r["param"] for r in calibrated):
        here = [r for r in calibrated if r["param"] == param and 0.8 <= r["sigma_factor"] <= 1.2]
        miss = max(r["miss"] for r in here)
        made.append(_line(f"coverage of {param.upper()}, worst miss", miss, COVERAGE_GOAL))
        rank = min(r["spearman"] for r in here)
        made.append(_at_least(f"Spearman of {param.upper()}", rank, SPEARMAN_GOAL))
    unusual = [r for r in of("ood") if r.get("goal")]
    for kind in dict.fromkeys(r["kind"] for r in unusual):
        worst_score = min(r["auroc"] for r in unusual if r["kind"] == kind)
        made.append(_at_least(f"AUROC, {kind}", worst_score, AUROC_GOAL))
    for row in of("speed"):
        made.append(_at_least("voxels per second", row["voxels_per_s"], row["goal"]))
        made.append(_line("peak memory, MB", row["peak_mb"], 2000.0))
        for column, goal in (("times_amico", 10.0), ("times_dipy", 30.0)):
            if column in row:
                made.append(_at_least(column.replace("_", " "), row[column], goal))
    for row in (r for r in of("repeat") if r.get("goal")):
        made.append(_line(f"cv / WLS, {row['pair']}", row["cv_ratio"], row["goal"]))
        made.append(_at_least(f"spread / WLS, {row['pair']}", row["spread_ratio"], SPREAD_GOAL))
    return made


def _neurites(rows: Sequence[Row]) -> list[Row]:
    """Worst bias, ratio and coverage by population and parameter, white matter."""
    made: list[Row] = []
    for population in dict.fromkeys(r["population"] for r in rows):
        for param in ("ndi", "odi", "odiw"):
            here = [r for r in rows if r["population"] == population and r["param"] == param]
            about = f"{param.upper()}, {population}, white matter"
            goal = BIAS_GOALS.get(param)
            if here and goal is not None:
                made.append(_line(f"bias of {about}", max(abs(r["bias"]) for r in here), goal))
                made.append(_line(f"RMSE / exact fit, {about}", max(r["ratio"] for r in here), 1.0))
            if here:
                off = max(abs(r["90%"] - 0.9) for r in here)
                made.append(_line(f"90% interval off by, {about}", off, HIGHEST - 0.9))
    return made


def _main(rows: Sequence[Row]) -> list[Row]:
    """White matter; the brain where it is not known."""
    regions = {r["region"] for r in rows}
    return [r for r in rows if r["region"] == ("white" if "white" in regions else "brain")]


def _most(
    label: str,
    rows: Sequence[Row],
    value: Callable[[Row], float] = lambda r: r["ratio"],
    goal: str = "goal",
) -> list[Row]:
    """The row whose value is the largest, of those that have this goal; nothing without any."""
    here = [r for r in rows if r.get(goal) is not None and "ratio" in r]
    if not here:
        return []
    worst = max(here, key=value)
    return [_line(label, value(worst), worst[goal])]


def _line(label: str, found: float, goal: float) -> Row:
    return {"what": label, "found": found, "goal": f"<= {goal:g}", "met": met(found, goal)}


def _at_least(label: str, found: float, goal: float) -> Row:
    return {
        "what": label, "found": found, "goal": f">= {goal:g}",
        "met": "yes" if found >= goal else "no",
    }  # fmt: skip
