"""The corrected scan: every volume read once where its signal was measured, in one interpolation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.series import put_volume, room_like
from fornix.core.signals import Signals
from fornix.preprocess.geometry._sampling import spline, value
from fornix.preprocess.geometry.transform import Geometry
from fornix.preprocess.geometry.volume_prediction import prediction_weights

#: Noise over S0 that predictions of lost slices reckon with.
_NOISE = 0.05


def resample(
    dwi: DWI,
    geometry: Geometry,
    lost: NDArray[np.bool_] | None = None,
    *,
    slice_axis: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> DWI:
    """The scan on the grid of the head at rest, with its gradients turned along.

    Args:
        dwi: As measured.
        geometry: Of its volumes.
        lost: (N, slices) slices that are replaced by what the other volumes predict.
        slice_axis: Along which they lie.
        progress: Called with (volumes done, in all).

    Returns:
        The scan; its mask is undistorted along where there is a field.
    """
    gradients = dwi.gradients.rotated(np.swapaxes(geometry.rotations, 1, 2))
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in dwi.grid], indexing="ij"), -1)
    places = voxels.reshape(-1, 3).astype(np.float32)
    out = room_like(dwi.data)
    missing: dict[int, NDArray[np.bool_]] = {}
    for v in range(len(gradients)):
        moved, shift, factor = geometry.measured(v, places)
        if lost is not None and lost[v].any():
            slices = np.clip(np.rint(moved[:, slice_axis]), 0, lost.shape[1] - 1).astype(np.int64)
            missing[v] = lost[v][slices]
        volume = dwi.volume(v)
        if geometry.distorts(v):
            assert geometry.encoding is not None
            moved[:, geometry.encoding.axis] += shift
        elif np.abs(moved - places).max() < 1e-4:
            put_volume(out, v, volume)
            continue
        made = value(spline(volume), moved)
        # A spline swings beyond its data at edges.
        made = np.clip(made, min(float(volume.min()), 0.0), float(volume.max()))
        put_volume(out, v, (made * factor).reshape(dwi.grid))
        if progress is not None:
            progress(v + 1, len(gradients))
    mask = _undistorted(dwi.mask, geometry, places)
    return _filled(dwi.with_(data=out, gradients=gradients, mask=mask), missing)


def _undistorted(
    mask: NDArray[np.bool_] | None, geometry: Geometry, places: NDArray[np.float32]
) -> NDArray[np.bool_] | None:
    """The brain where the field did not move it; as it is without a field."""
    if mask is None or geometry.field is None or geometry.encoding is None:
        return mask
    rest = Geometry.at_rest(geometry.affine, geometry.grid, 1, geometry.encoding, geometry.field)
    moved, shift, _ = rest.measured(0, places)
    moved[:, geometry.encoding.axis] += shift
    inside = ndimage.map_coordinates(mask.astype(np.float32), moved.T, order=1, mode="nearest")
    return np.asarray(inside.reshape(mask.shape) > 0.5)


def _filled(dwi: DWI, missing: dict[int, NDArray[np.bool_]]) -> DWI:
    """Lost signals replaced by their predictions from the volumes that have not lost theirs."""
    kind = dwi.gradients.b0_mask
    missing = {v: m for v, m in missing.items() if m.any() and (kind == kind[v]).sum() > 1}
    if not missing:
        return dwi
    weights = prediction_weights(dwi.gradients, _NOISE)
    repaired = {}
    for v, where in missing.items():
        voxels = np.flatnonzero(where)
        there = np.ones((len(kind), len(voxels)), dtype=bool)
        for other, its in missing.items():
            there[other] = ~its[voxels]
        signals = Signals(dwi, voxels)[:].T.astype(np.float64)
        share = np.abs(weights[v])[:, None]
        signals = np.where(there, signals, 0)
        known = (share * there).sum(0) / max(share.sum(), 1e-9)
        volume = np.array(dwi.volume(v))
        volume.reshape(-1)[voxels] = np.clip(
            (weights[v] @ signals) / np.maximum(known, 0.1), 0, None
        )
        repaired[v] = volume
    for v, volume in repaired.items():
        put_volume(dwi.data, v, volume)
    return dwi
