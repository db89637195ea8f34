"""Head motion and eddy currents: each volume registered to what all others predict for it.

The volumes are read at places of the head at rest, each is predicted from the others by
`volume_prediction`, and moves towards its prediction by Gauss-Newton steps, all of them in turn, from
coarse to fine. Slices that lost signal are found on the way and are replaced by their prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.compute import in_parallel
from fornix.core.dwi import DWI
from fornix.preprocess._reach import within
from fornix.preprocess.geometry._sampling import spline
from fornix.preprocess.geometry.contrast_link import link_contrasts
from fornix.preprocess.geometry.gauss_newton import eddy_prior, step
from fornix.preprocess.geometry.lost_slices import lost_slices
from fornix.preprocess.geometry.reading import Splines, SplinesOnDisk, samples
from fornix.preprocess.geometry.transform import Geometry
from fornix.preprocess.geometry.volume_prediction import prediction_weights
from fornix.preprocess.phase_encoding import PhaseEncoding

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Level:
    """One pass: smoothing (mm, full width at half maximum), places, rounds, free eddy terms, noise over S0.

    The more noise is expected, the nearer the predictions are to the mean over directions.
    """

    blur: float
    places: int
    rounds: int
    terms: int
    noise: float


#: Smoothing of the last level is in voxels: the mean of a voxel's edges times this.
_FINEST = 1.3
LEVELS = (Level(12, 8000, 6, 0, 1.0), Level(6, 16000, 8, 4, 0.3), Level(0, 40000, 8, 10, 0.1))
#: Weighted volumes that tell how eddy currents follow the gradients.
_FEWEST_EDDY = 10
#: Places by which b0s and weighted volumes are linked.
_LINKED = 60_000


@dataclass(frozen=True, eq=False)
class Aligned:
    """What was found.

    Attributes:
        geometry: Of all volumes; the first b0 is at rest.
        residual: (N,) scale of what is left, over the volume's mean signal.
        lost: (N, slices) bool, slices that are not used.
        scores: (N, slices) deviations by which a slice's signal is above its prediction; see
            `lost_slices`.
    """

    geometry: Geometry
    residual: NDArray[np.float64]
    lost: NDArray[np.bool_]
    scores: NDArray[np.float64]


def align(
    dwi: DWI,
    encoding: PhaseEncoding | None = None,
    *,
    field: NDArray[np.float32] | None = None,
    slice_axis: int = 2,
    eddy: bool = True,
    levels: tuple[Level, ...] = LEVELS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Aligned:
    """Find the geometry of a scan.

    Args:
        dwi: The scan, best denoised, with its mask.
        encoding: How EPI distorts it; None leaves eddy currents out.
        field: Spline of the susceptibility field, Hz, on the grid at rest.
        slice_axis: Along which slices lie.
        eddy: False leaves eddy currents out though the encoding is known.
        levels: Coarse to fine.
        seed: Of the places.
        progress: Called with (rounds done, in all).
    """
    count = len(dwi.gradients)
    geometry = Geometry.at_rest(dwi.affine, dwi.grid, count, encoding, field)
    lost = np.zeros((count, dwi.grid[slice_axis]), dtype=bool)
    residual, scores = np.full(count, np.nan), np.zeros(lost.shape)
    total, done = sum(v.rounds for v in levels), 0
    for level in levels:
        volumes = _smoothed(dwi, level.blur)
        places = _places(dwi, level.places, seed)
        terms = level.terms if encoding is not None and eddy else 0
        for _ in range(level.rounds):
            geometry, residual, scores, lost = _round(
                dwi, volumes, places, geometry, replace(level, terms=terms), lost, slice_axis
            )
            done += 1
            if progress is not None:
                progress(done, total)
        if dwi.gradients.b0_mask.any() and not dwi.gradients.b0_mask.all():
            geometry = link_contrasts(
                volumes, dwi.gradients.b0_mask, geometry, _places(dwi, _LINKED, seed + 1)
            )
    geometry = _told_apart(geometry, dwi)
    return Aligned(_rested(geometry, dwi), residual, lost, scores)


def _round(
    dwi: DWI,
    volumes: Splines,
    places: NDArray[np.float32],
    geometry: Geometry,
    level: Level,
    lost: NDArray[np.bool_],
    slice_axis: int,
) -> tuple[Geometry, NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """All volumes moved one step towards their predictions."""
    numbers = list(range(len(volumes)))
    seen = list(in_parallel(lambda v: samples(volumes[v], geometry, v, places), numbers))
    signal = np.stack([s.signal for s in seen])
    at = np.stack([s.moved[:, slice_axis] for s in seen])
    slices = np.clip(np.rint(at), 0, lost.shape[1] - 1).astype(np.int64)
    usable = np.isfinite(signal) & ~np.take_along_axis(lost, slices, 1)
    target = predict(dwi, geometry, signal, usable, level.noise)
    scores, lost = lost_slices(signal, target, at, lost.shape[1])
    usable = np.isfinite(signal) & ~np.take_along_axis(lost, slices, 1)
    expected, spread = (
        _shared_eddy(geometry, dwi) if level.terms else (geometry.eddy, geometry.eddy)
    )

    def one(v: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        free = 0 if dwi.gradients.b0_mask[v] else level.terms
        return step(geometry, v, seen[v], target[v], usable[v], free, expected[v], spread[v])

    moved = list(in_parallel(one, numbers))
    size = np.array([np.median(np.abs(t)) for t in target])
    geometry = geometry.with_(
        poses=np.stack([m[0] for m in moved]), eddy=np.stack([m[1] for m in moved])
    )
    return (
        _without_common_eddy(geometry, dwi) if level.terms else geometry,
        np.array([m[2] for m in moved]) / np.maximum(size, 1e-9),
        scores,
        lost,
    )


def predict(
    dwi: DWI,
    geometry: Geometry,
    signal: NDArray[np.float32],
    usable: NDArray[np.bool_],
    noise: float,
) -> NDArray[np.float32]:
    """(N, n) each volume from all others; what is not usable is replaced by its own prediction."""
    gradients = dwi.gradients.rotated(np.swapaxes(geometry.rotations, 1, 2))
    weights = prediction_weights(gradients, noise).astype(np.float32)
    filled = np.where(usable, signal, 0).astype(np.float32)
    if not usable.all():
        # Signals that are not there are first taken from the mean of those of like b-value.
        for group in _like_b(dwi):
            there = usable[group]
            mean = (filled[group]).sum(0) / np.maximum(there.sum(0), 1)
            filled[group] = np.where(there, filled[group], mean)
        for _ in range(2):
            filled = np.where(usable, filled, weights @ filled)
    return np.asarray(weights @ filled, dtype=np.float32)


def _like_b(dwi: DWI) -> list[NDArray[np.int64]]:
    order = np.round(dwi.gradients.bvals / 200).astype(int)
    order[dwi.gradients.b0_mask] = -1
    return [np.flatnonzero(order == k) for k in np.unique(order)]


def _smoothed(dwi: DWI, blur: float) -> Splines:
    """Splines of all volumes after a Gaussian filter; on disk where the scan is."""
    width = np.full(3, blur) if blur else np.full(3, _FINEST) * np.cbrt(np.prod(dwi.voxel_size))
    sigma = width / 2.355 / dwi.voxel_size
    numbers = list(range(len(dwi.gradients)))

    def one(v: int) -> NDArray[np.float32]:
        return spline(ndimage.gaussian_filter(dwi.volume(v), sigma, mode="nearest"))

    if isinstance(dwi.data, np.ndarray):
        return list(in_parallel(one, numbers, compiled=False))
    kept = SplinesOnDisk(dwi.data.shape)
    for v in numbers:
        kept.put(v, one(v))
    return kept


def _places(dwi: DWI, count: int, seed: int) -> NDArray[np.float32]:
    """Places in and just around the brain (n, 3), in voxels, anywhere within them: nothing is then
    gained by moving volumes onto each other's voxels.
    """
    near = within(dwi.brain(), 1.01 * float(dwi.voxel_size.max()), dwi.voxel_size)
    rng = np.random.default_rng([seed, 41])
    voxels = np.argwhere(near)
    chosen = np.sort(rng.choice(len(voxels), min(count, len(voxels)), replace=False))
    made = voxels[chosen] + rng.uniform(-0.5, 0.5, (len(chosen), 3))
    return np.clip(made, 0, np.array(dwi.grid) - 1).astype(np.float32)


def _shared_eddy(geometry: Geometry, dwi: DWI) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Prior mean and deviation of all eddy coefficients (N, 10), Hz.

    Eddy currents are linear in the diffusion gradient: what the volumes have in common that way tells
    of each. Deviations from it are as large as they are seen to be.
    """
    wide = eddy_prior(geometry)
    gradients = dwi.gradients
    drive = gradients.directions * np.sqrt(gradients.b)[:, None]
    use = ~gradients.b0_mask & geometry.eddy.any(1)
    expected = np.zeros_like(geometry.eddy)
    spread = np.tile(wide, (len(expected), 1))
    if use.sum() >= _FEWEST_EDDY:
        for k in range(10):
            response = np.linalg.lstsq(drive[use], geometry.eddy[use, k], rcond=None)[0]
            expected[:, k] = drive @ response
            rest = geometry.eddy[use, k] - expected[use, k]
            seen = 1.4826 * np.median(np.abs(rest)) * np.sqrt(len(rest) / max(len(rest) - 3, 1))
            spread[:, k] = np.clip(seen, 0.05 * wide[k], wide[k])
    return expected, spread


def _without_common_eddy(geometry: Geometry, dwi: DWI) -> Geometry:
    """Eddy fields that all weighted volumes have in common show nowhere when these are compared with each
    other; but without a gradient there is none, and its change with the gradient is seen.
    """
    use = ~dwi.gradients.b0_mask
    drive = (dwi.gradients.directions * np.sqrt(dwi.gradients.b)[:, None])[use]
    design = np.c_[np.ones(len(drive)), drive]
    if len(drive) < _FEWEST_EDDY or np.linalg.cond(design) > 50:
        return geometry
    eddy = geometry.eddy.copy()
    eddy[use] -= np.linalg.lstsq(design, eddy[use], rcond=None)[0][0]
    return geometry.with_(eddy=eddy)


def _told_apart(geometry: Geometry, dwi: DWI) -> Geometry:
    """The eddy field's constant and translation along the phase-encoded axis do the same: what follows
    the gradients is the field's, all else the head's.
    """
    if geometry.encoding is None or not geometry.eddy.any():
        return geometry
    gradients, encoding = dwi.gradients, geometry.encoding
    axis = geometry.affine[:3, encoding.axis]
    size = np.linalg.norm(axis)
    to_mm = encoding.voxels_per_hz * size
    along = geometry.translations @ (axis / size) + geometry.eddy[:, 0] * to_mm
    drive = gradients.directions * np.sqrt(gradients.b)[:, None]
    # Heads drift: from one volume to the next they move less than over the scan.
    change, by = np.diff(along), np.diff(drive, axis=0)
    response = np.zeros(3)
    if len(change) >= 12:
        weight: NDArray[np.float64] = np.ones(len(change))
        for _ in range(10):
            normal = (by * weight[:, None]).T @ by
            right = (by * weight[:, None]).T @ change
            response = np.asarray(np.linalg.solve(normal + 1e-9 * np.eye(3), right), np.float64)
            rest = change - by @ response
            scale = 1.4826 * np.median(np.abs(rest)) + 1e-6
            weight = np.asarray(1 / (1 + (rest / (2 * scale)) ** 2))
        error = np.sqrt(np.diag(np.linalg.inv(normal + 1e-9 * np.eye(3)))) * scale
        # Shrunk by how well it is told from chance.
        response *= response**2 / (response**2 + 4 * error**2)
    hz = drive @ response / to_mm
    move = (geometry.eddy[:, 0] - hz) * to_mm
    poses = geometry.poses.copy()
    poses[:, :3, 3] += move[:, None] * (axis / size)
    eddy = geometry.eddy.copy()
    eddy[:, 0] = hz
    return geometry.with_(poses=poses, eddy=eddy)


def _rested(geometry: Geometry, dwi: DWI) -> Geometry:
    """The first b0, or the first volume, is the head at rest."""
    b0 = np.flatnonzero(dwi.gradients.b0_mask)
    first = geometry.poses[b0[0] if len(b0) else 0]
    return geometry.with_(poses=geometry.poses @ np.linalg.inv(first))
