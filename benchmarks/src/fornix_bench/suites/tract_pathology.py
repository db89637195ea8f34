"""Tracts beside cavities and masses: what is found, what is said, what is invented.

A section of `fornix bench segmentation`. Every head is scanned three times: with a cavity, with a mass that
pushes and replaces, with one that pushes and infiltrates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.estimators.mask import brain_mask
from fornix.physics.anatomy import CAVITY, Anatomy, random_site, vary, with_cavity, with_mass
from fornix.physics.phantom import simulate
from fornix.register.features import Features
from fornix.register.warp import Warp
from fornix.tracts.evidence import STATIONS, station_of
from fornix.tracts.methods import TRACT_METHODS
from fornix.tracts.segment import TractMaps, segment_tracts
from fornix_bench.table import Row

#: Heads; those that the network learned from are numbered from 100.
HEADS = (701, 702, 703, 704, 705, 706)
#: A tract is cut where less than the first share of a station is left, whole with more than the second.
CUT, WHOLE = 0.15, 0.97

Placed = Callable[[DWI], tuple[Features, Warp, float]]


def kinds(head: Anatomy, seed: int) -> dict[str, tuple[Anatomy, Anatomy]]:
    """The head with each pathology, and the same before anything was lost."""
    site = random_site(head, seed)
    pushed = with_mass(head, site, push=0.6, infiltrating=True, seed=seed)
    return {
        "cavity": (head, with_cavity(head, site, seed)),
        "mass, replacing": (pushed, with_mass(head, site, push=0.6, seed=seed)),
        "mass, infiltrating": (pushed, pushed),
    }


def pathology(base: Anatomy, placed: Placed, quick: bool, seed: int) -> list[Row]:
    """A row for each pathology and method, over all heads."""
    kept: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in HEADS[:1] if quick else HEADS:
        head = vary(base, number + seed)
        for kind, (before, after) in kinds(head, number + seed).items():
            dwi = brain_mask(simulate(after, "dti30", snr=20.0, seed=number + seed).dwi)
            seen, warp, _ = placed(dwi)
            for method in TRACT_METHODS:
                found = segment_tracts(dwi, seen, warp, method=method)
                kept.setdefault((kind, method), []).append(counts(before, after, found))
    return [_row(kind, method, ones) for (kind, method), ones in kept.items()]


def counts(before: Anatomy, after: Anatomy, found: TractMaps) -> dict[str, float]:
    """What one scan adds to a row's sums."""
    # The rim of a cavity shares its voxels with tissue.
    inner = ndimage.binary_erosion(after.lesions == CAVITY).reshape(-1)
    sums = dict.fromkeys(
        ("dice", "tracts", "inner", "claimed", "cut", "cut said", "whole", "whole doubted"), 0.0
    )
    sums["inner"] = float(inner.sum())
    claimed = np.zeros(inner.size, bool)
    for name, one in found.found.items():
        chosen = np.zeros(inner.size, bool)
        chosen[one.mask] = True
        claimed |= chosen & inner
        true, was = (a.bundles[name].mask.reshape(-1) for a in (after, before))
        sums["dice"] += 2 * (chosen & true).sum() / max(chosen.sum() + true.sum(), 1)
        sums["tracts"] += 1
        left = float((true & was).sum() / max(was.sum(), 1))
        if left > WHOLE:
            sums["whole"] += 1
            sums["whole doubted"] += one.state != "whole"
        elif lowest(true, was, one.tract.voxels, one.tract.along) < CUT:
            sums["cut"] += 1
            sums["cut said"] += one.state != "whole"
    sums["claimed"] = float(claimed.sum())
    return sums


def lowest(
    true: NDArray[np.bool_], was: NDArray[np.bool_], voxels: NDArray[np.int64], along: NDArray
) -> float:
    """The least share that is left of a tract at one of its stations."""
    station = station_of(along)
    usual = np.bincount(station[was[voxels]], minlength=STATIONS)
    now = np.bincount(station[(true & was)[voxels]], minlength=STATIONS)
    some = usual > 0.02 * usual.sum()
    return float((now[some] / usual[some]).min()) if some.any() else 0.0


def _row(kind: str, method: str, ones: list[dict[str, float]]) -> Row:
    total = {key: sum(one[key] for one in ones) for key in ones[0]}
    nan = float("nan")
    return {
        "pathology": kind, "method": method, "scans": len(ones), "Dice": total["dice"] / total["tracts"],
        "of the cavity claimed": total["claimed"] / total["inner"] if total["inner"] else nan,
        "tracts cut": int(total["cut"]),
        "of them said": total["cut said"] / total["cut"] if total["cut"] else nan,
        "tracts whole": int(total["whole"]),
        "of them doubted": total["whole doubted"] / max(total["whole"], 1),
    }  # fmt: skip


WORDS = """## Cavities and masses

Six heads, each with a cavity after surgery, with a mass that pushed tissue aside and replaces what it
reached, and with one that infiltrates it (half of the neurites, more water; nothing is cut). `of the cavity
claimed` is the share of its voxels, without its rim, that any tract claims. A tract is cut where less than
15% of one of its 12 stations is left, whole with more than 97% of its volume; those between are not
counted."""
