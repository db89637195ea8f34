"""One head scanned twice: how well do its FA maps agree, and do they keep their contrast?"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.linalg import expm, logm

from fornix.core.dwi import DWI
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.io import load
from fornix.preprocess import estimate_noise
from fornix_bench.suites.microstructure.estimates import REFERENCE, learned
from fornix_bench.table import Row

#: Pairs of scans of one head, by folder under data/dwi, and whether the goal is asked of them: the
#: Canon pair is distorted differently, which moves its frontal fibres by more than a voxel.
PAIRS = (
    ("siemens-prisma_b2000x20_run-1", "siemens-prisma_b2000x20_run-2", True),
    ("toshiba-galan_b1500x12", "toshiba-galan_b1500x12_tilt-all20", True),
    ("canon-galan_b1500x12_dir-PA", "canon-galan_b1500x12_tilt-all20", False),
)
#: Edge of a region in voxels, and the fewest voxels that make one.
EDGE, FEWEST = 8, 40
#: The coefficient of variation against WLS's, and the spread of FA across regions against WLS's.
CV_GOAL, SPREAD_GOAL = 0.75, 1.0

Array = NDArray[np.float64]


def repeat_rows(data: Path, pairs: int | None = None) -> tuple[list[Row], dict[str, Array]]:
    """Scores of each pair that is there, and for the first one slices of FA to be drawn.

    data: the folder that holds dwi/. Both scans' FA are brought half way to each other, by half of
    the rigid transform between their mean diffusion-weighted volumes, so that neither is
    interpolated more than the other.
    """
    rows: list[Row] = []
    shown: dict[str, Array] = {}
    for first, second, judged in PAIRS[:pairs]:
        files = [data / "dwi" / name / "dwi.nii.gz" for name in (first, second)]
        if not all(f.is_file() for f in files):
            continue
        scans = [estimate_noise(brain_mask(load(f))) for f in files]
        halves = half_way(align(*scans))
        made = {m: two_maps(scans, m, halves) for m in (REFERENCE, *learned())}
        masks = [onto(s.brain().astype(np.float64), s, scans[0], t) for s, t in zip(scans, halves)]
        brain = (masks[0] > 0.9) & (masks[1] > 0.9)
        where = white_ish(made[REFERENCE], brain)
        base = agreement(made[REFERENCE][0], made[REFERENCE][1], where)
        for method, (a, b) in made.items():
            row: Row = {"section": "repeat", "pair": first, "method": method}
            row |= agreement(a, b, where)
            row["cv_ratio"] = row["cv_voxel"] / base["cv_voxel"]
            row["spread_ratio"] = row["spread"] / base["spread"]
            if method in learned() and judged:
                row["goal"] = CV_GOAL
            rows.append(row)
            if first == PAIRS[0][0]:
                middle = int(np.argwhere(where)[:, _shortest(scans[0])].mean())
                for label, volume in ((f"{method}, first", a), (f"{method}, second", b)):
                    shown[label] = np.take(volume, middle, axis=_shortest(scans[0]))
    return rows, shown


def agreement(a: Array, b: Array, where: NDArray[np.bool_]) -> Row:
    """Within-subject scores of two maps (X, Y, Z) inside `where`, by voxel and by region.

    cv: root-mean-square over voxels (regions) of |a - b| / sqrt(2), over the mean. icc: one-way,
    ICC(1,1). spread: standard deviation over regions of their mean. The regions are cubes of `EDGE`
    voxels.
    """
    x, y = a[where], b[where]
    corner = np.argwhere(where) // EDGE
    _, label = np.unique(corner, axis=0, return_inverse=True)
    label = label.reshape(-1)
    size = np.bincount(label)
    kept = size >= FEWEST
    regions = [np.bincount(label, v)[kept] / size[kept] for v in (x, y)]
    cv_voxel, icc_voxel = _repeated(x, y)
    cv_region, icc_region = _repeated(*regions)
    return {
        "voxels": len(x), "mean": float((x.mean() + y.mean()) / 2), "cv_voxel": cv_voxel,
        "icc_voxel": icc_voxel, "regions": int(kept.sum()), "cv_region": cv_region,
        "icc_region": icc_region, "spread": float(((regions[0] + regions[1]) / 2).std()),
    }  # fmt: skip


def align(fixed: DWI, moving: DWI) -> Array:
    """(4, 4) rigid transform from the fixed scan's world to the moving one's (DIPY)."""
    from dipy.align import affine_registration

    logging.getLogger("dipy").setLevel(logging.WARNING)  # it tells of every step
    images = [np.where(s.brain(), s.mean_dwi(), 0).astype(np.float64) for s in (fixed, moving)]
    _, matrix = affine_registration(
        images[1], images[0], moving_affine=moving.affine, static_affine=fixed.affine,
        pipeline=["center_of_mass", "rigid"], level_iters=[200, 60], sigmas=[2.0, 1.0],
        factors=[3, 1],
    )  # fmt: skip
    return np.asarray(matrix, dtype=np.float64)


def half_way(transform: Array) -> tuple[Array, Array]:
    """From the space in the middle to the first scan's, and to the second one's, (4, 4) each."""
    middle = np.real(expm(logm(transform) / 2))
    return np.linalg.inv(middle), transform @ np.linalg.inv(middle)


def white_ish(maps: tuple[Array, Array], brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the smoothed mean FA of both scans is above 0.25, two voxels inside the brain: noise of
    single voxels, in which the methods differ, hardly chooses."""
    inside = ndimage.binary_erosion(brain, iterations=2)
    smooth = ndimage.gaussian_filter((maps[0] + maps[1]) / 2, 1.0)
    return np.asarray(inside & (smooth > 0.25))


def _repeated(x: Array, y: Array) -> tuple[float, float]:
    within = float(((x - y) ** 2).mean() / 2)
    between = 2 * float(((x + y) / 2).var(ddof=1)) if len(x) > 1 else float("nan")
    mean = float((x.mean() + y.mean()) / 2) if len(x) else float("nan")
    return float(np.sqrt(within)) / mean, (between - within) / (between + within)


def two_maps(scans: list[DWI], method: str, halves: tuple[Array, Array]) -> tuple[Array, Array]:
    """FA of both scans, each brought half way to the other, on the first one's grid."""
    fa = [microstructure(s, method=method)["dti_fa"].data.astype(np.float64) for s in scans]
    a, b = (onto(v, s, scans[0], t) for v, s, t in zip(fa, scans, halves))
    return a, b


def onto(volume: Array, scan: DWI, grid: DWI, transform: Array) -> Array:
    """A scan's volume on another scan's grid, cubic, within [0, 1]; transform: from there to it."""
    matrix = np.linalg.inv(scan.affine) @ transform @ grid.affine
    made = ndimage.affine_transform(
        volume, matrix[:3, :3], matrix[:3, 3], output_shape=grid.grid, order=3
    )
    return np.asarray(np.clip(made, 0, 1))


def _shortest(scan: DWI) -> int:
    """The voxel axis nearest to head-foot."""
    return int(np.abs(scan.affine[2, :3]).argmax())
