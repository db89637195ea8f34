"""Features of a streamline, along it and as a whole, without position or direction.

They are the same at every place and for every orientation of the head, so that what is learned on one
anatomy holds for another. Along the streamline (at POINTS equal distances): how large the FOD is along
it, the tissue, curvature, and whether there are more streamlines than fibres. As a whole: length,
straightness, the fit's weight and how far away the nearest streamlines of the same course are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fornix.core.compute import available_threads, use_threads
from fornix.core.tractogram import Tractogram
from fornix.numerics import harmonics
from fornix.tractography.filtering import _kernels as kernels
from fornix.tractography.filtering.fit import ANGLE, Fit
from fornix.tractography.filtering.fixels import Fixels
from fornix.tractography.scoring._kernels import to_voxels
from fornix.tractography.tissue_fractions import TissueFractions

POINTS = 25
#: Names of the values along a streamline, and of those of it as a whole.
ALONG = (
    "amplitude", "fixel_amplitude", "amplitude_of_largest", "fixels", "wm", "gm", "csf",
    "track_density_ratio", "predicted_density_ratio", "curvature", "spacing",
)  # fmt: skip
WHOLE = ("length", "straightness", "turning", "support", "weight", "nearest", "eighth_nearest")
#: Streamlines among which neighbours are looked for, points that describe a course, and neighbours.
_REFERENCE, _COURSE, _NEAR = 8_000, 5, (1, 8)
#: Logarithms of ratios, and amplitudes over the typical largest one, are cut off here.
_CUTOFF = 3.0


@dataclass(frozen=True, eq=False)
class Features:
    """What the network is shown of streamlines; float32, of order 1.

    Attributes:
        along: (S, POINTS, len(ALONG)).
        whole: (S, len(WHOLE)).
    """

    along: NDArray[np.float32]
    whole: NDArray[np.float32]


def streamline_features(
    tractogram: Tractogram,
    fod: NDArray[np.float32],
    fixels: Fixels,
    tissue: TissueFractions,
    fit: Fit,
    *,
    threads: int | None = None,
) -> Features:
    """Features of every streamline; one that is turned round gives the same in reverse order.

    Args:
        tractogram: In world mm.
        fod: (X, Y, Z, coefficients), world axes, on the fixels' grid.
        fixels: Of that FOD.
        tissue: On the same grid.
        fit: Of the same tractogram and fixels.
        threads: Threads in use; all cores if not given.
    """
    fixel, voxel = _fixel_values(fixels, fit), _voxel_values(fixels, tissue)
    lookup, coefficients = _rows(fod, fixels)
    scales = _scales(harmonics.lmax_of(fod.shape[3]))
    arrays, inverse = fixels.arrays(angle=ANGLE), np.linalg.inv(fixels.affine)
    along = np.empty((len(tractogram), POINTS, len(ALONG)), np.float32)
    lengths = np.empty(len(tractogram), np.float32)
    tips = np.empty((len(tractogram), 2, 3), np.float32)
    course = np.empty((len(tractogram), _COURSE, 3), np.float32)
    with use_threads(threads):
        for part, points, offsets in tractogram.blocks():
            line, lengths[part] = kernels.resample(points, offsets, POINTS)
            tips[part] = line[:, [0, -1]]
            course[part] = line[:, :: (POINTS - 1) // (_COURSE - 1)]
            # In voxel coordinates from here; tangents by their mm, in world axes.
            place = to_voxels(line.reshape(-1, 3), inverse).reshape(line.shape)
            tangent = _unit(
                np.gradient(place, axis=1) * arrays.voxel_size
            ) @ arrays.rotation.T.astype(np.float32)
            amplitude = kernels.amplitudes_along(lookup, coefficients, scales, place, tangent)
            of_fixel, of_voxel = kernels.values_along(arrays, fixel, voxel, place, tangent)
            amplitude = np.clip(amplitude / fixels.typical, 0, _CUTOFF)
            top = np.maximum(of_voxel[..., 0], 0.05)
            along[part] = np.stack(
                [
                    amplitude,
                    of_fixel[..., 0],
                    np.clip(amplitude / top, 0, 1.5),
                    *np.moveaxis(of_voxel[..., 1:], -1, 0),
                    of_fixel[..., 1],
                    of_fixel[..., 2],
                    _curvature(tangent, lengths[part]),
                    np.broadcast_to((lengths[part] / (POINTS - 1) / 10)[:, None], amplitude.shape),
                ],
                axis=-1,
            )
    workers = available_threads() if threads is None else threads
    near = _neighbours(course, workers)
    span = np.linalg.norm(tips[:, 1] - tips[:, 0], axis=1)
    mean = fit.weight[fit.weight > 0].mean() if (fit.weight > 0).any() else 1.0
    whole = np.stack(
        [
            np.log(np.maximum(lengths, 1) / 60),
            span / np.maximum(lengths, 1e-3),
            along[..., ALONG.index("curvature")].mean(1) * lengths / 60,
            fit.support,
            np.log1p(fit.weight / mean),
            *np.log(np.maximum(near, 0.5) / 6).T,
        ],
        axis=1,
    )
    return Features(along, whole.astype(np.float32))


def _fixel_values(fixels: Fixels, fit: Fit) -> NDArray[np.float32]:
    """(F, 3): peak amplitude, and how much more streamline or prediction there is than fibre."""
    density = fixels.density
    mean = density.mean()
    track = fit.track * density.sum() / max(fit.track.sum(), 1e-9)
    ratios = [np.log((v + 0.1 * mean) / (density + 0.1 * mean)) for v in (track, fit.predicted)]
    peak = np.clip(fixels.amplitude / fixels.typical, 0, _CUTOFF)
    values = np.stack([peak, *(np.clip(r, -_CUTOFF, _CUTOFF) for r in ratios)], axis=1)
    return np.ascontiguousarray(values, dtype=np.float32)


def _voxel_values(fixels: Fixels, tissue: TissueFractions) -> NDArray[np.float32]:
    """(voxels, 5): largest peak, number of fixels, wm, gm, csf."""
    counts = np.diff(fixels.first)
    top = np.zeros(len(counts))
    np.maximum.at(top, fixels.voxel, fixels.amplitude / fixels.typical)
    fractions = [v.ravel() for v in (tissue.wm, tissue.gm, tissue.csf)]
    return np.stack([np.clip(top, 0, _CUTOFF), counts / 3, *fractions], axis=1).astype(np.float32)


def _rows(
    fod: NDArray[np.float32], fixels: Fixels
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Coefficients of the voxels that have fixels, and the row of each voxel (-1: none)."""
    has = (np.diff(fixels.first) > 0).reshape(fixels.grid)
    lookup = np.full(fixels.grid, -1, np.int32)
    lookup[has] = np.arange(int(has.sum()))
    return lookup, np.ascontiguousarray(fod[has], dtype=np.float32)


@lru_cache(maxsize=8)
def _scales(lmax: int) -> NDArray[np.float64]:
    """(lmax + 1, lmax + 1) factor of each order's associated Legendre function in the basis."""
    scales = np.zeros((lmax + 1, lmax + 1))
    for ell in range(0, lmax + 1, 2):
        for m in range(ell + 1):
            ratio = factorial(ell - m) / factorial(ell + m)
            norm = np.sqrt((2 * ell + 1) / (4 * np.pi) * ratio * (2 if m else 1))
            scales[ell, m] = (-1) ** m * norm
    return scales


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9), dtype=np.float32)


def _curvature(tangent: NDArray[np.float32], lengths: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, POINTS) radians per cm."""
    turned = np.linalg.norm(np.gradient(tangent, axis=1), axis=-1)
    spacing = np.maximum(lengths / (POINTS - 1), 0.1)
    return np.clip(10 * turned / spacing[:, None], 0, 2 * _CUTOFF).astype(np.float32)


def _neighbours(course: NDArray[np.float32], threads: int) -> NDArray[np.float64]:
    """(S, len(_NEAR)) mm to the nearest other streamlines of the same course, either way round.

    Root-mean-square distance of _COURSE points; among at most _REFERENCE streamlines, so that the
    number of streamlines matters little.
    """
    count = len(course)
    index_of = np.arange(count)
    if count > _REFERENCE:
        index_of = np.sort(np.random.default_rng(0).choice(count, _REFERENCE, replace=False))
    size = np.sqrt(_COURSE)
    both = np.concatenate([course[index_of], course[index_of, ::-1]]).reshape(2 * len(index_of), -1)
    tree = cKDTree(both / size)
    most = min(max(_NEAR) + 2, len(both))
    distance, index = tree.query(course.reshape(count, -1) / size, k=most, workers=threads, eps=0.1)
    distance, index = np.reshape(distance, (count, -1)), np.reshape(index, (count, -1))
    # A streamline is no neighbour of itself, nor of itself turned round.
    distance[index_of[index % len(index_of)] == np.arange(count)[:, None]] = np.inf
    distance.sort(axis=1)
    nearest = np.stack([distance[:, min(k, most) - 1] for k in _NEAR], axis=1)
    return np.where(np.isfinite(nearest), nearest, 100.0)
