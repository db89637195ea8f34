"""Simulated voxels of many kinds with score and error: lesions, artefacts, other noise and tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import Gradients
from fornix.physics import Noise
from fornix_bench.metrics import scores
from fornix_bench.suites.microstructure.estimates import Estimate, estimate
from fornix_bench.suites.microstructure.populations import UNSEEN_NOISE, TestPopulation
from fornix_bench.suites.microstructure.uncertainty import with_artefacts
from fornix_bench.table import Row

#: What everything is compared with.
REFERENCE = "as trained: Rician noise"
#: Said of kinds that are parts of the first.
OF_FIRST = " (of the first)"
#: Its raised floor is not seen in a voxel and would outweigh all else: pooled apart.
FLOOR = "32 coils, sum of squares"
#: Other noise, and the factor on the noise level that the estimator is given.
NOISES: dict[str, tuple[Noise, float]] = {
    "8 coils, sum of squares": (Noise(coils=8), 1.0),
    FLOOR: (Noise(coils=32), 1.0),
    "4 correlated coils, spatially_vary_parameters, interpolated": (UNSEEN_NOISE, 1.0),
    "noise told half": (Noise(), 0.5),
    "noise told double": (Noise(), 2.0),
}
#: Edges of the score's bins, −log10 p.
BINS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, np.inf)
PARAMS = ("fa", "md")


@dataclass(frozen=True, eq=False)
class Group:
    """Voxels of one kind. score: (n,) −log10 p. error, std: by parameter (n,), nan without truth.

    outside: (n,) FA or MD outside its 99% interval (False without truth).
    """

    kind: str
    score: NDArray[np.float64]
    error: dict[str, NDArray[np.float64]]
    std: dict[str, NDArray[np.float64]]
    outside: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.score)


def groups(
    population: TestPopulation,
    other: TestPopulation,
    gradients: Gradients,
    method: str,
    snr: float,
    seed: int,
) -> list[Group]:
    """The reference first, then every other kind. other: a population of another tissue model."""
    calm = replace(population, noise=Noise())
    scan = calm.scan(gradients, snr, seed)
    found = estimate(scan, method)
    made = [_group(REFERENCE, found, population.truth)]
    for region, name in (("white", "healthy white matter"), ("lesion", "lesions")):
        if region in population.regions:
            made.append(_part(made[0], f"{name}{OF_FIRST}", population.regions[region]))
    for kind, (noise, factor) in NOISES.items():
        scan = replace(population, noise=noise).scan(gradients, snr, seed + 1)
        made.append(_group(kind, estimate(scan, method, sigma_factor=factor), population.truth))
    wet = replace(other, noise=Noise())
    made.append(_group("axons with exchange", estimate(wet.scan(gradients, snr, seed + 2), method),
                       other.truth))  # fmt: skip
    scan, kinds, truth = with_artefacts(calm, gradients, snr, seed + 3)
    whole = _group("with_artefacts", estimate(scan, method), truth)
    return made + [_part(whole, kind, marked) for kind, marked in kinds.items() if marked.any()]


def rows_of(found: Sequence[Group], about: Row) -> list[Row]:
    """One row per kind: score, errors, and how well the score tells it from the reference."""
    base = found[0]
    rows: list[Row] = []
    for group in found:
        row: Row = {**about, "section": "kind", "kind": group.kind, **auroc_row(group.score)}
        for param in PARAMS:
            error = group.error[param]
            if np.isfinite(error).any():
                row[f"{param}_rmse"] = float(np.sqrt(np.nanmean(error**2)))
                row[f"{param}_std"] = float(np.sqrt(np.nanmean(group.std[param] ** 2)))
        if np.isfinite(group.error["fa"]).any():
            row["outside 99%"] = float(group.outside.mean())
        if group is not base:
            both = np.r_[group.score, base.score]
            row["auroc"] = scores.auroc(both, np.arange(len(both)) < len(group))
        rows.append(row)
    return rows


def auroc_row(score: NDArray[np.float64]) -> Row:
    """n, mean of the score and the shares above 2 and 3."""
    return {
        "n": len(score), "mean score": float(score.mean()),
        "above 2": float((score > 2).mean()), "above 3": float((score > 3).mean()),
    }  # fmt: skip


def pooled(found: Sequence[Group], floor: bool) -> list[Group]:
    """The kinds with truth, each voxel once; with or without `FLOOR`."""
    return [
        g for g in found
        if OF_FIRST not in g.kind and np.isfinite(g.error["fa"]).any()
        and (floor or g.kind != FLOOR)
    ]  # fmt: skip


def binned(found: Sequence[Group], about: Row) -> list[Row]:
    """Errors of the voxels with truth but for `FLOOR`, by the height of their score."""
    whole = pooled(found, floor=False)
    score = np.concatenate([g.score for g in whole])
    outside = np.concatenate([g.outside for g in whole])
    error = {p: np.concatenate([g.error[p] for g in whole]) for p in PARAMS}
    std = {p: np.concatenate([g.std[p] for g in whole]) for p in PARAMS}
    rows: list[Row] = []
    for low, high in pairwise(BINS):
        inside = (score >= low) & (score < high) & np.isfinite(error["fa"])
        if inside.sum() < scores.FEWEST:
            continue
        row: Row = {**about, "section": "bin", "score": bin_name(low, high), "n": int(inside.sum())}
        for param in PARAMS:
            row[f"{param}_rmse"] = float(np.sqrt((error[param][inside] ** 2).mean()))
            row[f"{param}_std"] = float(np.sqrt((std[param][inside] ** 2).mean()))
        row["outside 99%"] = float(outside[inside].mean())
        rows.append(row)
    return rows


def wrong(found: Sequence[Group], about: Row, floor: bool) -> Row:
    """How well the score tells voxels outside their 99% interval from the others, kinds pooled."""
    whole = pooled(found, floor)
    score = np.concatenate([g.score for g in whole])
    outside = np.concatenate([g.outside for g in whole])
    error = np.abs(np.concatenate([g.error["fa"] for g in whole]))
    pool = "all" if floor else f"without {FLOOR}"
    return {
        **about, "section": "error", "pool": pool, "n": len(score),
        "outside 99%": float(outside.mean()), "auroc": scores.auroc(score, outside),
        "spearman with |FA error|": scores.spearman(score, error),
    }  # fmt: skip


def bin_name(low: float, high: float) -> str:
    """`0–0.5`, or `3 and more`."""
    return f"{low:g} and more" if np.isinf(high) else f"{low:g}–{high:g}"


def _group(kind: str, found: Estimate, truth: dict[str, NDArray[np.float64]]) -> Group:
    assert found.ood is not None
    error = {p: found.values[f"dti_{p}"] - truth[f"dti_{p}"] for p in PARAMS}
    std = {p: found.std[f"dti_{p}"] for p in PARAMS}
    outside = np.zeros(len(found.ood), bool)
    for param in PARAMS:
        low, high = found.interval(f"dti_{param}", 0.99)
        true = truth[f"dti_{param}"]
        outside |= (true < low) | (true > high)
    return Group(kind, found.ood, error, std, outside)


def _part(group: Group, kind: str, inside: NDArray[np.bool_]) -> Group:
    error = {p: v[inside] for p, v in group.error.items()}
    std = {p: v[inside] for p, v in group.std.items()}
    return Group(kind, group.score[inside], error, std, group.outside[inside])
