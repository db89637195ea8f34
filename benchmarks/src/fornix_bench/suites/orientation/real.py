"""Orientations of real scans, where there is no truth: do two halves, or two scans, agree?

The FOD from 12 of 32 directions against that from the other 20; and a head scanned twice, the second
time with tilted slices, brought together by the rigid transform between the scans. Agreement is the
angular correlation (Anderson, MRM 2005) of the two FODs in white matter: the cosine between their
coefficients without order 0. What agrees may be wrong alike: peaks are counted in free water and grey
matter too, where there are none to be found.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.estimators.fod import FOD_METHODS
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.io import load
from fornix.models.deconvolution.csd import csd, csd_dipy
from fornix.models.deconvolution.response import estimate_responses
from fornix.models.deconvolution.response_voxels import ResponseVoxels, response_voxels
from fornix.models.peaks import find_peaks
from fornix.numerics import harmonics
from fornix.numerics.directions import best_subset
from fornix.preprocess import estimate_noise
from fornix_bench.peers.microstructure import PeerMissing
from fornix_bench.peers.orientation import mrtrix
from fornix_bench.suites.microstructure.repeat import align
from fornix_bench.table import Row

HALVES = "philips-achieva_b1000x32"
TILTED = ("toshiba-galan_b1500x12", "toshiba-galan_b1500x12_tilt-all20")
TWICE = ("siemens-prisma_b2000x20_run-1", "siemens-prisma_b2000x20_run-2")
#: Voxels of white matter that are compared, at most, and of grey matter and water each.
_WHITE, _OTHERS = 6000, 1500
#: They lie in a slab of this many slices, and networks see this many voxels beyond them.
_SLAB, _BEYOND = 12, 3
#: Thresholds of deconvolution's peaks: the defaults of `fornix fod`, amplitude 0.1 and a fifth of the
#: largest.
_ABSOLUTE, _RELATIVE = 0.1, 0.2

Fods = dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]


def real_rows(data: Path, threads: int) -> list[Row]:
    """Rows of section `real`; data: the folder that holds dwi/."""
    rows: list[Row] = []

    def path(name: str) -> Path:
        return data / "dwi" / name / "dwi.nii.gz"

    if path(HALVES).is_file():
        rows += _halves(estimate_noise(brain_mask(load(path(HALVES)))), threads)
    for name, pair in (("tilted", TILTED), ("twice", TWICE)):
        if all(path(p).is_file() for p in pair):
            first, second = (estimate_noise(brain_mask(load(path(p)))) for p in pair)
            rows += _pair(f"{pair[0]}, {name}", first, second, threads)
    return rows


def _halves(scan: DWI, threads: int) -> list[Row]:
    weighted = np.flatnonzero(~scan.gradients.b0_mask)
    chosen = weighted[best_subset(scan.gradients.directions[weighted], 12)]
    b0 = np.flatnonzero(scan.gradients.b0_mask)
    few = scan.subset(np.sort(np.concatenate([b0, chosen])))
    rest = scan.subset(np.sort(np.concatenate([b0, np.setdiff1d(weighted, chosen)])))
    typical = _typical(scan)
    places = _places(typical)
    one, two = (_fods(part, places, threads) for part in (few, rest))
    return _compared(f"{HALVES}, 12 against 20", one, two, typical, places)


def _pair(name: str, first: DWI, second: DWI, threads: int) -> list[Row]:
    typical = _typical(first)
    places = _places(typical)
    transform = align(first, second)
    world = np.argwhere(places) @ first.affine[:3, :3].T + first.affine[:3, 3]
    there = world @ transform[:3, :3].T + transform[:3, 3]
    inverse = np.linalg.inv(second.affine)
    voxel = there @ inverse[:3, :3].T + inverse[:3, 3]
    # The eight voxels of the second scan about each place.
    around = np.zeros(second.grid, bool)
    for corner in np.ndindex(2, 2, 2):
        at = np.floor(voxel).astype(int) + corner
        inside = ((at >= 0) & (at < second.grid)).all(1)
        around[tuple(at[inside].T)] = True
    around &= second.brain()
    turn = harmonics.rotation_matrix(8, np.linalg.inv(transform[:3, :3]))

    def brought(fod: NDArray[np.float32]) -> NDArray[np.float32]:
        grid = np.zeros((*second.grid, fod.shape[1]), np.float32)
        grid[around] = fod
        made = np.stack([
            ndimage.map_coordinates(grid[..., k], voxel.T, order=1) for k in range(fod.shape[1])
        ], 1)  # fmt: skip
        return made @ turn[: fod.shape[1], : fod.shape[1]].T.astype(np.float32)

    one = _fods(first, places, threads)
    two = {m: (brought(fod), count) for m, (fod, count) in _fods(second, around, threads).items()}
    return _compared(name, one, two, typical, places)


def _typical(scan: DWI) -> ResponseVoxels:
    tensor = microstructure(scan, models=("dti",), method="wls")
    return response_voxels(scan, tensor["dti_fa"].data, tensor["dti_md"].data)


def _places(typical: ResponseVoxels) -> NDArray[np.bool_]:
    """Some voxels of each tissue, in a slab about the white matter's middle."""
    made, slab = np.zeros(typical.wm.shape, bool), np.zeros(typical.wm.shape, bool)
    middle = int(np.argwhere(typical.wm)[:, 2].mean())
    slab[:, :, max(0, middle - _SLAB // 2) : middle + _SLAB // 2] = True
    for mask, most in ((typical.wm, _WHITE), (typical.gm, _OTHERS), (typical.csf, _OTHERS)):
        flat = np.random.default_rng(14).permutation(np.flatnonzero(mask & slab))[:most]
        made.reshape(-1)[flat] = True
    return made


def _fods(scan: DWI, places: NDArray[np.bool_], threads: int) -> Fods:
    """By method: FOD (n, coefficients) of the places in C order, and the number of peaks shown (n,)."""
    made: Fods = {}
    near = ndimage.binary_dilation(places, iterations=_BEYOND) & scan.brain()
    for method in FOD_METHODS.having("network"):
        maps = FOD_METHODS[method].run(scan.with_(mask=near), 4)
        vectors = maps["peaks"].data[places].reshape(-1, 4, 3)
        count = (np.linalg.norm(vectors, axis=2) > 0).sum(1)
        made[method] = (maps["fod"].data[places], count)
    tensor = microstructure(scan, models=("dti",), method="wls")
    directions = int((~scan.gradients.b0_mask).sum())
    lmax = 6 if directions >= 28 else 4
    responses = estimate_responses(scan, tensor["dti_fa"].data, tensor["dti_md"].data, lmax)
    part = scan.with_(mask=places)
    signals = part.data[places][:, None, None]
    voxels = part.with_(data=signals, mask=np.ones(signals.shape[:3], bool), sigma=None)
    runs: dict[str, Callable[[], NDArray[np.float32]]] = {
        "csd": lambda: csd(part, responses, lmax)["fod"][places],
        "csd-dipy": lambda: csd_dipy(part, responses, lmax)["fod"][places],
        "MRtrix3 csd": lambda: mrtrix(voxels, responses, lmax, "csd", threads),
    }
    for method, run in runs.items():
        try:
            fod = run()
        except PeerMissing:
            continue
        shown = find_peaks(fod, 4, relative=_RELATIVE, absolute=_ABSOLUTE)
        made[method] = (fod, (np.linalg.norm(shown, axis=2) > 0).sum(1))
    return made


def _compared(
    name: str, one: Fods, two: Fods, typical: ResponseVoxels, places: NDArray[np.bool_]
) -> list[Row]:
    white, grey, fluid = (m[places] for m in (typical.wm, typical.gm, typical.csf))
    rows: list[Row] = []
    for method, (fod, count) in one.items():
        correlation = angular_correlation(fod, two[method][0])[white]
        rows.append({
            "part": "real", "section": "real", "protocol": name, "method": method,
            "angular_correlation": float(np.nanmean(correlation)),
            "correlation_median": float(np.nanmedian(correlation)),
            "peaks_wm": float(count[white].mean()), "spurious_gm": float(count[grey].mean()),
            "spurious_csf": float(count[fluid].mean()), "voxels": int(white.sum()),
        })  # fmt: skip
    return rows


def angular_correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine (n,) between coefficients (n, ·) without order 0, NaN where one has none."""
    x, y = a[:, 1:].astype(np.float64), b[:, 1:].astype(np.float64)
    size = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(size > 0, (x * y).sum(1) / size, np.nan))
