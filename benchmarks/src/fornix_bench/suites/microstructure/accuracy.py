"""Accuracy of microstructure on the test populations: errors, protocols never trained on, cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import Gradients
from fornix.physics.protocol import random_protocol, scheme, shells
from fornix_bench.metrics import scores
from fornix_bench.peers import microstructure as peers
from fornix_bench.suites.classical import CELLS
from fornix_bench.suites.microstructure.estimates import (
    PARAMS,
    REFERENCE,
    Estimate,
    estimate,
    learned,
    peer,
)
from fornix_bench.suites.microstructure.populations import Scan, TestPopulation
from fornix_bench.table import Row

#: A direction is scored where the true FA is above this.
DIRECTED = 0.3
#: Goals of the ratio of FA's RMSE to WLS by method and directions; in-distribution for single voxels.
FA_GOALS = {
    "voxelwise": {6: 0.80, 12: 0.85, 30: 0.90},
    "learned": {6: 0.55, 12: 0.60, 30: 0.70},
    "judge": {6: 0.60, 12: 0.72, 30: 0.82},
    "in-distribution": {6: 0.55, 12: 0.60, 30: 0.65},
}
BIAS_GOALS = {6: 0.02, 12: 0.01, 30: 0.01}
ANGLE_GOALS = {6: 0.85, 12: 1.0, 30: 1.0}

#: WLS's values moved along the best line to the truth of the same voxels: what shrinkage towards a
#: region's mean could reach if that mean, the spread of the truth and the noise were known.
ORACLE = "WLS on the truth's line"

TENSOR_PEERS: dict[str, peers.Peer] = {
    "DIPY WLS": peers.dipy_tensor("WLS"),
    "DIPY NLLS": peers.dipy_tensor("NLLS"),
    "DIPY RESTORE": peers.dipy_tensor("RESTORE"),
    "MRtrix3": peers.mrtrix_tensor,
}


def two_shells(first: int, second: int) -> Gradients:
    """One b0, `first` directions at b = 1000 and `second` at 2000."""
    return shells(1, (1000, first), (2000, second), seed=41)


def tensor_rows(
    populations: Sequence[TestPopulation],
    directions: Sequence[int],
    count: int,
    force: int,
    seed: int,
    skipped: list[str],
    snr: float = 20.0,
) -> list[Row]:
    """FA, MD and v1 of every method at b = 1000 with few directions, by population and region.

    count: voxels given to each peer (in the region that counts), which are slow; 0 leaves peers out.
    force: size of DIPY FORCE's library. `ratio` is to WLS on the same voxels.
    """
    rows: list[Row] = []
    for population in populations:
        for number in directions:
            gradients = scheme(f"dti{number}")
            scan = population.scan(gradients, snr, seed + number)
            about: Row = {"section": "tensor", "population": population.name, "directions": number}
            about["snr"] = snr
            methods = {m: estimate(scan, m) for m in (REFERENCE, "nlls", *learned())}
            base = methods[REFERENCE]
            every = np.ones(len(population), bool)
            for region, inside in population.regions.items():
                for name, found in {**methods, ORACLE: _lined(base, population, inside)}.items():
                    rows += _tensor(about, population, name, region, inside, found, base)
            if count and population is populations[0]:
                some = _some(population, count, seed)
                known = _thinned(base, some)
                for name, found in _peer_estimates(
                    TENSOR_PEERS | {"DIPY FORCE": peers.dipy_force(force)},
                    scan, some, "dti", snr, skipped,
                ):  # fmt: skip
                    inside = every[some]
                    rows += _tensor(
                        about, population, name, population.region, inside, found, known, some
                    )
    return rows


def random_rows(population: TestPopulation, count: int, seed: int) -> list[Row]:
    """FA and v1 against WLS with `count` random protocols and SNRs, in the region that counts."""
    rows: list[Row] = []
    inside = population.regions[population.region]
    for k in range(count):
        gradients = random_protocol(5000 + k, volumes=(7, 97), bmax=(700.0, 3000.0))
        rng = np.random.default_rng([seed, 5000 + k])
        snr = float(np.exp(rng.uniform(np.log(8), np.log(60))))
        scan = population.scan(gradients, snr, seed + 5000 + k)
        base = estimate(scan, REFERENCE)
        for name in ("nlls", *learned()):
            found = estimate(scan, name)
            row: Row = {
                "section": "random", "population": population.name, "protocol": 5000 + k, "method": name,
                "volumes": len(gradients), "bmax": float(gradients.bvals.max()),
                "shells": len(gradients.shells), "snr": snr,
            }  # fmt: skip
            for param in PARAMS["dti"]:
                row[f"{param}_ratio"] = ratio_of(param, population, inside, found, base)
            row["v1_ratio"] = angle_of(population, inside, found) / angle_of(
                population, inside, base
            )
            rows.append(row)
    return rows


def advanced_rows(
    populations: Sequence[TestPopulation],
    snrs: Sequence[float],
    count: int,
    seed: int,
    skipped: list[str],
) -> list[Row]:
    """Kurtosis and NODDI from 12 and 18 measurements, beside DIPY and AMICO with 90."""
    protocols = {"12": two_shells(6, 6), "18": two_shells(6, 12), "90": scheme("bench96")}
    others: dict[str, dict[str, peers.Peer]] = {
        "dki": {"DIPY DKI": peers.dipy_kurtosis},
        "noddi": {"AMICO": peers.amico_noddi},
    }
    rows: list[Row] = []
    for population in populations:
        models = [m for m in ("dki", "noddi") if f"{m}_{PARAMS[m][0]}" in population.truth]
        for snr in snrs:
            beside: dict[str, float] = {}
            made: list[Row] = []
            for label, gradients in protocols.items():
                scan = population.scan(gradients, snr, seed + int(label))
                some = _some(population, count, seed)
                about: Row = {"section": "advanced", "population": population.name, "snr": snr}
                about["measurements"] = int(label)
                found = {"classical": _thinned(estimate(scan, "classical", models), some)}
                found |= {m: _thinned(estimate(scan, m, models), some) for m in learned()}
                for name, one in found.items():
                    made += _scalars(about, population, name, one, models, some)
                if label != "90" or not count:
                    continue
                for model in models:
                    for name, one in _peer_estimates(
                        others[model], scan, some, model, snr, skipped
                    ):
                        lines = _scalars(about, population, name, one, [model], some)
                        beside |= {line["param"]: line["rmse"] for line in lines}
                        made += lines
            for row in made:
                if row["param"] in beside:
                    row["peer_90"] = beside[row["param"]]
                    row["ratio"] = row["rmse"] / row["peer_90"]
                    if row["method"] in learned() and row["measurements"] < 90:
                        row["goal"] = 1.0
            rows += made
    return rows


def cell_rows(populations: Sequence[TestPopulation], seed: int, snr: float = 20.0) -> list[Row]:
    """Bias and spread per cell of the true value: tensors at 6, 12, 30 directions, the others at 12+.

    All voxels of the brain, so that the rare values have voxels too.
    """
    protocols = {"dti6": scheme("dti6"), "dti12": scheme("dti12"), "dti30": scheme("dti30")}
    protocols |= {"2x6": two_shells(6, 6), "6+12": two_shells(6, 12)}
    rows: list[Row] = []
    for population in populations:
        for label, gradients in protocols.items():
            single = label.startswith("dti")
            models = ["dti"] if single else ["dki", "noddi"]
            scan = population.scan(gradients, snr, seed + 77)
            for method in (*(["classical"] if single else []), *learned()):
                found = estimate(scan, method, models)
                about = {
                    "section": "cells",
                    "population": population.name,
                    "protocol": label,
                    "snr": snr,
                }
                for name in found.values:
                    param = name.split("_")[1]
                    if name not in population.truth or param not in CELLS:
                        continue
                    true = population.truth[name]
                    for row in scores.cells(param, found.values[name], true, found.std.get(name)):
                        rows.append({**about, "method": method, **row})
    return rows


def _tensor(
    about: Row,
    population: TestPopulation,
    method: str,
    region: str,
    inside: NDArray[np.bool_],
    found: Estimate,
    base: Estimate,
    some: NDArray[np.int64] | None = None,
) -> list[Row]:
    """Rows of FA, MD and v1; `some`: the voxels of the population that the estimates are of."""
    number = about["directions"]
    rows: list[Row] = []
    for param in PARAMS["dti"]:
        true = _true(population, f"dti_{param}", some)[inside]
        row = {**about, "method": method, "region": region, "param": param}
        row |= scores.errors(found.values[f"dti_{param}"][inside], true)
        reference = scores.errors(base.values[f"dti_{param}"][inside], true)
        row["ratio"] = row["rmse"] / reference["rmse"]
        if param == "fa" and method in learned():
            alone = method == "voxelwise" or population.name == "random"  # nothing around to see
            inner = alone and population.name in ("subject", "random")
            judged = population.name == "trxscan" and method != "voxelwise"
            goals = FA_GOALS["in-distribution" if inner else "judge" if judged else method]
            row["goal"] = 1.0 if region == "lesion" else goals.get(number)
            row["bias_goal"] = BIAS_GOALS.get(number) if region == "white" else None
        rows.append(row)
    if "dti_v1" not in found.values:
        return rows
    row = {**about, "method": method, "region": region, "param": "v1"}
    row["n"] = int((_true(population, "dti_fa", some)[inside] > DIRECTED).sum())
    row["degrees"] = angle_of(population, inside, found, some)
    row["ratio"] = row["degrees"] / angle_of(population, inside, base, some)
    if method in learned():
        row["goal"] = ANGLE_GOALS.get(number)
    return [*rows, row]


def _lined(found: Estimate, population: TestPopulation, inside: NDArray[np.bool_]) -> Estimate:
    values = {}
    for name in (f"dti_{param}" for param in PARAMS["dti"]):
        slope, offset = np.polyfit(found.values[name][inside], population.truth[name][inside], 1)
        values[name] = slope * found.values[name] + offset
    return Estimate(values)


def _scalars(
    about: Row,
    population: TestPopulation,
    method: str,
    found: Estimate,
    models: Iterable[str],
    some: NDArray[np.int64],
) -> list[Row]:
    rows: list[Row] = []
    for model in models:
        for param in PARAMS[model]:
            name = f"{model}_{param}"
            if name in found.values and name in population.truth:
                row = {**about, "method": method, "param": param}
                rows.append(row | scores.errors(found.values[name], population.truth[name][some]))
    return rows


def _peer_estimates(
    runs: dict[str, peers.Peer],
    scan: Scan,
    some: NDArray[np.int64],
    model: str,
    snr: float,
    skipped: list[str],
) -> Iterable[tuple[str, Estimate]]:
    signals = np.ascontiguousarray(scan.dwi.signals()[some], dtype=np.float64)
    level = float(np.median(scan.sigma[scan.dwi.brain()]))
    for name, run in runs.items():
        if name == "DIPY RESTORE" and len(scan.dwi.gradients) < 9:
            skipped.append("DIPY RESTORE divides by zero where the tensor takes every volume")
            continue
        try:
            yield name, peer(run, signals, scan.dwi.gradients, level, model)
        except peers.PeerMissing as missing:
            if str(missing) not in skipped:
                skipped.append(str(missing))


def _true(
    population: TestPopulation, name: str, some: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    return population.truth[name] if some is None else population.truth[name][some]


def _some(population: TestPopulation, count: int, seed: int) -> NDArray[np.int64]:
    """At most `count` voxels of the region that counts; all of it for 0."""
    whole = np.flatnonzero(population.regions[population.region])
    if not count or count >= len(whole):
        return whole
    return np.sort(np.random.default_rng(seed).choice(whole, count, replace=False))


def _thinned(found: Estimate, some: NDArray[np.int64]) -> Estimate:
    values = {k: v[some] for k, v in found.values.items()}
    return Estimate(values, {k: v[some] for k, v in found.std.items()})


def ratio_of(
    param: str,
    population: TestPopulation,
    inside: NDArray[np.bool_],
    found: Estimate,
    base: Estimate,
) -> float:
    """RMSE of FA or MD in some voxels over that of another estimate."""
    name = f"dti_{param}"
    true = population.truth[name][inside]
    ours = scores.errors(found.values[name][inside], true)["rmse"]
    return float(ours / scores.errors(base.values[name][inside], true)["rmse"])


def angle_of(
    population: TestPopulation,
    inside: NDArray[np.bool_],
    found: Estimate,
    some: NDArray[np.int64] | None = None,
) -> float:
    """Mean angle of v1 in degrees where the true FA is above `DIRECTED`; nan where it nowhere is."""
    directed = inside & (_true(population, "dti_fa", some) > DIRECTED)
    if not directed.any():
        return float("nan")
    true = _true(population, "dti_v1", some)[directed]
    return float(scores.angles(found.values["dti_v1"][directed], true).mean())
