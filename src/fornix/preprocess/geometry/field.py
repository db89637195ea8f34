"""The susceptibility field from two scans of opposite phase encoding.

Both are the same head distorted in opposite senses: the field that makes them equal, with what piled up
spread again, is the scanner's (Andersson et al., NeuroImage 2003; Ruthotto et al., PMB 2012). It and the
head's pose in the second scan are found together, from coarse to fine, by Gauss-Newton steps whose
equations are solved by conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.grid import box_of
from fornix.preprocess.geometry._displacement import central, displacement_step, robust
from fornix.preprocess.geometry._sampling import spline, value_and_slope
from fornix.preprocess.geometry.transform import Geometry, step_across
from fornix.preprocess.phase_encoding import PhaseEncoding

#: Passes: smoothing of the images (mm, full width at half maximum), steps, weight of the field's roughness.
LEVELS = ((12.0, 8, 1.0), (7.0, 8, 0.3), (4.0, 8, 0.1), (2.5, 6, 0.03), (1.5, 6, 0.01))
#: The field is sought this far around the brain, mm.
_MARGIN = 25.0


@dataclass(frozen=True, eq=False)
class FieldEstimate:
    """What a pair says, or a T1.

    Attributes:
        hz: (X, Y, Z) field on the grid of the first scan, head at rest.
        pose: (4, 4) from the head in the first scan to the head in the second, world mm.
        gain: Brightness of the second over the first.
        before: Correlation of the two images in the brain as measured.
        after: The same, corrected.
        first: (X, Y, Z) corrected image of the first scan; second likewise.
        second: See `first`.
        source: `pair` or `T1`.
    """

    hz: NDArray[np.float32]
    pose: NDArray[np.float64]
    gain: float
    before: float
    after: float
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    source: str = "pair"


def estimate_field(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    encoding: PhaseEncoding,
    *,
    levels: tuple[tuple[float, int, float], ...] = LEVELS,
    progress: Callable[[int, int], None] | None = None,
) -> FieldEstimate:
    """The field that makes two images of opposite phase encoding equal.

    A translation along the phase-encoded axis between the two cannot be told from a constant field: it is
    taken for one.

    Args:
        first: (X, Y, Z) b0.
        second: (X, Y, Z) b0 of the other sense, on the same grid.
        mask: (X, Y, Z) the brain, roughly.
        affine: (4, 4) of the grid.
        encoding: Of the first.
        levels: Coarse to fine.
        progress: Called with (steps done, in all).
    """
    size = np.linalg.norm(affine[:3, :3], axis=0)
    box = box_of(mask, tuple(np.ceil(_MARGIN / size).astype(int)))
    if any(s.stop - s.start < n for s, n in zip(box, mask.shape)):
        return _in_box(first, second, mask, affine, encoding, box, levels, progress)
    axis = encoding.axis
    near = ndimage.binary_dilation(mask, iterations=max(2, round(8 / size.min())))
    scale = float(np.median(first[mask])) + 1e-12
    pair = [np.asarray(v, np.float32) / np.float32(scale) for v in (first, second)]
    gain = float(np.median(pair[1][mask]) / max(np.median(pair[0][mask]), 1e-9))
    pair[1] = pair[1] / max(gain, 1e-6)
    shift: NDArray[np.floating] = np.zeros(mask.shape, np.float32)
    pose = np.eye(4)
    geometry = Geometry.at_rest(affine, mask.shape, 1)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in mask.shape], indexing="ij"), -1)
    places = places.reshape(-1, 3).astype(np.float32)
    total, done = sum(rounds for _, rounds, _ in levels), 0
    weight = ndimage.gaussian_filter(near.astype(np.float32), 1.0)
    for blur, rounds, roughness in levels:
        splines = [
            spline(ndimage.gaussian_filter(p, blur / 2.355 / size, mode="nearest")) for p in pair
        ]
        for k in range(rounds):
            state = _State(splines, shift, pose, places, geometry, axis)
            if k % 2 == 0 or blur < 5:
                pose = _pose_step(state, weight, axis)
                state = _State(splines, shift, pose, places, geometry, axis)
            shift = _field_step(state, weight, roughness, axis, size)
            done += 1
            if progress is not None:
                progress(done, total)
    splines = [spline(p) for p in pair]
    rest = _State(splines, np.zeros(mask.shape, np.float32), np.eye(4), places, geometry, axis)
    end = _State(splines, shift, pose, places, geometry, axis)
    return FieldEstimate(
        (shift / encoding.voxels_per_hz).astype(np.float32),
        pose,
        gain,
        correlation(rest.first, rest.second, mask),
        correlation(end.first, end.second, mask),
        (end.first * scale).astype(np.float32),
        (end.second * scale * gain).astype(np.float32),
    )


def _in_box(
    first: NDArray, second: NDArray, mask: NDArray[np.bool_], affine: NDArray, encoding: PhaseEncoding,
    box: tuple[slice, slice, slice], levels: tuple[tuple[float, int, float], ...],
    progress: Callable[[int, int], None] | None,
) -> FieldEstimate:  # fmt: skip
    """The same in the part of the grid that holds the head, the field carried on beyond its borders."""
    inner = affine.copy()
    inner[:3, 3] += affine[:3, :3] @ np.array([s.start for s in box])
    found = estimate_field(
        first[box], second[box], mask[box], inner, encoding, levels=levels, progress=progress
    )
    pad = [(s.start, n - s.stop) for s, n in zip(box, mask.shape)]
    images = []
    for small, whole in ((found.first, first), (found.second, second)):
        image = np.array(whole, dtype=np.float32)
        image[box] = small
        images.append(image)
    return replace(found, hz=np.pad(found.hz, pad, mode="edge"), first=images[0], second=images[1])


class _State:
    """Both images corrected by the present field and pose, with what their slopes are."""

    def __init__(
        self, splines: list[NDArray], shift: NDArray, pose: NDArray, places: NDArray, geometry: Geometry,
        axis: int,
    ) -> None:  # fmt: skip
        shape = shift.shape
        self.shift, self.pose, self.geometry, self.places = shift, pose, geometry, places
        slope = central(shift, axis)
        self.spread = (1 + slope, 1 - slope)
        matrix = np.linalg.inv(geometry.affine) @ pose @ geometry.affine
        moved = (places @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
        self.matrix, self.moved = matrix, moved
        found = []
        for at, sense, volume in ((places, 1, splines[0]), (moved, -1, splines[1])):
            where = np.array(at, dtype=np.float32)
            where[:, axis] += (sense * shift.reshape(-1)).astype(np.float32)
            found.append(np.nan_to_num(value_and_slope(volume, where)))
        self.raw = [f[:, 0].reshape(shape) for f in found]
        self.along = [f[:, 1 + axis].reshape(shape) for f in found]
        self.slopes = found[1][:, 1:]
        self.first = self.raw[0] * self.spread[0]
        self.second = self.raw[1] * self.spread[1]


def _field_step(
    state: _State, weight: NDArray, roughness: float, axis: int, size: NDArray
) -> NDArray[np.float64]:
    """The displacement (X, Y, Z) in voxels after one Gauss-Newton step."""
    residual = state.first - state.second
    w = weight * robust(residual, weight)
    direct = state.along[0] * state.spread[0] + state.along[1] * state.spread[1]
    through = state.raw[0] + state.raw[1]
    return displacement_step(state.shift, residual, direct, through, w, roughness, axis, size)


def _pose_step(state: _State, weight: NDArray, axis: int) -> NDArray[np.float64]:
    """The pose after one step; not along the phase-encoded axis."""
    affine, centre = state.geometry.affine, state.geometry.centre
    residual = (state.first - state.second).reshape(-1)
    w = (weight * robust(state.first - state.second, weight)).reshape(-1)
    use = w > 0.05
    world = state.slopes[use] @ np.linalg.inv(affine[:3, :3])
    world *= state.spread[1].reshape(-1)[use, None]
    arm = state.moved[use] @ affine[:3, :3].T + affine[:3, 3] - centre
    step = step_across(world, arm, residual[use], w[use], affine[:3, axis], centre)
    return np.asarray(step @ state.pose)


def correlation(one: NDArray, other: NDArray, mask: NDArray[np.bool_]) -> float:
    """Of two images in a mask."""
    return float(np.corrcoef(one[mask], other[mask])[0, 1])
