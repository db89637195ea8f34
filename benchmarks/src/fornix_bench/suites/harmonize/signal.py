"""Signals made alike: RISH of the encoder's features, fitted to some travelling heads and tried on others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.enhance.harmonization.combat import Combat, fit_combat
from fornix.enhance.harmonization.one_scan import noise_floor, with_one_channel
from fornix.enhance.harmonization.rish import Feature, energies, features_of, rescaled, told_by
from fornix.enhance.harmonization.rish_study import smoothed
from fornix.register.grids import Lattice
from fornix_bench.peers import rish
from fornix_bench.suites.harmonize.scanners import SCANNERS, Head, head, scan
from fornix_bench.suites.harmonize.travelling import HEADS, MAPS, METHODS, data_folder, tract_values
from fornix_bench.table import Row

Array = NDArray[np.float32]
#: The site with the richest protocol, which the others are made like.
REFERENCE = "S6"
#: Ways to make signals alike.
WAYS = ("one scan", "rish", "one scan, rish")
#: Sites with the same protocol.
_PAIR = (0, 7)


def signal_rows(quick: bool, seed: int) -> list[Row]:
    """A row per way, head, site, method and map, as `travelling.measured` has them, of half of the heads.

    Scales are per place on the grid of the slab, smooth over 8 mm: heads are deformed by 1.5 to 5 mm and not
    registered, which a study's are.
    """
    numbers = HEADS[:1] + HEADS[3:4] if quick else HEADS
    half = len(numbers) // 2
    sites = (0, 7) if quick else tuple(range(len(SCANNERS)))
    subjects = {n: head(data_folder(), n) for n in numbers}
    scans = {(n, j): _whole(subjects[n], j, [n, j, 0, seed]) for n in numbers for j in sites}
    alone = {key: with_one_channel(dwi, noise_floor(dwi)) for key, dwi in scans.items()}
    rows: list[Row] = []
    for n in numbers[half:]:
        for j in sites:
            rows += _rows("one scan", alone[n, j], subjects[n], n, j)
    for way, base in (("rish", scans), ("one scan, rish", alone)):
        model, grid = _fitted({(n, j): base[n, j] for n in numbers[:half] for j in sites}, sites)
        for n in numbers[half:]:
            for place, j in enumerate(sites):
                made = rescaled(base[n, j], _scales(model, place, grid))
                rows += _rows(way, made, subjects[n], n, j)
    return rows + _rival(scans, subjects, numbers, half)


def _whole(subject: Head, j: int, seed: list[int]) -> DWI:
    """The scan with all of the slab's brain in its mask."""
    return scan(subject, SCANNERS[j], seed).with_(mask=subject.anatomy.mask)


def _rows(way: str, dwi: DWI, subject: Head, number: int, j: int) -> list[Row]:
    about = {"way": way, "head": number, "site": SCANNERS[j].name, "repeat": 0}
    return [{**about, **r} for r in tract_values(dwi.with_(mask=subject.measured), subject)]


def _fitted(
    scans: Mapping[tuple[int, int], DWI], sites: tuple[int, ...]
) -> tuple[dict[Feature, tuple[Combat, NDArray[np.int64]]], Lattice]:
    """Shifts of the log energies of each site, told by heads that were at all of them."""
    features = features_of([scans[n, j].gradients for n, j in scans])
    found = {
        (n, j): energies(dwi, told_by(dwi.gradients, features, SCANNERS[j].name == REFERENCE))
        for (n, j), dwi in scans.items()
    }
    names = [f"S{j + 1}" for _, j in scans]
    heads = [str(n) for n, _ in scans]
    any_scan = next(iter(scans.values()))
    out = {}
    for feature in features:
        empty = np.full(any_scan.grid, np.nan, np.float32)
        flat = np.stack([e.get(feature, empty).reshape(-1) for e in found.values()])
        able = np.isfinite(flat).any(1)
        there = np.flatnonzero(np.isfinite(flat[able]).all(0))
        values = np.log(flat[:, there]).astype(float)
        model = fit_combat(
            values,
            names,
            np.zeros((len(values), 0)),
            scale=False,
            heads=heads,
            reference=REFERENCE if REFERENCE in names else None,
        )
        out[feature] = (model, there)
    return out, Lattice(any_scan.affine, any_scan.grid)


def _scales(
    model: Mapping[Feature, tuple[Combat, NDArray[np.int64]]], place: int, grid: Lattice
) -> dict[Feature, Array]:
    out = {}
    for feature, (combat, there) in model.items():
        values, known = (np.zeros(int(np.prod(grid.shape)), np.float32) for _ in range(2))
        values[there], known[there] = -0.5 * combat.sigma * combat.gamma[place], 1
        if values.any():
            out[feature] = smoothed(values.reshape(grid.shape), known.reshape(grid.shape), grid)
    return out


def _rival(
    scans: Mapping[tuple[int, int], DWI],
    subjects: Mapping[int, Head],
    numbers: tuple[int, ...],
    half: int,
) -> list[Row]:
    """The published way between the two sites that share a protocol: the second made like the first."""
    one, two = _PAIR
    told = [[rish.features(scans[n, j]) for n in numbers[:half]] for j in (two, one)]
    scale = rish.scales(*told)
    rows = []
    for n in numbers[half:]:
        rows += _rows("published", rish.harmonized(scans[n, two], scale), subjects[n], n, two)
    return rows


def summary(raw: list[Row], made: list[Row]) -> list[Row]:
    """Variation between sites, all eight and the two of one protocol, as measured and by each way.

    Args:
        raw: From `travelling.measured`.
        made: From `signal_rows`.
    """
    heads = sorted({r["head"] for r in made})
    first = [r for r in raw if r["repeat"] == 0 and r["head"] in heads]
    pair = [f"S{j + 1}" for j in _PAIR]
    rows: list[Row] = []
    for method in METHODS:
        for which in MAPS:
            plain = [r for r in first if r["method"] == method and r["map"] == which]
            mine = [r for r in made if r["method"] == method and r["map"] == which]
            by_way = {"raw": plain} | {w: [r for r in mine if r["way"] == w] for w in WAYS}
            row: Row = {"maps": method, "map": which}
            row |= {f"eight sites: {w}, %": _cv(found) for w, found in by_way.items()}
            # The published way makes the second site like the first, which stays as it is.
            by_way["published"] = [r for r in mine if r["way"] == "published"]
            by_way["published"] += [r for r in plain if r["site"] == pair[0]]
            for way, found in by_way.items():
                row[f"S1, S8: {way}, %"] = _cv([r for r in found if r["site"] in pair])
            rows.append(row)
    return rows


def _cv(rows: list[Row]) -> float:
    """Coefficient of variation of a head's values between sites, root mean square over heads and tracts."""
    about = {"way", "head", "site", "repeat", "method", "map", "seconds"}
    heads = sorted({r["head"] for r in rows})
    variances = []
    for h in heads:
        mine = [r for r in rows if r["head"] == h]
        tracts = [t for t in mine[0] if t not in about]
        log = np.log([[r[t] for t in tracts] for r in mine])
        variances.append(log.var(0, ddof=1).mean())
    return 100 * float(np.sqrt(np.mean(variances)))
