"""The pose of the b0s against the weighted volumes, whose contrast is another.

What a place shows at b = 0 is a function of what it shows with weighting: of the mean over directions and
of how much it varies with them. The function is learned from the scan, as means over bins of the two;
the b0 lies right where the function explains it best (the correlation ratio of Roche et al., MICCAI 1998,
of two features, with the bins' means projected out of the slopes: Golub & Pereyra, Inverse Problems 2003).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import in_parallel
from fornix.preprocess.geometry.reading import Splines, samples
from fornix.preprocess.geometry.transform import Geometry, small_pose

#: Bins of equal count of the mean, and in each of them of the variation over directions.
_BINS = (48, 12)
_ROUNDS = 15
#: Residuals beyond so many deviations of their bin count less.
_FAR = 2.5


def link_contrasts(
    volumes: Splines,
    b0: NDArray[np.bool_],
    geometry: Geometry,
    places: NDArray[np.float32],
) -> Geometry:
    """The geometry with all weighted volumes moved together, to where they explain the b0s best.

    Args:
        volumes: Splines of all volumes.
        b0: (N,) which are b0s.
        geometry: So far.
        places: (n, 3) voxels of the head at rest, in and around the brain.
    """
    numbers = np.arange(len(volumes))
    signal = np.stack(
        list(
            in_parallel(
                lambda v: samples(volumes[v], geometry, v, places).signal, numbers[~b0].tolist()
            )
        )
    )
    known = np.isfinite(signal).all(0)
    if known.sum() < 20 * _BINS[0]:
        return geometry
    places, signal = places[known], signal[:, known]
    mean = signal.mean(0)
    variation = signal.std(0) / np.maximum(mean, 0.05 * mean.max())
    bins = _bins(mean, variation)
    together = np.eye(4)
    for _ in range(_ROUNDS):
        moved = geometry.with_(poses=geometry.poses @ together)
        step = _step([volumes[v] for v in numbers[b0]], numbers[b0], moved, places, bins)
        together = together @ small_pose(step, geometry.centre)
        if np.linalg.norm(step[:3]) < 0.003 and np.linalg.norm(step[3:]) < 1e-4:
            break
    poses = geometry.poses.copy()
    # The b0s would have to move by `together` to fit: the others move the other way.
    poses[~b0] = poses[~b0] @ np.linalg.inv(together)
    return geometry.with_(poses=poses)


def _bins(mean: NDArray[np.floating], variation: NDArray[np.floating]) -> NDArray[np.int64]:
    """Bin of each place, (n,): by rank of the mean, within it by rank of the variation."""
    outer = _rank(mean, _BINS[0])
    made = outer * _BINS[1]
    for k in range(_BINS[0]):
        here = outer == k
        made[here] += _rank(variation[here], _BINS[1])
    return made


def _rank(values: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    edges = np.quantile(values, np.linspace(0, 1, count + 1)[1:-1])
    return np.asarray(np.searchsorted(edges, values), dtype=np.int64)


def _step(
    volumes: list[NDArray[np.float32]],
    numbers: NDArray[np.int64],
    geometry: Geometry,
    places: NDArray[np.float32],
    bins: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Gauss-Newton step (6,) of the b0s, all at once: mm and radians about the grid's centre."""
    normal, right = np.zeros((6, 6)), np.zeros(6)
    arm = places @ geometry.affine[:3, :3].T + geometry.affine[:3, 3] - geometry.centre
    inverse = np.linalg.inv(geometry.affine)
    for volume, number in zip(volumes, numbers.tolist()):
        seen = samples(volume, geometry, number, places)
        known = np.isfinite(seen.signal)
        signal = np.where(known, seen.signal, 0).astype(np.float64)
        weight, residual, spread = _explained(signal, known, bins)
        matrix = inverse @ geometry.poses[number] @ geometry.affine
        slope = np.where(known[:, None], seen.slope, 0) @ matrix[:3, :3]
        world = slope @ inverse[:3, :3]
        columns = np.concatenate([world, np.cross(arm, world)], 1)
        for k in range(6):
            columns[:, k] -= _bin_means(columns[:, k], weight, bins)[bins]
        left = columns * (weight / spread[bins] ** 2)[:, None]
        normal += left.T @ columns
        right -= left.T @ residual
    step = np.linalg.solve(normal + 1e-9 * np.diag(np.diag(normal)), right)
    reach = max(float(np.linalg.norm(step[:3])) / 2, float(np.linalg.norm(step[3:])) / 0.035, 1.0)
    return np.asarray(step / reach)


def _explained(
    signal: NDArray[np.float64], known: NDArray[np.bool_], bins: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights (n,), what the bins leave of a signal (n,), and each bin's deviation."""
    weight = known.astype(np.float64)
    residual = spread = signal
    for _ in range(2):
        residual = signal - _bin_means(signal, weight, bins)[bins]
        variance = _bin_means(residual**2, weight, bins)
        spread = np.sqrt(variance + 0.01 * np.median(variance) + 1e-12)
        weight = known / (1 + (residual / (_FAR * spread[bins])) ** 2) ** 2
    return weight, residual, spread


def _bin_means(
    values: NDArray[np.float64], weight: NDArray[np.float64], bins: NDArray[np.int64]
) -> NDArray[np.float64]:
    size = _BINS[0] * _BINS[1]
    total = np.bincount(bins, weight, minlength=size) + 1e-9
    return np.bincount(bins, weight * values, minlength=size) / total
