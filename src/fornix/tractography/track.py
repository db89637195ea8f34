"""The stage: from fibre orientation distributions to a tractogram."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import available_threads
from fornix.core.dwi import DWI, check_mask
from fornix.core.errors import FornixError, tell
from fornix.core.grid import head_scale
from fornix.core.maps import Maps
from fornix.core.methods import Deferred, Method, MethodTable
from fornix.core.tractogram import Tractogram
from fornix.io import load_tractogram, save_tractogram
from fornix.io.trx import TrxWriter
from fornix.nets.tissue_classes import TissueSegmentation
from fornix.tractography.criteria import TrackingCriteria
from fornix.tractography.dipy_tracker import track_dipy
from fornix.tractography.engine import track_engine
from fornix.tractography.seeds import SEEDINGS
from fornix.tractography.tissue_fractions import (
    TissueFractions,
    tissue_fractions,
    tissue_from_segmentation,
)

# Loads torch, a second of start-up, when it is used.
scan_tissue = Deferred("fornix.tractography.scan_tissue:scan_tissue")

#: Largest turn per step where a method has none of its own, degrees.
_ANGLE = 30.0


def _compiled(
    name: str, summary: str, reference: str, weights: str = "", angle: float = _ANGLE
) -> Method:
    return Method(
        name, partial(track_engine, algorithm=name), summary, reference, weights=weights,
        own_tissue=bool(weights), angle=angle, seedings=SEEDINGS, regions=True,
    )  # fmt: skip


def _dipy(algorithm: str, summary: str, reference: str, angle: float = _ANGLE) -> Method:
    return Method(
        f"{algorithm}-dipy", partial(track_dipy, algorithm=algorithm), summary, reference,
        peer="DIPY", angle=angle, seedings=("voxel",),
    )  # fmt: skip


#: `learned` has by far the most valid streamlines of docs/benchmarks/tractography.md, and the most bundles
#: and the best overlap on an atlas that it never saw (docs/benchmarks/connectome.md). It keeps few of a real
#: scan's seeds, so that it takes minutes where `probabilistic` takes seconds: no default.
TRACK_METHODS = MethodTable(
    "track",
    [
        _compiled(
            "probabilistic",
            "samples the FOD, and its uncertainty if known, at each step",
            "Behrens et al., NeuroImage 2007; Tournier et al., 2012",
        ),
        _compiled(
            "deterministic", "follows the largest amplitude ahead", "Basser et al., MRM 2000"
        ),
        _compiled(
            "ptt",
            "parallel transport: smooth curves drawn from the FOD ahead",
            "Aydogan and Shi, IEEE TMI 2021",
            angle=15.0,
        ),
        _compiled(
            "learned",
            "a network that reads the FOD around and the path so far, and samples where to go",
            "after Poulin et al., MICCAI 2017",
            weights="policy",
        ),
        _compiled(
            "learned-best",
            "the same network, always its likeliest turn",
            "after Poulin et al., MICCAI 2017",
            weights="policy",
        ),
        _dipy(
            "probabilistic", "DIPY's probabilistic tracker (slow)", "Girard et al., NeuroImage 2014"
        ),
        _dipy("deterministic", "DIPY's deterministic tracker (slow)", "Basser et al., MRM 2000"),
        _dipy(
            "ptt",
            "parallel transport, smooth curves, DIPY (slow)",
            "Aydogan and Shi, IEEE TMI 2021",
            angle=15.0,
        ),
    ],
)


def track(
    dwi: DWI,
    maps: Maps,
    *,
    method: str = "auto",
    count: int = 100_000,
    seeds: NDArray[np.bool_] | None = None,
    seeding: str = "auto",
    seeds_per_voxel: int | None = None,
    step: float | None = None,
    angle: float | None = None,
    threshold: float = 0.1,
    min_length: float | None = None,
    max_length: float | None = None,
    tissue: TissueFractions | TissueSegmentation | str | Path | None = None,
    include: Sequence[NDArray[np.bool_]] = (),
    exclude: Sequence[NDArray[np.bool_]] = (),
    stop: Sequence[NDArray[np.bool_]] = (),
    act_ends: bool = True,
    out: str | Path | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tractogram:
    """Track streamlines with anatomical stopping from the diffusion scan alone.

    A streamline is kept if both ends lie in grey matter (anatomically constrained tracking, Smith et
    al., NeuroImage 2012, with tissue from the diffusion scan by `scan_tissue`). `learned` ends where its
    network finds the end of a fibre, in whatever tissue, and gives up what is not likely to be true
    (`learned.policy`); all other criteria hold for it too, by the tensor's tissue that it learned with.
    The same seed gives the same streamlines for any number of threads, and a smaller count gives the
    first of them.

    Args:
        dwi: The scan with its mask; its signals tell the tissue unless that is given.
        maps: From `microstructure` and `fod`: dti_fa, dti_md, fod. Where the FOD has a standard
            deviation, `probabilistic` and `ptt` sample it too.
        method: An entry of TRACK_METHODS; `auto` is `probabilistic`.
        count: Streamlines to keep.
        seeds: (X, Y, Z) voxels to start from; by default the white matter.
        seeding: `voxel` (anywhere in them), `interface` (where grey and white matter meet), `dynamic`
            (where streamlines are still fewer than the FOD's size asks for) or `auto`: dynamic in the
            white matter, `voxel` in seeds that are given and for DIPY's trackers. Dynamic seeds find
            more bundles and cover more of each (docs/benchmarks/connectome.md).
        seeds_per_voxel: So many in each voxel and no more, instead of as many as `count` needs.
        step: mm, by default half the smallest voxel edge, at most 1 mm.
        angle: Largest turn per step, degrees, by default 30 (15 for ptt).
        threshold: Of the FOD's typical largest amplitude, below which a direction is not taken.
        min_length: mm; 20 in a human brain if absent, less in a smaller one (`core.grid.head_scale`).
        max_length: mm; 250 in a human brain if absent.
        tissue: Fractions, what the tissue network says of the scan (`nets.tissue_segmentation.segment`,
            asked for if absent), or a file for `tissue_from_segmentation`.
        include: (X, Y, Z) masks to pass through, all of them.
        exclude: (X, Y, Z) masks never to enter.
        stop: (X, Y, Z) masks to end in.
        act_ends: Keep only streamlines whose ends lie in grey matter; without it they may end anywhere.
        out: A trx file. Streamlines go there as they are found and are not held in memory: the
            result's points stay on disk. Where tracking is stopped, what is there already is in the
            folder OUT.partial.
        seed: Of all random numbers.
        threads: Threads in use; all cores if not given.
        progress: Called with the streamlines accepted so far, and count.

    Returns:
        The streamlines, in world mm.

    Raises:
        FornixError: No voxel can be seeded, or no streamline is accepted (says how many seeds each
            criterion rejected); a mask, FOD or tissue is on another grid; the method cannot do what is
            asked of it.
    """
    entry = TRACK_METHODS.named(method)
    method = entry.name
    if seeding not in ("auto", *SEEDINGS):
        raise FornixError(f"no seeding {seeding!r}; choose one of: auto, {', '.join(SEEDINGS)}")
    if seeding == "auto":
        free = seeds is None and seeds_per_voxel is None
        seeding = "dynamic" if free and "dynamic" in entry.seedings else "voxel"
    if count < 1:
        raise FornixError(f"the number of streamlines must be 1 or more, not {count}")
    if "fod" not in maps:
        raise FornixError("there is no FOD among the maps; make it with fornix.fod first")
    fod = maps["fod"]
    if fod.data.shape[:3] != dwi.grid:
        raise FornixError(
            f"the FOD is on another grid {fod.data.shape[:3]} than the scan {dwi.grid}"
        )
    mm = head_scale(dwi.brain(), dwi.voxel_size)
    criteria = TrackingCriteria(
        step=min(1.0, float(dwi.voxel_size.min()) / 2) if step is None else step,
        angle=entry.angle if angle is None else angle,
        threshold=threshold,
        min_length=20.0 * mm if min_length is None else min_length,
        max_length=250.0 * mm if max_length is None else max_length,
        include=tuple(include),
        exclude=tuple(exclude),
        stop=tuple(stop),
        act_ends=act_ends,
    )
    fractions = _tissue(tissue, dwi, maps, entry.own_tissue)
    run = partial(
        entry.run,
        fod.data,
        dwi.affine,
        fractions,
        _seed_mask(seeds, fractions, dwi),
        criteria,
        count=count,
        seed=seed,
        threads=threads or available_threads(),
        progress=progress,
    )
    if entry.regions:
        run = partial(run, fod_std=fod.std, seeding=seeding, per_voxel=seeds_per_voxel)
        tractogram = run() if out is None else _streamed(run, Path(out), dwi)
    else:
        plain = seeding in entry.seedings and seeds_per_voxel is None and act_ends
        if not plain or include or exclude or stop:
            able = ", ".join(TRACK_METHODS.having("regions"))
            raise FornixError(
                f"{method} knows voxel seeds and grey-matter ends only; take one of: {able}"
            )
        tractogram = _saved(run(), out)
    if len(tractogram) < count and seeds_per_voxel is None:
        tell(f"{len(tractogram)} streamlines of the {count} asked for were accepted")
    return tractogram


def _tissue(
    tissue: TissueFractions | TissueSegmentation | str | Path | None,
    dwi: DWI,
    maps: Maps,
    by_tensor: bool,
) -> TissueFractions:
    if tissue is None or isinstance(tissue, TissueSegmentation):
        if by_tensor:
            return tissue_fractions(dwi, maps)
        found: TissueFractions = scan_tissue(dwi, maps, tissue)
        return found
    if not isinstance(tissue, TissueFractions):
        tissue = tissue_from_segmentation(tissue, dwi)
    if tissue.wm.shape != dwi.grid:
        raise FornixError(
            f"the tissue is on another grid {tissue.wm.shape} than the scan {dwi.grid}; give its file "
            "to have it resampled"
        )
    return tissue


def _seed_mask(
    seeds: NDArray[np.bool_] | None, tissue: TissueFractions, dwi: DWI
) -> NDArray[np.bool_]:
    if seeds is None:
        mask = (tissue.wm > 0.5) & dwi.brain()
        if not mask.any():
            raise FornixError(
                "no voxel to seed from: no white matter was found in the mask; give seeds (fornix track "
                "--seeds)"
            )
        return mask
    try:
        mask = check_mask(seeds, dwi.grid) & dwi.brain()
    except FornixError as error:
        raise FornixError(f"seeds: {error}") from None
    if not mask.any():
        raise FornixError("no voxel to seed from: the seed mask lies outside the brain mask")
    return mask


def _saved(tractogram: Tractogram, out: str | Path | None) -> Tractogram:
    if out is not None:
        save_tractogram(tractogram, out)
    return tractogram


def _streamed(run: Callable[..., int], out: Path, dwi: DWI) -> Tractogram:
    if out.suffix != ".trx":
        raise FornixError(
            f"{out.name}: streamlines go to disk as they are found in trx alone; name it .trx, or write "
            "the result with save_tractogram"
        )
    with TrxWriter(out, dwi.affine, dwi.grid) as writer:
        run(sink=writer)
    return load_tractogram(out, mapped=True)
