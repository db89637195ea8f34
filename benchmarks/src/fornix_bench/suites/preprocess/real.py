"""Every real scan before and after preprocessing: do other measures of it agree better, and how does it look?

Nothing here is scored against what a correction strives for: flags of the networks, measurements that were
left out, and second scans of the same head.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.maps import Maps
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.estimators.microstructure_learned import OOD_SIGNALS
from fornix.io import load
from fornix.preprocess import correct, estimate_noise
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.correct import corrected
from fornix.report.canvas import show_slice, side_by_side, slice_numbers, to_ras
from fornix.report.figures import colour_fa
from fornix_bench.suites.microstructure import repeat
from fornix_bench.suites.preprocess.geometry import PAIRS
from fornix_bench.suites.preprocess.together import as_networks_see
from fornix_bench.suites.unseen import excess_of
from fornix_bench.table import Row

Array = NDArray[np.float64]

_ALL = ("gibbs", "eddy", "bias")
_DIRECTIONS = 12


def rows(data: Path, pictures: Path | None, quick: bool = False) -> list[Row]:
    """A row a scan, then one a pair of scans of one head.

    `flagged`: share of the brain out of the networks' distribution. `excess`: of measurements that were left
    out, over their floor, from 12 directions, without denoising; raw / corrected. `cv`: of FA in white
    matter between two scans of one head, learned. `fa`: mean difference of FA in the brain between both
    directions of a reversed pair.

    Args:
        data: Folder that holds dwi/.
        pictures: Folder for a picture of each scan; None for none.
        quick: Two scans, no pairs.
    """
    found = sorted(p for p in (data / "dwi").glob("*/dwi.nii.gz") if "slab" not in str(p))
    found = [p for p in found if "crop" not in str(p)]
    made: list[Row] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        partners = dict(PAIRS) | {b: a for a, b in PAIRS}
        for path in found[:2] if quick else found:
            name = path.parent.name
            made.append(_scan(name, path, partners.get(name), pictures))
        if not quick:
            for first, second, _ in repeat.PAIRS:
                made.append(_repeated(data, first, second))
            for first, second in PAIRS:
                made.append(_reversed(data, first, second))
    return made


def _prepared(path: Path) -> DWI:
    return estimate_noise(brain_mask(load(path)))


def _full(dwi: DWI, partner: DWI | None = None) -> DWI:
    """As `fornix run` gives it to the networks; the noise level stays the raw scan's."""
    known = Acquisition.of(dwi, partner)
    return as_networks_see(dwi, _ALL, known).with_(sigma=dwi.sigma)


def _scan(name: str, path: Path, partner: str | None, pictures: Path | None) -> Row:
    raw = _prepared(path)
    other = None if partner is None else load(path.parent.parent / partner / "dwi.nii.gz")
    start = time.perf_counter()
    full = _full(raw, other)
    seconds = time.perf_counter() - start
    row: Row = {"scan": name}
    before, after = (microstructure(d, models=("dti",), method="learned") for d in (raw, full))
    row |= {"flagged raw": _flagged(before), "flagged": _flagged(after)}
    directions = int((~raw.gradients.b0_mask).sum())
    if directions >= _DIRECTIONS + 4:
        moved = correct(raw, methods=("gibbs", "eddy"), acquisition=Acquisition.of(raw, other))
        again = estimate_noise(moved.with_(sigma=None))  # as `fornix predict` would
        one, two = (excess_of(d, _DIRECTIONS) for d in (raw, again))
        row |= {"excess wls raw": one["wls"], "excess wls": two["wls"]}
        row |= {"excess learned raw": one["learned"], "excess learned": two["learned"]}
    row["seconds"] = seconds
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        _draw(raw, full, before, after).savefig(
            pictures / f"{name}.webp", dpi=100, pil_kwargs={"quality": 70}
        )
    return row


def _flagged(maps: Maps) -> float:
    brain = maps["source"].data > 0
    assert maps.trust is not None
    return float(((maps["ood"].data > OOD_SIGNALS) & ~maps.trust)[brain].mean())


def _agreement(scans: list[DWI], brains: list[DWI]) -> tuple[Array, Array, NDArray[np.bool_]]:
    """FA of both scans brought half way to each other, and the brain of both."""
    halves = repeat.half_way(repeat.align(*brains))
    a, b = repeat.two_maps(scans, "learned", halves)
    inside = [
        repeat.onto(s.brain().astype(float), s, scans[0], t) > 0.9 for s, t in zip(scans, halves)
    ]
    return a, b, inside[0] & inside[1]


def _repeated(data: Path, first: str, second: str) -> Row:
    raws = [_prepared(data / "dwi" / name / "dwi.nii.gz") for name in (first, second)]
    row: Row = {"scan": f"{first} twice"}
    where: NDArray[np.bool_] | None = None
    for label, scans in (("cv raw", raws), ("cv", [_full(d) for d in raws])):
        a, b, brain = _agreement(scans, scans)
        where = repeat.white_ish((a, b), brain) if where is None else where
        row[label] = repeat.agreement(a, b, where)["cv_voxel"]
    return row


def _reversed(data: Path, first: str, second: str) -> Row:
    raws = [_prepared(data / "dwi" / name / "dwi.nii.gz") for name in (first, second)]
    row: Row = {"scan": f"{first} and reversed"}
    for label, scans in (
        ("fa raw", raws),
        ("fa", [_full(raws[0], raws[1]), _full(raws[1], raws[0])]),
    ):
        a, b, brain = _agreement(scans, scans)
        row[label] = float(np.abs(a - b)[brain].mean())
    _, found = corrected(raws[0], methods=("eddy",), acquisition=Acquisition.of(raws[0], raws[1]))
    assert found is not None and found.field is not None
    return row | {"r raw": found.field.before, "r": found.field.after}


def _draw(raw: DWI, full: DWI, before: Maps, after: Maps) -> Figure:
    """Mean b0 and colour FA in rows: raw with the mask's outline, then corrected."""
    made = Figure(figsize=(11, 6.4), layout="constrained", facecolor="black")
    mask, affine = to_ras(raw.brain(), raw.affine)
    size = np.linalg.norm(affine[:3, :3], axis=0)
    shown = slice_numbers(mask, 7)
    outline = side_by_side(mask * 1.0, shown)
    axes = made.subplots(4, 1)
    images = (raw.mean_b0(), full.mean_b0(), colour_fa(before), colour_fa(after))
    words = ("b0, raw", "b0", "colour FA, raw", "colour FA")
    for ax, image, word in zip(axes, images, words):
        turned = to_ras(image, raw.affine)[0]
        top = 1.0 if turned.ndim == 4 else float(np.percentile(turned[mask], 99))
        plane = side_by_side(turned, shown)
        show_slice(ax, plane, (size[0], size[1]), cmap="gray", vmin=0, vmax=top)
        ax.contour(outline.T, levels=[0.5], colors="#ff5a4e", linewidths=0.6)
        ax.set_title(word, color="white", fontsize=8, loc="left", pad=2)
    return made
