"""NODDI by tissue: how far it leans, how often its intervals hold, and what all voxels' errors share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fornix.core.gradients import Gradients
from fornix.physics.protocol import scheme
from fornix_bench.metrics import scores
from fornix_bench.suites.microstructure.accuracy import two_shells
from fornix_bench.suites.microstructure.estimates import Estimate, estimate, learned
from fornix_bench.suites.microstructure.populations import TestPopulation
from fornix_bench.table import Row

SNRS = (20.0, 40.0)
#: Of the size of the bias, and of how often the 90% interval holds (0.88 at least).
BIAS_GOALS = {"ndi": 0.02, "odi": 0.01}
HIGHEST = 0.92
_NAMES = ("noddi_ndi", "noddi_odi", "noddi_odiw", "noddi_fwf")
_REGIONS = ("white", "single", "crossing", "lesion")


def neurite_rows(populations: Sequence[TestPopulation], seed: int) -> list[Row]:
    """Bias, error, coverage of the 90% interval and shared error, by population, protocol, SNR and region.

    `ratio`: of the RMSE to that of the exact fit in the same voxels. `shared`: standard deviation that the
    region's voxels share; `mean_error`: size of the region's mean error over it, which is to be below 1.6 in
    nine of ten heads.
    """
    protocols: dict[str, Gradients] = {"ukb": scheme("ukb"), "6+12": two_shells(6, 12)}
    rows: list[Row] = []
    for population in populations:
        for label, gradients in protocols.items():
            for snr in SNRS:
                scan = population.scan(gradients, snr, seed + round(snr))
                found = {m: estimate(scan, m, ("noddi",)) for m in ("classical", *learned())}
                about: Row = {
                    "section": "neurites", "population": population.name, "protocol": label, "snr": snr,
                }  # fmt: skip
                for region in (r for r in _REGIONS if r in population.regions):
                    rows += _region(about, population, region, found)
    return rows


def _region(
    about: Row, population: TestPopulation, region: str, found: dict[str, Estimate]
) -> list[Row]:
    inside, rows = population.regions[region], []
    for method, one in found.items():
        for name in (n for n in _NAMES if n in one.values):
            true = population.truth[name][inside]
            row: Row = {**about, "region": region, "method": method, "param": name.split("_")[1]}
            row |= scores.errors(one.values[name][inside], true)
            exact = found["classical"].values.get(name)
            if exact is not None:
                row["ratio"] = row["rmse"] / scores.errors(exact[inside], true)["rmse"]
            low, high = (v[inside] for v in one.interval(name, 0.9))
            row["90%"] = scores.coverage(true, low, high)
            row["std"] = float(np.median(one.std[name][inside]))
            if name in one.shared:
                std = np.sqrt(np.mean(one.std[name][inside] ** 2))
                row["shared"] = one.shared[name] * float(std)
                row["mean_error"] = abs(row["bias"]) / row["shared"]
            rows.append(row)
    return rows
