"""Real scans: two of one head as two sites, and parts of one scan as pseudo-sites."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.enhance.harmonization.combat import fit_combat
from fornix.enhance.harmonization.effects import head_variation
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.io import load
from fornix.preprocess import estimate_noise
from fornix.register.register import register
from fornix.register.scan_features import scan_features
from fornix.register.template import mni_template
from fornix.tracts.profile import tract_profiles
from fornix.tracts.segment import segment_tracts
from fornix_bench.suites.harmonize.travelling import data_folder
from fornix_bench.table import Row

Array = NDArray[np.float64]

#: Two scans of one head each: repeated, or with tilted slices.
PAIRS = (
    ("siemens", "siemens-prisma_b2000x20_run-1", "siemens-prisma_b2000x20_run-2"),
    ("canon", "canon-galan_b1500x12_dir-PA", "canon-galan_b1500x12_tilt-all20"),
    ("toshiba", "toshiba-galan_b1500x12", "toshiba-galan_b1500x12_tilt-all20"),
)
_MAPS = ("fa", "md")
#: Shells of multishell_crop that each pseudo-site has, s/mm²; every one has all b0s.
SUBSETS = {"700, 1200": (700, 1200), "1200, 2800": (1200, 2800), "700, 2800": (700, 2800)}


def pairs(quick: bool) -> list[Row]:
    """Second scans made like first ones, by a model of the other heads: difference of tract means, percent.

    Args:
        quick: Two heads.
    """
    chosen = PAIRS[1:] if quick else PAIRS
    values: dict[str, dict[tuple[str, int], Array]] = {m: {} for m in _MAPS}
    for name, *scans in chosen:
        for k, scan in enumerate(scans):
            dwi = brain_mask(estimate_noise(load(data_folder() / "dwi" / scan / "dwi.nii.gz")))
            seen = scan_features(dwi)
            tracts = segment_tracts(dwi, seen, register(seen, mni_template().features()))
            maps = microstructure(dwi, std=False)
            for p in tract_profiles(tracts, {m: maps[m] for m in _MAPS}, nodes=1):
                which = p.map.removeprefix("dti_")
                values[which].setdefault((name, k), np.empty(0))
                values[which][name, k] = np.append(values[which][name, k], p.value[0])
    rows = []
    for which, found in values.items():
        whole = np.isfinite(np.stack(list(found.values()))).all(0)
        for name, *_ in chosen:
            heads = [h for h, _ in found if h != name]
            sites = [f"scan {k + 1}" for h, k in found if h != name]
            teach = np.stack([v[whole] for (h, _), v in found.items() if h != name])
            own = np.stack([found[name, k][whole] for k in range(2)])
            model = fit_combat(teach, sites, np.zeros((len(teach), 0)), scale=False, heads=heads)
            after = model.harmonized(own, np.zeros((2, 0)), ["scan 1", "scan 2"])
            before, _, _ = head_variation(own / own.mean(0), [name] * 2, ["a", "b"])
            left, _, _ = head_variation(after / after.mean(0), [name] * 2, ["a", "b"])
            rows.append(
                {"map": which, "head": name, "tracts": int(whole.sum()), "apart before, %": 100 * before,
                 "apart after, %": 100 * left}
            )  # fmt: skip
    return rows


def subsets(quick: bool) -> list[Row]:
    """Maps of parts of one scan: how far they differ, voxel by voxel and in the mean, by estimate."""
    path = data_folder() / "dwi" / "multishell_crop" / "dwi.nii.gz"
    whole = load(path)
    whole = whole.with_(mask=whole.volume(0) > 0) if whole.mask is None else whole
    parts = {name: _part(whole, shells) for name, shells in SUBSETS.items()}
    rows = []
    for method in ("learned", "classical"):
        for which, able in (("fa", 3), ("md", 3), ("mk", 2), ("ndi", 2)):
            scans = list(parts.values())[-able:]
            values = np.stack([_map(d, which, method)[whole.brain()] for d in scans])
            rows.append(
                {
                    "maps": method, "map": which, "parts": able,
                    "mean of parts, cv %": 100 * float(values.mean(1).std(ddof=1) / values.mean()),
                    "voxels, cv %": 100 * float(np.sqrt(values.var(0, ddof=1).mean()) / values.mean()),
                }
            )  # fmt: skip
    return rows


def _part(whole: DWI, shells: tuple[int, ...]) -> DWI:
    b = whole.gradients.bvals
    near = np.min(np.abs(b[:, None] - np.array(shells)), 1) < 150
    return estimate_noise(whole.subset(np.flatnonzero(near | whole.gradients.b0_mask)))


def _map(dwi: DWI, which: str, method: str) -> Array:
    model = {"fa": "dti", "md": "dti", "mk": "dki", "ndi": "noddi"}[which]
    return np.asarray(
        microstructure(dwi, models=(model,), method=method, std=False)[which].data, float
    )


REAL: dict[str, Callable[[bool], list[Row]]] = {"pairs": pairs, "subsets": subsets}
