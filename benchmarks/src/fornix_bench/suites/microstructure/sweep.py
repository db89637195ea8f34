"""The tensor against weighted least squares over the whole range: directions, shells and noise."""

from __future__ import annotations

from collections.abc import Sequence

from fornix.core.gradients import Gradients
from fornix.physics.protocol import shells
from fornix_bench.suites.microstructure.accuracy import angle_of, ratio_of
from fornix_bench.suites.microstructure.estimates import PARAMS, REFERENCE, estimate, learned
from fornix_bench.suites.microstructure.populations import TestPopulation
from fornix_bench.table import Row

DIRECTIONS = (6, 12, 30, 60, 90, 128, 256)
SNRS = (8.0, 20.0, 40.0, 60.0, 100.0)
#: b-values by number of shells; each holds an equal part of the directions, six at least.
LEVELS = {
    1: (1000.0,),
    2: (1000.0, 2000.0),
    3: (700.0, 1500.0, 2500.0),
    4: (500.0, 1000.0, 2000.0, 3000.0),
}
_FEWEST = 6


def protocols(counts: Sequence[int] = DIRECTIONS) -> dict[tuple[int, int], Gradients]:
    """Schemes by (directions, shells), one b0 for every ten directions."""
    made = {}
    for count in counts:
        for number, levels in LEVELS.items():
            if count // number >= _FEWEST:
                each = [(b, count // number) for b in levels]
                made[count, number] = shells(max(1, count // 10), *each, seed=43)
    return made


def sweep_rows(
    populations: Sequence[TestPopulation],
    seed: int,
    counts: Sequence[int] = DIRECTIONS,
    snrs: Sequence[float] = SNRS,
) -> list[Row]:
    """Ratios to WLS on the same data of FA's and MD's RMSE and v1's mean angle, in white matter."""
    rows: list[Row] = []
    for population in populations:
        inside = population.regions[population.region]
        for (count, number), gradients in protocols(counts).items():
            for snr in snrs:
                scan = population.scan(gradients, snr, seed + count + round(snr))
                base = estimate(scan, REFERENCE)
                for method in learned():
                    found = estimate(scan, method)
                    row: Row = {
                        "section": "sweep", "population": population.name, "method": method,
                        "directions": count, "shells": number, "snr": snr,
                    }  # fmt: skip
                    for param in PARAMS["dti"]:
                        row[f"{param}_ratio"] = ratio_of(param, population, inside, found, base)
                    angles = [angle_of(population, inside, one) for one in (found, base)]
                    rows.append(row | {"v1_ratio": angles[0] / angles[1]})
    return rows
