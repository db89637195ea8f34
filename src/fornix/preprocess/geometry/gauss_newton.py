"""One step of a volume towards its prediction: six numbers of the pose, ten of the eddy field, a gain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fornix.preprocess.geometry.reading import Samples
from fornix.preprocess.geometry.transform import Geometry, small_pose

#: Prior standard deviation of the eddy field's terms: displacement in mm at `transform.EDDY_UNIT` from
#: the centre.
EDDY_PRIOR = np.r_[1.0, np.full(3, 4.0), np.full(6, 2.0)]
#: Residuals of neighbouring voxels are alike: so many count as one.
_ALIKE = 8.0
_TUKEY = 4.685


def step(
    geometry: Geometry,
    volume: int,
    seen: Samples,
    target: NDArray[np.floating],
    usable: NDArray[np.bool_],
    terms: int,
    expected: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The pose (4, 4), eddy coefficients (10,) in Hz and residual after one Gauss-Newton step.

    Args:
        geometry: Before the step.
        volume: Which.
        seen: Of the volume.
        target: (n,) what it should show.
        usable: (n,) where both hold.
        terms: How many of the eddy terms are free: 0, 4 or 10.
        expected: (10,) prior mean of the eddy coefficients, Hz.
        spread: (10,) their prior standard deviation, Hz.
    """
    y, p = seen.signal[usable].astype(np.float64), np.asarray(target[usable], dtype=np.float64)
    own = geometry.eddy[volume]
    if len(y) < 50 * (7 + terms) or not (p > 0).any():
        return geometry.poses[volume], own, float("nan")
    design = _design(geometry, seen, usable, terms)
    gain = (y @ p) / (p @ p)
    # Where the volume is brighter throughout, its prediction is scaled, not moved.
    residual = y - gain * p
    weight, scale = _tukey(residual)
    full = np.concatenate([design, -p[:, None]], 1)
    left = full * weight[:, None]
    normal = left.T @ full
    right = -left.T @ residual
    if terms:
        # The prior speaks as one of so many residuals that say something new.
        strength = _ALIKE * scale**2 / np.maximum(spread[:terms], 1e-9) ** 2
        at = np.arange(6, 6 + terms)
        normal[at, at] += strength
        right[at] += strength * (expected[:terms] - own[:terms])
    size = np.sqrt(np.diag(normal)) + 1e-12
    move = (
        np.linalg.solve(normal / size / size[:, None] + 1e-6 * np.eye(len(size)), right / size)
        / size
    )
    # A step beyond what the slopes are true for is shortened.
    reach = max(np.linalg.norm(move[:3]) / 3.0, np.linalg.norm(move[3:6]) / np.radians(3.0), 1.0)
    move = move / reach
    eddy = own.copy()
    eddy[:terms] += move[6 : 6 + terms]
    pose = small_pose(move[:6], geometry.centre) @ geometry.poses[volume]
    pose[:3, :3] = Rotation.from_matrix(pose[:3, :3]).as_matrix()
    return pose, eddy, scale


def eddy_prior(geometry: Geometry) -> NDArray[np.float64]:
    """Standard deviations of the eddy coefficients before anything is seen, (10,) Hz."""
    if geometry.encoding is None:
        return np.full(10, 1e-9)
    size = np.linalg.norm(geometry.affine[:3, geometry.encoding.axis])
    return EDDY_PRIOR / (size * geometry.encoding.readout_time)


def _design(
    geometry: Geometry, seen: Samples, usable: NDArray[np.bool_], terms: int
) -> NDArray[np.float64]:
    """Derivatives of the signal (n, 6 + terms): along translations in mm, turns in rad, eddy terms in Hz."""
    slope, moved = seen.slope[usable].astype(np.float64), seen.moved[usable]
    inverse = np.linalg.inv(geometry.affine[:3, :3])
    world = slope @ inverse  # per mm
    arm = moved @ geometry.affine[:3, :3].T + geometry.affine[:3, 3] - geometry.centre
    # x moves by w × arm: the derivative by w is arm × slope.
    parts = [world, np.cross(arm, world)]
    if terms:
        assert geometry.encoding is not None
        along = slope[:, geometry.encoding.axis] * geometry.encoding.voxels_per_hz
        parts.append(along[:, None] * geometry.polynomials(moved)[:, :terms])
    return np.concatenate(parts, 1)


def _tukey(residual: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Biweights (n,) and the residuals' scale."""
    scale = 1.4826 * float(np.median(np.abs(residual))) + 1e-12
    relative = residual / (_TUKEY * scale)
    return np.where(np.abs(relative) < 1, (1 - relative**2) ** 2, 0.0), scale
