"""`fornix bench segmentation`: tracts without tractography, on simulated heads and on repeated real scans.

Sections:
* heads: Dice of 72 tracts in heads that are deformed, aged and lesioned at random, by protocol, for the
  atlas carried over by registration and for the network that weighs it against the scan; reliability of
  probabilities.
* profiles: how often the 90% interval of a node's FA holds the true value.
* second: tracts of the second simulator's head, see `tract_atlases`.
* pathology: tracts beside cavities and masses, see `tract_pathology`.
* labels, tracking (`tract_tracking`): streamlines given to tracts, and tracts tracked one by one.
* real: agreement of tracts between scans of one head: repeated, tilted, of the reversed phase direction.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.maps import Maps
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.io import load
from fornix.physics.anatomy.model import Anatomy
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.anatomy.variation import vary
from fornix.physics.phantom import simulate
from fornix.preprocess import estimate_noise
from fornix.register.apply import warp_image, warp_peaks
from fornix.register.features import Features
from fornix.register.register import register
from fornix.register.scan_features import scan_features
from fornix.register.template import mni_template
from fornix.register.warp import Warp
from fornix.tracts.methods import TRACT_METHODS
from fornix.tracts.profile import tract_profiles
from fornix.tracts.segment import FoundTract, TractMaps, segment_tracts
from fornix_bench.peers.registration import ants_syn
from fornix_bench.sections import run_sections
from fornix_bench.suites import tract_atlases, tract_labels, tract_pathology, tract_tracking
from fornix_bench.suites.tract_tracking import tracking
from fornix_bench.table import Row, environment, markdown, read_csv, write_page

Mask = NDArray[np.bool_]

#: Protocols of the simulated heads, and their SNR.
PROTOCOLS = (("dti6", 20.0), ("dti12", 20.0), ("dti30", 20.0), ("ukb", 20.0))
#: Random heads; those that the network learned from are numbered from 100.
HEADS = (501, 502, 503)
#: Heads of the above that are registered to each other.
PAIRED = ((0, 1), (1, 2), (2, 0))
#: Tracts that are small, with figures of their own.
SMALL = ("FX_left", "FX_right", "CA", "CC_1", "CC_3")
#: Scans of one head by their folders; the gradient table of canon's dir-AP is wrong, so it has no pair.
PAIRS = (
    ("siemens-prisma_b2000x20_run-1", "siemens-prisma_b2000x20_run-2"),
    ("canon-galan_b1500x12_dir-PA", "canon-galan_b1500x12_tilt-all20"),
    ("toshiba-galan_b1500x12", "toshiba-galan_b1500x12_tilt-all20"),
    ("siemens-xa30_b2500x20_dir-PA", "siemens-xa30_b2500x20_dir-AP"),
    ("uih-umr770_b930x16_dir-PA", "uih-umr770_b930x16_dir-AP"),
)


def run_segmentation(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0,
    sections: Sequence[str] = (),
) -> list[Row]:  # fmt: skip
    """Write segmentation_….csv of each section and segmentation.md; quick: one head, one pair.

    Anatomy and scans are read from FORNIX_TEST_DATA or ../shared/data.
    """
    rows = run_sections("segmentation", SECTIONS, out, threads, quick, seed, sections)
    _page(Path(out), threads, seed)
    return rows


def _data() -> Path:
    return Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))


def _placed(dwi: DWI) -> tuple[Features, Warp, float]:
    start = time.perf_counter()
    head = scan_features(dwi)
    warp = register(head, mni_template().features())
    return head, warp, time.perf_counter() - start


def heads(quick: bool, seed: int) -> list[Row]:
    """Dice by head, protocol and method."""
    base = from_subject(_data() / "anatomy")
    rows: list[Row] = []
    for number in HEADS[:1] if quick else HEADS:
        head = vary(base, number + seed)
        for protocol, snr in PROTOCOLS[1:2] if quick else PROTOCOLS:
            dwi = brain_mask(simulate(head, protocol, snr=snr, seed=number + seed).dwi)
            seen, warp, seconds = _placed(dwi)
            for method in TRACT_METHODS:
                found = segment_tracts(dwi, seen, warp, method=method)
                rows.append(_scored(head, found, number, protocol, method, seconds))
    return rows


def _scored(
    head: Anatomy, found: TractMaps, number: int, protocol: str, method: str, seconds: float
) -> Row:
    dice = {name: _dice(head.bundles[name].mask, one) for name, one in found.found.items()}
    small = {name: dice[name] for name in SMALL}
    others = [v for name, v in dice.items() if name not in SMALL]
    states = [f.state for f in found.found.values()]
    volume = [
        abs(np.log(max(f.volume, 1e-3) / max(_ml(head.bundles[n].mask, head.affine), 1e-3)))
        for n, f in found.found.items()
    ]
    return {
        "head": number, "lesions": int((head.lesions > 0).sum()), "protocol": protocol, "method": method,
        "Dice": float(np.mean(list(dice.values()))), "worst tenth": _tenth(dice),
        "others": float(np.mean(others)), **small, "volume error": float(np.median(volume)),
        "reliability": _reliability(head, found), "absent": states.count("absent"),
        "seconds": seconds,
    }  # fmt: skip


def _tenth(scores: dict[str, float]) -> float:
    """What nine tenths of the tracts reach."""
    return float(np.quantile(list(scores.values()), 0.1))


def _dice(truth: Mask, one: FoundTract) -> float:
    chosen = np.zeros(truth.size, bool)
    chosen[one.mask] = True
    true = truth.reshape(-1)
    return float(2 * (chosen & true).sum() / max(chosen.sum() + true.sum(), 1))


def _ml(mask: Mask, affine: NDArray[np.float64]) -> float:
    return float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)


def _reliability(head: Anatomy, found: TractMaps) -> float:
    """Mean difference of probability and frequency over ten bins, weighted by voxels."""
    p = np.concatenate([f.probability for f in found.found.values()])
    y = np.concatenate(
        [head.bundles[n].mask.reshape(-1)[f.tract.voxels] for n, f in found.found.items()]
    )
    part = np.minimum((p * 10).astype(int), 9)
    count = np.bincount(part, minlength=10)
    gap = np.abs(np.bincount(part, p, 10) - np.bincount(part, y, 10))
    return float(gap.sum() / count.sum())


def profiles(quick: bool, seed: int) -> list[Row]:
    """Coverage of the nodes' intervals, by head and protocol."""
    base = from_subject(_data() / "anatomy")
    rows: list[Row] = []
    for number in HEADS[:1] if quick else HEADS:
        head = vary(base, number + seed)
        for protocol, snr in (("dti30", 20.0),) if quick else (("dti12", 20.0), ("dti30", 20.0)):
            phantom = simulate(head, protocol, snr=snr, seed=number + seed)
            dwi = estimate_noise(brain_mask(phantom.dwi))
            seen, warp, _ = _placed(dwi)
            found = segment_tracts(dwi, seen, warp)
            true = _true_tracts(found, head)
            for method in ("wls", "auto"):
                maps = microstructure(dwi, models=("dti",), method=method)
                rows += _held(found, true, phantom.truth, maps, number, protocol, method)
    return rows


def _true_tracts(found: TractMaps, head: Anatomy) -> TractMaps:
    """The same tracts with certainty where they truly are."""
    sure = {
        name: replace(
            one,
            probability=head.bundles[name].mask.reshape(-1)[one.tract.voxels].astype(np.float32),
        )
        for name, one in found.found.items()
    }
    return TractMaps(found.lattice, sure, "truth")


def _held(
    found: TractMaps,
    true: TractMaps,
    truth: Maps,
    maps: Maps,
    number: int,
    protocol: str,
    method: str,
) -> list[Row]:
    rows: list[Row] = []
    for name in ("dti_fa", "dti_md"):
        told = tract_profiles(found, {name: maps[name]})
        right = tract_profiles(true, {name: truth[name]})
        error = np.concatenate([(a.value - b.value)[2:-2] for a, b in zip(told, right)])
        spread = np.concatenate([a.std[2:-2] for a in told])
        good = np.isfinite(error) & np.isfinite(spread)
        inside = np.abs(error[good]) < 1.645 * spread[good]
        rows.append(
            {
                "head": number, "protocol": protocol, "method": method, "map": name,
                "holds": float(inside.mean()), "RMSE": float(np.sqrt((error[good] ** 2).mean())),
                "bias": float(error[good].mean()), "std": float(np.sqrt((spread[good] ** 2).mean())),
            }
        )  # fmt: skip
    return rows


def real(quick: bool, seed: int) -> list[Row]:
    """Dice of tracts between two scans of one head, the second carried over by a rigid map."""
    rows: list[Row] = []
    for one, two in PAIRS[:1] if quick else PAIRS:
        seen = []
        for name in (one, two):
            dwi = brain_mask(load(_data() / "dwi" / name / "dwi.nii.gz"))
            head, warp, seconds = _placed(dwi)
            seen.append((head, segment_tracts(dwi, head, warp), seconds))
        (first, mine, seconds), (second, other, _) = seen
        rigid = register(second, first, kind="rigid")
        scores = {}
        for name, tract in mine.found.items():
            carried = warp_image(other.image(name), second.lattice, first.lattice, rigid.to_moving)
            a = mine.image(name) > tract.threshold
            b = carried > tract.threshold
            scores[name] = float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))
        means = [_mean_fa(h, t) for h, t, _ in seen]
        both = np.array([[means[0][n], means[1][n]] for n in mine.found])
        apart = np.abs(np.diff(both)) / both.mean(1, keepdims=True)
        rows.append(
            {
                "scan": one, "other": two, "Dice": float(np.mean(list(scores.values()))),
                "worst tenth": _tenth(scores),
                **{n: scores[n] for n in SMALL},
                "FA of tracts, cv": float(np.median(apart) / np.sqrt(2)),
                "interrupted": sum("interrupted" in f.reason for _, t, _ in seen for f in t.found.values()),
                "displaced, mm": max(f.displacement for _, t, _ in seen for f in t.found.values()),
                "seconds": seconds,
            }
        )  # fmt: skip
    return rows


def _mean_fa(head: Features, tracts: TractMaps) -> dict[str, float]:
    fa = _fa(head).reshape(-1)
    return {
        n: float(
            (f.probability**2 * fa[f.tract.voxels]).sum() / max((f.probability**2).sum(), 1e-6)
        )
        for n, f in tracts.found.items()
    }


def registration(quick: bool, seed: int) -> list[Row]:
    """Overlap of one head's true tracts, carried onto another head, with that head's own; and ANTs' of FA."""
    base = from_subject(_data() / "anatomy")
    made = []
    for number in HEADS:
        head = vary(base, number + seed)
        dwi = brain_mask(simulate(head, "dti30", snr=20.0, seed=number + seed).dwi)
        start = time.perf_counter()
        made.append((number, head, scan_features(dwi), time.perf_counter() - start))
    rows: list[Row] = []
    for one, two in PAIRED[:1] if quick else PAIRED:
        (number, source, moving, took), (other, target, fixed, _) = made[one], made[two]
        start = time.perf_counter()
        ours = register(moving, fixed)
        seconds = took + time.perf_counter() - start
        images = [(_fa(h), h.lattice) for h in (moving, fixed)]
        theirs = ants_syn(*images[0], *images[1], seed)
        shrunk = float(ours.volume_change().min())
        for name, point_map, spent, least in (
            ("fornix", ours.to_moving, seconds, shrunk),
            ("ANTs SyN of FA", theirs.to_moving, theirs.seconds, float("nan")),
        ):
            dice, angle = [], []
            for tract, bundle in source.bundles.items():
                true = target.bundles[tract]
                carried = warp_image(
                    bundle.mask.astype(np.float32), moving.lattice, fixed.lattice, point_map
                )
                both = (carried > 0.5) & true.mask
                dice.append(2 * both.sum() / max((carried > 0.5).sum() + true.mask.sum(), 1))
                axis = warp_peaks(bundle.orientation, moving.lattice, fixed.lattice, point_map)
                cosine = np.abs((axis * true.orientation).sum(-1))[both & ((axis**2).sum(-1) > 0.5)]
                angle.append(np.degrees(np.arccos(cosine.clip(0, 1))).mean())
            rows.append(
                {
                    "moving": number, "fixed": other, "method": name, "Dice": float(np.mean(dice)),
                    "worst tenth": float(np.quantile(dice, 0.1)), "angle, degrees": float(np.mean(angle)),
                    "least volume": least, "seconds": spent,
                }
            )  # fmt: skip
    return rows


def labels(quick: bool, seed: int) -> list[Row]:
    """Streamlines given to tracts."""
    return tract_labels.labels(from_subject(_data() / "anatomy"), _placed, quick, seed)


def _fa(head: Features) -> NDArray[np.float32]:
    shape = head.shape.numpy()
    return np.asarray(np.sqrt((shape[:3] ** 2).sum(0) + 2 * (shape[3:] ** 2).sum(0)), np.float32)


def pathology(quick: bool, seed: int) -> list[Row]:
    """Beside cavities and masses."""
    return tract_pathology.pathology(from_subject(_data() / "anatomy"), _placed, quick, seed)


def second(quick: bool, seed: int) -> list[Row]:
    """The second simulator's head."""
    return tract_atlases.second(_data(), _placed, quick, seed)


#: By name.
SECTIONS: dict[str, Callable[[bool, int], list[Row]]] = {
    "heads": heads, "profiles": profiles, "real": real, "registration": registration,
    "labels": labels, "pathology": pathology, "second": second, "tracking": tracking,
}  # fmt: skip

_WORDS = {
    "heads": """## Simulated heads

Heads deformed (1.5 to 5 mm), aged and lesioned at random, none of which the network learned from. The atlas
is of the same person's bundles, mirrored and blurred: its figures are an upper end for atlases. Both methods
have a threshold per tract, chosen on the heads that the network learned from. `reliability` is
the mean difference of probability and frequency.""",
    "second": tract_atlases.WORDS,
    "pathology": tract_pathology.WORDS,
    "profiles": """## Profiles

Share of nodes whose 90% interval holds the true value along the true tract.""",
    "real": """## Repeated real scans

Dice of tracts between two scans of one head. `interrupted`: tracts of both scans that are said to be; these
are healthy heads. `displaced`: the largest distance from the other side's tract. `dir-AP` and `dir-PA` are
distorted in opposite directions, and are not corrected here.""",
    "registration": """## Registration

The true tracts of one simulated head carried onto another by our registration of their scans and by ANTs'
(antspyx, SyN of FA, its defaults), against that head's own: Dice of 72 tracts, angle of their directions,
least change of volume (above 0: nothing folds). Seconds are of one run on a shared machine, one thread, ours
with the tissue network and the tensor fit. Both heads are deformed copies of one person: real pairs differ
more.""",
    "labels": tract_labels.WORDS,
    "tracking": tract_tracking.WORDS,
}


def _page(folder: Path, threads: int, seed: int) -> None:
    blocks = [f"{environment(threads, seed)}.", "Made by `fornix bench segmentation`."]
    for name, words in _WORDS.items():
        path = folder / f"segmentation_{name}.csv"
        if path.exists():
            blocks += [words, markdown(read_csv(path))]
    write_page(folder / "segmentation.md", "Tracts without tractography", blocks)
