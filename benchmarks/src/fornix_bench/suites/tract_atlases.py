"""Tracts of the second simulator's head, whose bundles come from a population: another atlas, another code.

A section of `fornix bench segmentation`. Nothing of the head, its tissue or its scanner was learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.estimators.mask import brain_mask
from fornix.physics.protocol import scheme
from fornix.register.features import Features
from fornix.register.warp import Warp
from fornix.tracts.methods import TRACT_METHODS
from fornix.tracts.segment import TractMaps, segment_tracts
from fornix.training.further_tracts import further_tract
from fornix_bench.judge.bundles import bundle_truth
from fornix_bench.judge.phantom import HeadConfig, build_head
from fornix_bench.judge.scan import scan_head
from fornix_bench.table import Row

PROTOCOLS = ("dti6", "dti12", "dti30", "ukb")
#: The population's bundles that are the tracts of `tracts72`, `{}` a side; other tracts have no such partner.
PARTNERS = {
    "AF": "Association_ArcuateFasciculus{}", "CST": "ProjectionBrainstem_CorticospinalTract{}",
    "IFO": "Association_InferiorFrontoOccipitalFasciculus{}",
    "ILF": "Association_InferiorLongitudinalFasciculus{}",
    "UF": "Association_UncinateFasciculus{}", "MLF": "Association_MiddleLongitudinalFasciculus{}",
    "SLF_II": "Association_SuperiorLongitudinalFasciculus{}_2",
    "SLF_III": "Association_SuperiorLongitudinalFasciculus{}_3",
    "SLF_I": "Association_Cingulum{}_SuperiorLongitudinalFasciculus1",
    "OR": "ProjectionBasalGanglia_OpticRadiation{}", "FX": "ProjectionBasalGanglia_Fornix{}",
    "ATR": "ProjectionBasalGanglia_ThalamicRadiation{}_Anterior",
    "FPT": "ProjectionBrainstem_CorticopontineTract{}_Frontal",
    "ICP": "Cerebellum_InferiorCerebellarPeduncle{}", "MCP": "Cerebellum_MiddleCerebellarPeduncle",
    "CC_7": "Commissure_CorpusCallosum_ForcepsMajor",
}  # fmt: skip

Mask = NDArray[np.bool_]
Placed = Callable[[DWI], tuple[Features, Warp, float]]


def second(data: Path, placed: Placed, quick: bool, seed: int) -> list[Row]:
    """A row for each protocol, atlas and method; none where `trxscan` is not installed."""
    head = build_head(HeadConfig(seed=904 + seed))
    truth = bundle_truth(head, data)
    masks = dict(zip(truth.names, truth.masks))
    wanted = {"hcp1065": _own(masks), "tracts72": _partners(masks)}
    rows: list[Row] = []
    for protocol in PROTOCOLS[2:3] if quick else PROTOCOLS:
        dwi = brain_mask(scan_head(head, scheme(protocol), 20.0, seed).dwi)
        seen, warp, _ = placed(dwi)
        for atlas, true in wanted.items():
            for method in TRACT_METHODS:
                found = segment_tracts(
                    dwi, seen, warp, method=method, atlases=(atlas,), names=list(true)
                )
                rows.append(
                    {"protocol": protocol, "atlas": atlas, "method": method, **scores(found, true)}
                )
    return rows


def scores(found: TractMaps, true: dict[str, Mask]) -> Row:
    """Dice at the thresholds in use, and of the best one for each tract, which leaves only the order."""
    given, best = [], []
    for name, mask in true.items():
        one = found.found[name]
        inside = mask.reshape(-1)[one.tract.voxels]
        size = float(mask.sum())
        chosen = one.probability > one.threshold
        given.append(2 * (chosen & inside).sum() / max(chosen.sum() + size, 1))
        order = np.argsort(-one.probability)
        hits = np.cumsum(inside[order])
        dice = 2 * hits / (np.arange(1, len(hits) + 1) + size)
        best.append(float(dice.max()) if len(hits) else 0.0)
    states = [f.state for f in found.found.values()]
    return {
        "tracts": len(true), "Dice": float(np.mean(given)), "best threshold": float(np.mean(best)),
        "worst tenth": float(np.quantile(given, 0.1)), "absent": states.count("absent"),
        "cut": states.count("cut"),
    }  # fmt: skip


def _own(masks: dict[str, Mask]) -> dict[str, Mask]:
    named = {further_tract(stem): mask for stem, mask in masks.items()}
    return {name: mask for name, mask in named.items() if name is not None}


def _partners(masks: dict[str, Mask]) -> dict[str, Mask]:
    made = {}
    for name, stem in PARTNERS.items():
        if "{}" not in stem:
            made[name] = masks[stem]
            continue
        for side, letter in (("left", "L"), ("right", "R")):
            if stem.format(letter) in masks:
                made[f"{name}_{side}"] = masks[stem.format(letter)]
    return made


WORDS = """## Another head, another simulator

The head of `trxscan` is made of a population's bundles (HCP1065), scanned by another code, SNR 20. With the
atlas `hcp1065` (of the same population: an upper end for an atlas) the network judges tracts that it never
saw; with `tracts72` both atlas and network come from one person, and the truth is the population's bundle of
the same name, drawn by other rules: Dice of 1 cannot be reached. `best threshold`: each tract's best one,
which compares the order of voxels alone."""
