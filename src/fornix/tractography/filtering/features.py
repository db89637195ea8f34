"""What a plausible streamline shows, along its course and as a whole: no position, no direction.

The same at every place and for every orientation of the head, so that what is learned on one anatomy
says something about another. Along the streamline (at POINTS equal distances): how large the FOD is
along it, the tissue, curvature, and whether there are more streamlines than fibres. As a whole: length,
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
from fornix.core.gradients import voxel_rotation
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
    "amplitude", "fixel", "share", "fixels", "white", "grey", "fluid", "crowded", "predicted",
    "curvature", "spacing",
)  # fmt: skip
WHOLE = ("length", "straightness", "turning", "support", "weight", "near", "nearby")
#: Streamlines among which neighbours are looked for, points that describe a course, and neighbours.
_REFERENCE, _COURSE, _NEAR = 8_000, 5, (1, 8)
#: Logarithms of ratios are cut off here.
_MOST = 3.0


@dataclass(frozen=True, eq=False)
class Features:
    """along: (S, POINTS, len(ALONG)). whole: (S, len(WHOLE)). float32, of order 1."""

    along: NDArray[np.float32]
    whole: NDArray[np.float32]


def features(
    tractogram: Tractogram,
    fod: NDArray[np.float32],
    fixels: Fixels,
    tissue: TissueFractions,
    fit: Fit,
    threads: int | None = None,
) -> Features:
    """What is seen of each streamline.

    fod: (X, Y, Z, coefficients), world axes, on the fixels' grid, as the tissue. fit: of the same
    tractogram and fixels. A streamline that is turned round gives the same values in reverse order.
    """
    fixel, voxel = _fixel_values(fixels, fit), _voxel_values(fixels, tissue)
    lookup, coefficients = _rows(fod, fixels)
    scales = _scales(harmonics.lmax_of(fod.shape[3]))
    turn = voxel_rotation(fixels.affine)
    size = np.linalg.norm(fixels.affine[:3, :3], axis=0)
    inverse = np.linalg.inv(fixels.affine)
    grid, cosine = np.asarray(fixels.grid), float(np.cos(np.radians(ANGLE)))
    along = np.empty((len(tractogram), POINTS, len(ALONG)), np.float32)
    lengths = np.empty(len(tractogram), np.float32)
    tips = np.empty((len(tractogram), 2, 3), np.float32)
    course = np.empty((len(tractogram), _COURSE, 3), np.float32)
    with use_threads(threads):
        for some, points, offsets in tractogram.blocks():
            line, lengths[some] = kernels.resample(points, offsets, POINTS)
            tips[some] = line[:, [0, -1]]
            course[some] = line[:, :: (POINTS - 1) // (_COURSE - 1)]
            # In voxel coordinates from here; tangents by their mm, in world axes.
            place = to_voxels(line.reshape(-1, 3), inverse).reshape(line.shape)
            tangent = _unit(np.gradient(place, axis=1) * size) @ turn.T.astype(np.float32)
            amplitude = kernels.amplitudes_along(lookup, coefficients, scales, place, tangent)
            of_fixel, of_voxel = kernels.values_along(
                fixels.first, fixels.axes, fixel, voxel, grid, place, tangent, cosine
            )
            amplitude = np.clip(amplitude / fixels.typical, 0, _MOST)
            top = np.maximum(of_voxel[..., 0], 0.05)
            along[some] = np.stack(
                [
                    amplitude,
                    of_fixel[..., 0],
                    np.clip(amplitude / top, 0, 1.5),
                    *np.moveaxis(of_voxel[..., 1:], -1, 0),
                    of_fixel[..., 1],
                    of_fixel[..., 2],
                    _curvature(tangent, lengths[some]),
                    np.broadcast_to((lengths[some] / (POINTS - 1) / 10)[:, None], amplitude.shape),
                ],
                axis=-1,
            )
    used = available_threads() if threads is None else threads
    near = _neighbours(course, used)
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
    each = density.mean()
    crowded = fit.track * density.sum() / max(fit.track.sum(), 1e-9)
    ratios = [np.log((v + 0.1 * each) / (density + 0.1 * each)) for v in (crowded, fit.predicted)]
    peak = np.clip(fixels.amplitude / fixels.typical, 0, _MOST)
    made = np.stack([peak, *(np.clip(r, -_MOST, _MOST) for r in ratios)], axis=1)
    return np.ascontiguousarray(made, dtype=np.float32)


def _voxel_values(fixels: Fixels, tissue: TissueFractions) -> NDArray[np.float32]:
    """(voxels, 5): largest peak, number of fixels, white, grey, fluid."""
    counts = np.diff(fixels.first)
    top = np.zeros(len(counts))
    np.maximum.at(top, fixels.voxel, fixels.amplitude / fixels.typical)
    shares = [v.ravel() for v in (tissue.wm, tissue.gm, tissue.csf)]
    return np.stack([np.clip(top, 0, _MOST), counts / 3, *shares], axis=1).astype(np.float32)


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
    made = np.zeros((lmax + 1, lmax + 1))
    for ell in range(0, lmax + 1, 2):
        for m in range(ell + 1):
            ratio = factorial(ell - m) / factorial(ell + m)
            norm = np.sqrt((2 * ell + 1) / (4 * np.pi) * ratio * (2 if m else 1))
            made[ell, m] = (-1) ** m * norm
    return made


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9), dtype=np.float32)


def _curvature(tangent: NDArray[np.float32], lengths: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, POINTS) radians per cm."""
    turned = np.linalg.norm(np.gradient(tangent, axis=1), axis=-1)
    spacing = np.maximum(lengths / (POINTS - 1), 0.1)
    return np.clip(10 * turned / spacing[:, None], 0, 2 * _MOST).astype(np.float32)


def _neighbours(course: NDArray[np.float32], threads: int) -> NDArray[np.float64]:
    """(S, len(_NEAR)) mm to the nearest other streamlines of the same course, either way round.

    Root-mean-square distance of _COURSE points; among at most _REFERENCE streamlines, so that the
    number of streamlines matters little.
    """
    count = len(course)
    chosen = np.arange(count)
    if count > _REFERENCE:
        chosen = np.sort(np.random.default_rng(0).choice(count, _REFERENCE, replace=False))
    size = np.sqrt(_COURSE)
    both = np.concatenate([course[chosen], course[chosen, ::-1]]).reshape(2 * len(chosen), -1)
    tree = cKDTree(both / size)
    most = min(max(_NEAR) + 2, len(both))
    distance, index = tree.query(course.reshape(count, -1) / size, k=most, workers=threads, eps=0.1)
    distance, index = np.reshape(distance, (count, -1)), np.reshape(index, (count, -1))
    # A streamline is no neighbour of itself, nor of itself turned round.
    distance[chosen[index % len(chosen)] == np.arange(count)[:, None]] = np.inf
    distance.sort(axis=1)
    found = np.stack([distance[:, min(k, most) - 1] for k in _NEAR], axis=1)
    return np.where(np.isfinite(found), found, 100.0)
