"""`fornix bench tracking-ends`: what streamlines end in, and what that does to a tractogram.

The tensor's tissue (FA, diffusivity and a rim), the network's, both together, which is the default, and the
simulator's own, on heads of two simulators. FA is made of the very fibres that are true there, which favours
the tensor; the network never saw such heads. The last rows show a real scan, whose truth nobody knows: in
what the network sees streamlines end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.grid import flat_voxels
from fornix.core.maps import Maps
from fornix.core.tractogram import Tractogram
from fornix.estimators.fod import fod
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.io import load
from fornix.nets.tissue_classes import CLASSES, TissueSegmentation
from fornix.nets.tissue_segmentation import segment
from fornix.physics import from_bundles
from fornix.physics.protocol import scheme
from fornix.preprocess import estimate_noise
from fornix.tractography.scan_tissue import scan_tissue
from fornix.tractography.scoring.score import score
from fornix.tractography.scoring.truth import BundleTruth
from fornix.tractography.tissue_fractions import TissueFractions, tissue_fractions
from fornix.tractography.track import track
from fornix.training.data.filter_phantoms import ScanSpec, make_phantom_scan
from fornix_bench.judge.bundles import bundle_truth
from fornix_bench.judge.phantom import HeadConfig, build_head
from fornix_bench.judge.scan import scan_head
from fornix_bench.suites.tractography.suite import MEASURES
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

#: Heads of the bundle atlas that no tissue network saw, and seeds of `trxscan` heads with their protocols.
SCENES = (
    ScanSpec(900, "dti32", 20, "mild"),
    ScanSpec(901, "bench96", 20, "mild"),
    ScanSpec(902, "dti12", 20, "mild"),
)
JUDGED = ((0, "dti30"), (1, "dti64"))
REAL = "philips-achieva_b1000x32"
COUNT, QUICK_COUNT = 8_000, 300
#: Trackers that are run with the tensor's tissue and with both; the others with every tissue.
OTHERS = ("deterministic", "ptt")


@dataclass(frozen=True, eq=False)
class Scene:
    """A scan, its maps, the bundles that are true and the simulator's own tissue."""

    name: str
    dwi: DWI
    maps: Maps
    truth: BundleTruth
    tissue: TissueFractions


def run_tracking_ends(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Write tracking-ends.csv, .md and .png into `out`; quick: one coarse head, few streamlines."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    if not (data / "anatomy" / "bundles72").is_dir():
        raise FornixError(f"there are no bundles under {data}; set FORNIX_TEST_DATA")
    rows: list[Row] = []
    with use_threads(threads):
        for scene in _scenes(data, threads, quick):
            rows += _rows(scene, QUICK_COUNT if quick else COUNT, seed, threads)
        real = [] if quick else _real(data, folder / "tracking-ends.png", seed, threads)
    write_csv(folder / "tracking-ends.csv", rows)
    if real:
        write_csv(folder / "tracking-ends-real.csv", real)
    _page(folder, rows, real, environment(threads, seed))
    return rows


def _scenes(data: Path, threads: int, quick: bool) -> Iterator[Scene]:
    for spec in SCENES[: 1 if quick else None]:
        subject = from_bundles(
            data / "anatomy" / "bundles72", seed=spec.seed, voxel_size=4.0 if quick else 2.5
        )
        made = make_phantom_scan(subject, spec, threads=threads)
        own = TissueFractions(subject.wm, subject.gm, subject.csf)
        yield Scene(f"own, {spec.protocol}", made.dwi, made.maps, made.truth, own)
    for seed, protocol in () if quick else JUDGED:
        head = build_head(HeadConfig(seed=seed), data)
        scan = scan_head(head, scheme(protocol), 20.0, seed=seed)
        dwi = scan.dwi.with_(sigma=scan.sigma)
        shares = np.zeros((3, *head.mask.shape), np.float32)
        shares[:, head.mask] = head.fractions.T
        own = TissueFractions(shares[0], shares[1], shares[2])
        truth = bundle_truth(head, data)
        yield Scene(f"trxscan, {protocol}", dwi, _maps(dwi, threads), truth, own)


def _maps(dwi: DWI, threads: int) -> Maps:
    maps = microstructure(dwi, models=("dti",), method="wls", threads=threads)
    return maps.merged(fod(dwi, tensor=maps, threads=threads))


def by_network(dwi: DWI, seen: TissueSegmentation) -> TissueFractions:
    """The network's tissue taken as it is: cerebellum and deep grey matter are grey, the brainstem white."""
    brain = dwi.brain()
    head = np.maximum(1 - seen["background"], 1e-6)
    wm, gm, csf = (
        np.where(brain, sum(seen[c] for c in names) / head, 0).astype(np.float32)
        for names in (
            ("white", "brainstem"),
            ("cortical grey", "deep grey", "cerebellum"),
            ("csf",),
        )
    )
    return TissueFractions(wm, gm, csf)


def _rows(scene: Scene, count: int, seed: int, threads: int) -> list[Row]:
    seen = segment(scene.dwi)
    tissues = {
        "tensor": tissue_fractions(scene.dwi, scene.maps),
        "network": by_network(scene.dwi, seen),
        "both": scan_tissue(scene.dwi, scene.maps, seen),
        "simulator's": scene.tissue,
    }
    found = []
    for method in ("probabilistic", *OTHERS):
        for name, tissue in tissues.items():
            if method in OTHERS and name not in ("tensor", "both"):
                continue
            made = track(
                scene.dwi, scene.maps, method=method, count=count, tissue=tissue, seed=seed,
                threads=threads,
            )  # fmt: skip
            values = score(made, scene.truth, threads=threads).as_dict()
            found.append(
                {
                    "scan": scene.name, "tracker": method, "tissue": name, "streamlines": len(made),
                    **{m: values[m] for m in MEASURES},
                }
            )  # fmt: skip
    return found


def _real(data: Path, picture: Path, seed: int, threads: int) -> list[Row]:
    """Ends by class and mean length of a real scan's streamlines; densities are drawn into `picture`."""
    path = data / "dwi" / REAL / "dwi.nii.gz"
    if not path.is_file():
        return []
    dwi = estimate_noise(brain_mask(load(path)))
    maps, seen = _maps(dwi, threads), segment(dwi)
    rows: list[Row] = []
    drawn = []
    for name, tissue in (
        ("tensor", tissue_fractions(dwi, maps)), ("both", scan_tissue(dwi, maps, seen)),
    ):  # fmt: skip
        made = track(dwi, maps, count=20_000, tissue=tissue, seed=seed, threads=threads)
        tips = np.concatenate([made.points[made.offsets[:-1]], made.points[made.offsets[1:] - 1]])
        there = seen.labels.ravel()[flat_voxels(tips, dwi.affine, dwi.grid)[0]]
        shares = np.bincount(there, minlength=len(CLASSES)) / len(there)
        row: Row = {"tissue": name, "mean_mm": float(made.lengths().mean())}
        rows.append(row | {c: float(100 * s) for c, s in zip(CLASSES, shares)})
        drawn.append((name, _density(made, dwi)))
    figure = Figure(figsize=(11, 6.4), facecolor="black", layout="constrained")
    for line, (name, density) in zip(figure.subplots(2, 3), drawn):
        for ax, axis in zip(line, (2, 1, 0)):
            # The mean over the middle third: single slices hold few streamlines.
            n = density.shape[axis]
            plane = density.take(range(n // 3, 2 * n // 3), axis).mean(axis)
            ax.imshow(np.rot90(plane), cmap="inferno", vmax=np.percentile(plane, 98))
            ax.set_axis_off()
        line[0].set_title(f"ends by {name}", color="white", fontsize=9, loc="left")
    figure.savefig(picture, dpi=80)
    return rows


def _density(made: Tractogram, dwi: DWI) -> NDArray[np.float32]:
    flat, inside = flat_voxels(np.asarray(made.points), dwi.affine, dwi.grid)
    counts = np.bincount(flat[inside], minlength=int(np.prod(dwi.grid)))
    image = nib.Nifti1Image(counts.reshape(dwi.grid).astype(np.float32), dwi.affine)
    return np.asarray(nib.as_closest_canonical(image).dataobj)


def _page(folder: Path, rows: list[Row], real: list[Row], machine: str) -> None:
    blocks = [
        f"{machine}.",
        "Made by `fornix bench tracking-ends`. `tensor`: fluid by diffusivity, white matter by FA at the "
        "scan's own threshold, grey within 4 mm of the brain's edge. `network`: the tissue network's classes "
        "as they are. `both`: the default (`fornix.tractography.scan_tissue`). `simulator's`: the true "
        "tissue. Measures as in [Tractography](tractography.md): valid, invalid and unconnected "
        "streamlines, %; valid and invalid bundles; overlap, overreach and Dice. Own simulator: 72 bundles; "
        "trxscan: 106, of another atlas.",
        markdown(rows),
        "On trxscan `both` is no better than `tensor`, within a point of valid streamlines. "
        "Even the true tissue gives fewer valid streamlines than FA: true ends reach into the cortex, and in "
        "both simulators FA is made of the fibres themselves. The network's classes alone stop streamlines "
        "too early.",
    ]
    if real:
        blocks += [
            "## A real scan",
            f"{REAL}, 20,000 streamlines: mean length, and the network's class at both ends, %. That judge "
            "is one of the judged.",
            markdown(real),
            "![Density of streamlines, by tensor and by both](tracking-ends.png)",
        ]
    write_page(folder / "tracking-ends.md", "What streamlines end in", blocks)
