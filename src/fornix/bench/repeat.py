"""One head scanned twice: how well do its FA maps agree, and do they keep their contrast?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.bench.estimates import REFERENCE, learned
from fornix.bench.table import Row
from fornix.core.dwi import DWI
from fornix.io import load
from fornix.microstructure import microstructure
from fornix.preprocess import brain_mask, estimate_noise
from fornix.preprocess.motion import _quiet_dipy

#: Pairs of scans of one head, by folder under data/dwi.
PAIRS = (
    ("siemens-prisma_b2000x20_run-1", "siemens-prisma_b2000x20_run-2"),
    ("canon-galan_b1500x12_dir-PA", "canon-galan_b1500x12_tilt-all20"),
    ("toshiba-galan_b1500x12", "toshiba-galan_b1500x12_tilt-all20"),
)
#: Edge of a region in voxels, and the fewest voxels that make one.
EDGE, FEWEST = 8, 40
#: The coefficient of variation against WLS's, and the spread of FA across regions against WLS's.
CV_GOAL, SPREAD_GOAL = 0.75, 1.0

Array = NDArray[np.float64]


def repeat_rows(data: Path, pairs: int | None = None) -> tuple[list[Row], dict[str, Array]]:
    """Scores of each pair that is there, and for the first one slices of FA to be drawn.

    data: the folder that holds dwi/. The second scan's FA is brought onto the first one's grid by
    the rigid transform between their mean diffusion-weighted volumes.
    """
    rows: list[Row] = []
    shown: dict[str, Array] = {}
    for first, second in PAIRS[:pairs]:
        files = [data / "dwi" / name / "dwi.nii.gz" for name in (first, second)]
        if not all(f.is_file() for f in files):
            continue
        scans = [estimate_noise(brain_mask(load(f))) for f in files]
        transform = align(*scans)
        made = {m: _two(scans, m, transform) for m in (REFERENCE, *learned())}
        brain = scans[0].brain() & (_onto(scans[1].brain().astype(float), scans, transform) > 0.99)
        where = white_ish(made[REFERENCE], brain)
        base = agreement(made[REFERENCE][0], made[REFERENCE][1], where)
        for method, (a, b) in made.items():
            row: Row = {"section": "repeat", "pair": first, "method": method}
            row |= agreement(a, b, where)
            row["cv_ratio"] = row["cv_voxel"] / base["cv_voxel"]
            row["spread_ratio"] = row["spread"] / base["spread"]
            if method in learned():
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

    images = [np.where(s.brain(), s.mean_dwi(), 0).astype(np.float64) for s in (fixed, moving)]
    with _quiet_dipy():
        _, matrix = affine_registration(
            images[1], images[0], moving_affine=moving.affine, static_affine=fixed.affine,
            pipeline=["center_of_mass", "rigid"], level_iters=[200, 60], sigmas=[2.0, 1.0],
            factors=[3, 1],
        )  # fmt: skip
    return np.asarray(matrix, dtype=np.float64)


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


def _two(scans: list[DWI], method: str, transform: Array) -> tuple[Array, Array]:
    fa = [microstructure(s, method=method)["dti_fa"].data.astype(np.float64) for s in scans]
    return fa[0], _onto(fa[1], scans, transform)


def _onto(volume: Array, scans: list[DWI], transform: Array) -> Array:
    """The second scan's volume on the first one's grid, linearly interpolated."""
    matrix = np.linalg.inv(scans[1].affine) @ transform @ scans[0].affine
    return np.asarray(
        ndimage.affine_transform(
            volume, matrix[:3, :3], matrix[:3, 3], output_shape=scans[0].grid, order=1
        )
    )


def _shortest(scan: DWI) -> int:
    """The voxel axis nearest to head-foot."""
    return int(np.abs(scan.affine[2, :3]).argmax())
