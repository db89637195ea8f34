"""Brain masks and tissues of the network beside other masks, on heads of two simulators and on real scans.

The simulators' heads were never trained on, but come from the same average head (MNI152) as the synthetic
heads of the training, so regions are the same by definition: what is tested are the deformations,
contrasts and artefacts. Their heads have nothing around the brain; how skull, eyes and neck are told from
it must be looked at on the real scans. Nothing was tuned on `trxscan`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.io import load, save_scan
from fornix.nets.network_mask import network_mask
from fornix.nets.tissue_classes import CLASSES, TissueSegmentation
from fornix.nets.tissue_segmentation import segment
from fornix.physics import simulate
from fornix.physics.anatomy import Anatomy, aged, deform, embedded, perturb, with_lesions
from fornix.physics.protocol import scheme
from fornix.physics.scanner import preset
from fornix.preprocess.mask import median_otsu, shells
from fornix.report.figures import tissue_colours
from fornix.training.data import head_template as ht
from fornix.training.data.head_template import head_template
from fornix_bench.judge.phantom import HeadConfig, build_head
from fornix_bench.judge.scan import scan_head
from fornix_bench.table import Row

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Seed, voxel mm, protocol, SNR, artefacts, ageing, lesions. Bent by EPI (`field`) would be scored
#: against a truth that is not.
HEADS = (
    (911, 2.5, "dti30", 25.0, "typical", 0.2, 0),
    (912, 2.0, "dti12", 15.0, "mild", 0.6, 3),
    (913, 3.0, "dti12", 12.0, "severe", 0.0, 0),
    (914, 2.5, "dti30", 30.0, "typical", 0.8, 5),
    (915, 2.5, "dti6", 20.0, "mild", 0.4, 2),
)
#: Voxel mm, protocol, SNR.
JUDGED = ((2.5, "dti30", 20.0), (2.5, "dti12", 10.0), (3.0, "dti12", 20.0))
#: mm of shift (root mean square) of a deformed head.
BENT = 4.0


@dataclass(frozen=True, eq=False)
class KnownHead:
    """A scan, which class each voxel is (place in `tissue_classes.CLASSES`), and which side is left."""

    simulator: str
    about: str
    dwi: DWI
    truth: NDArray[np.uint8]
    left: Mask


def data_folder() -> Path:
    """Of the real scans and the atlas: FORNIX_TEST_DATA or ../shared/data."""
    return Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))


def rows(threads: int = 2, quick: bool = False, judge: bool = True) -> list[Row]:
    """Dice of the brain for every method, and of each class for the network, by head.

    Args:
        threads: Of all methods.
        quick: One head of each simulator.
        judge: Also `trxscan`.
    """
    found: list[Row] = []
    with use_threads(threads):
        for head in known_heads(quick, judge):
            brain = head.truth > 0
            for name, method in masks(threads).items():
                row: Row = {"simulator": head.simulator, "head": head.about, "method": name}
                start = time.perf_counter()
                made = method(head.dwi)
                row["seconds"] = time.perf_counter() - start
                mask = made.mask if isinstance(made, TissueSegmentation) else made
                row["brain"] = dice(mask, brain)
                if isinstance(made, TissueSegmentation):
                    row |= {
                        c: dice(made.labels == i, head.truth == i)
                        for i, c in enumerate(CLASSES) if i
                    }  # fmt: skip
                    inside = brain & mask
                    row["left"] = float(((made.left > 0.5) == head.left)[inside].mean())
                    row["calibration error"] = calibration_error(made.probabilities, head.truth)
                found.append(row)
    return found


def masks(threads: int = 2) -> dict[str, Callable[[DWI], Any]]:
    """Methods by name: the network gives a segmentation, the others a mask."""
    made: dict[str, Callable[[DWI], Any]] = {
        "network": segment, "network mask": network_mask, "shells": shells, "median_otsu": median_otsu
    }  # fmt: skip
    if shutil.which("dwi2mask"):
        made["dwi2mask"] = lambda dwi: dwi2mask(dwi, threads)
    return made


def dwi2mask(dwi: DWI, threads: int) -> Mask:
    """MRtrix3's mask."""
    with tempfile.TemporaryDirectory() as folder:
        scan, out = Path(folder) / "dwi.nii.gz", Path(folder) / "mask.nii.gz"
        save_scan(replace(dwi, mask=None), scan)
        table = ["-fslgrad", str(Path(folder) / "dwi.bvec"), str(Path(folder) / "dwi.bval")]
        command = ["dwi2mask", str(scan), str(out), *table, "-quiet", "-nthreads", str(threads)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise FornixError(f"dwi2mask failed: {done.stderr.strip()[-300:]}")
        return np.asarray(nib.load(out).dataobj) > 0.5


def dice(found: Mask, true: Mask) -> float:
    """Of two masks, 0 to 1."""
    return float(2 * (found & true).sum() / max(int(found.sum() + true.sum()), 1))


def calibration_error(probabilities: Array, truth: NDArray[np.uint8], bins: int = 10) -> float:
    """Mean gap between how probable the likeliest class is said to be and how often it is true.

    Where the network is wholly sure that there is background does not count: it is easy.
    """
    asked = probabilities[..., 0] < 0.99
    likely, best = probabilities[asked].max(-1), probabilities[asked].argmax(-1)
    right = best == truth[asked]
    place = np.minimum((likely * bins).astype(int), bins - 1)
    gaps = [
        abs(float(likely[place == b].mean() - right[place == b].mean())) * (place == b).mean()
        for b in range(bins) if (place == b).any()
    ]  # fmt: skip
    return float(np.sum(gaps))


def known_heads(quick: bool = False, judge: bool = True) -> Iterator[KnownHead]:
    """Heads of both simulators with the truth of every voxel."""
    template = head_template(data_folder() / "atlas" / "mni")
    for seed, size, protocol, snr, artefacts, age, lesions in HEADS[: 1 if quick else None]:
        plain = embedded(size, seed)
        regions = template.region_maps(plain.affine, plain.grid)
        carried = _carried(plain, regions, seed)
        head = aged(perturb(deform(plain, seed, BENT), seed), age)
        head = with_lesions(head, lesions, seed) if lesions else head
        faults = replace(preset(artefacts), field=0.0)
        made = simulate(head, protocol, snr, artefacts=faults, seed=seed)
        truth = classes(np.stack([head.wm, head.gm, head.csf]), carried, head.mask)
        about = f"{size:g} mm, {protocol}, SNR {snr:g}, {artefacts}, age {age:g}, {lesions} lesions"
        yield KnownHead("fornix", about, made.dwi, truth, carried[-1] > 0.5)
    for size, protocol, snr in JUDGED[: 1 if quick else None] if judge else ():
        whole = build_head(HeadConfig(voxel_size=size))
        dwi = replace(scan_head(whole, scheme(protocol), snr).dwi, mask=None)
        regions = template.region_maps(whole.affine, whole.mask.shape)
        fractions = np.zeros((3, *whole.mask.shape))
        fractions[:, whole.mask] = whole.fractions.T
        truth = classes(
            fractions, np.stack([*regions, _left_of(whole.affine, regions[0].shape)]), whole.mask
        )
        about = f"{size:g} mm, {protocol}, SNR {snr:g}"
        left = _left_of(whole.affine, whole.mask.shape) > 0.5
        yield KnownHead("trxscan", about, dwi, truth, left)


def _left_of(affine: NDArray[np.float64], grid: tuple[int, ...]) -> Array:
    """1 on the left of MNI's midplane."""
    places = np.stack(np.meshgrid(*[np.arange(n) for n in grid], indexing="ij"), -1)
    x = places @ affine[0, :3] + affine[0, 3]
    return np.asarray(x < 0, np.float32)


def _carried(plain: Anatomy, regions: Array, seed: int) -> Array:
    """The regions' maps deformed as the head is: they travel in maps that deform as its tissue does."""
    left = _left_of(plain.affine, plain.grid)
    maps = [*regions, left]
    found = []
    names = ("ndi", "fwf", "d_par", "d_perp", "s0")
    for first in range(0, len(maps), len(names)):
        part = dict(zip(names, maps[first : first + len(names)]))
        bent = deform(
            plain.with_(
                **{k: np.asarray(v, np.float32) * plain.mask for k, v in part.items()}, bundles={}
            ),
            seed,
            BENT,
        )
        found += [getattr(bent, name) for name in part]
    return np.stack(found)


def classes(fractions: NDArray[Any], regions: Array, mask: Mask) -> NDArray[np.uint8]:
    """The class that fills most of each voxel, (X, Y, Z), place in `tissue_classes.CLASSES`.

    Args:
        fractions: (3, X, Y, Z) white, grey, water of the simulator.
        regions: Maps of `HeadTemplate`, the head's own.
        mask: The simulator's brain.
    """
    white, grey, water = fractions
    deep = regions[ht.THALAMUS : ht.PALLIDUM + 1].sum(0)
    behind, stem = regions[ht.CEREBELLUM], regions[ht.BRAINSTEM]
    tissue = white + grey
    # The template's grey matter without the rim of the ventricles: see `head_template`.
    rim = np.clip(grey - regions[ht.GREY], 0, None) * (regions[ht.WHITE] > 0.3)
    rest = np.clip(1 - deep - behind - stem, 0, 1)
    grey, white = grey - rim, white + rim
    shares = [grey * rest, deep * tissue, white * rest, water, behind * tissue, stem * tissue]
    return np.where(mask, np.argmax(shares, 0) + 1, 0).astype(np.uint8)


def real_scans() -> dict[str, DWI]:
    """Every real scan, by name."""
    found = sorted((data_folder() / "dwi").glob("*/dwi.nii.gz"))
    if not found:
        raise FornixError(f"no scans in {data_folder() / 'dwi'}; set FORNIX_TEST_DATA to the data")
    return {path.parent.name: load(path) for path in found}


def montage(path: Path, threads: int = 2) -> list[Row]:
    """A picture of every real scan: three cuts with all methods' outlines, the same with the tissues.

    Returns litres by method, and the network's seconds and notes.
    """
    from matplotlib.figure import Figure

    scans = real_scans()
    figure = Figure(figsize=(13, 2.1 * len(scans)), facecolor="black", layout="constrained")
    axes = figure.subplots(len(scans), 6, squeeze=False)
    found: list[Row] = []
    with use_threads(threads):
        for line, (name, dwi) in zip(axes, scans.items()):
            start = time.perf_counter()
            made = segment(dwi)
            row: Row = {"scan": name, "seconds": time.perf_counter() - start}
            outlines = {n: m(dwi) for n, m in masks(threads).items() if n != "network"}
            outlines = {"network": made.mask, **outlines}
            litre = float(dwi.voxel_size.prod()) / 1e6
            row |= {n: float(m.sum()) * litre for n, m in outlines.items()}
            row["notes"] = "; ".join(made.notes)
            found.append(row)
            _pictured(line, name, dwi, made, outlines)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, facecolor="black")
    return found


def _pictured(
    axes: Any, name: str, dwi: DWI, made: TissueSegmentation, outlines: dict[str, Mask]
) -> None:
    def upright(image: Any) -> NDArray[Any]:
        turned = nib.as_closest_canonical(
            nib.Nifti1Image(np.asarray(image, np.float32), dwi.affine)
        )
        return np.asarray(turned.dataobj)

    b0, labels, left = upright(dwi.mean_b0()), upright(made.labels), upright(made.left)
    masks_ = {n: upright(m) for n, m in outlines.items()}
    order = nib.io_orientation(dwi.affine)[:, 0]
    size = dwi.voxel_size[np.argsort(order)]
    there = np.argwhere(labels > 0) if labels.any() else np.argwhere(labels == 0)
    centre = there.mean(0).astype(int)
    colours = {
        "network": "magenta", "network mask": "red", "shells": "cyan", "median_otsu": "lime",
        "dwi2mask": "yellow",
    }  # fmt: skip
    for k, axis in enumerate((2, 1, 0)):
        a, b = (i for i in range(3) if i != axis)
        cut = [np.rot90(v.take(centre[axis], axis)) for v in (b0, labels, left)]
        shown, tissues = axes[k], axes[3 + k]
        aspect = size[b] / size[a]
        shown.imshow(cut[0], cmap="gray", vmax=np.percentile(b0, 99.5), aspect=aspect)
        for n, m in reversed(masks_.items()):
            plane = np.rot90(m.take(centre[axis], axis))
            if 0 < plane.mean() < 1 and min(plane.shape) > 1:
                shown.contour(plane, [0.5], colors=colours[n], linewidths=0.7)
        shade = np.where(cut[2] > 0.5, 1.0, 0.7)[..., None]
        tissues.imshow(tissue_colours(cut[1]) * shade, aspect=aspect)
        shown.set_axis_off()
        tissues.set_axis_off()
    axes[0].set_title(name, color="white", fontsize=8, loc="left")
