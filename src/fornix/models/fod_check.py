"""Orientation files from elsewhere: are they in our basis and in world axes?

Neighbouring voxels along a fibre point the same way. Read in a wrong basis or in wrong axes they do
not, which shows without any reference (the fibre coherence of Schilling et al., NeuroImage 2019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError, tell
from fornix.core.gradients import fsl_to_world, voxel_rotation
from fornix.models.peaks import find_peaks
from fornix.numerics import harmonics

#: A rival reading must be better by this much; smaller differences are chance.
_MARGIN = 0.02
#: Voxels with fibres that a verdict needs, and at most takes.
_LEAST, _MOST = 100, 40_000


def check_fod(data: NDArray, affine: ArrayLike | None = None) -> int:
    """The harmonic order of a FOD array (X, Y, Z, coefficients), checked to be one in our basis.

    Args:
        data: (X, Y, Z, coefficients).
        affine: With it, neighbouring voxels also tell DIPY's bases from MRtrix3's.

    Raises:
        FornixError: With what to do, where the array is something else.
    """
    if data.ndim != 4:
        raise FornixError(f"a FOD image has 4 dimensions, this one has {data.ndim}")
    count = data.shape[3]
    root = round(np.sqrt(count))
    if root > 1 and root**2 == count and not _is_even(count):
        raise FornixError(
            f"{count} coefficients are those of a basis with odd orders up to {root - 1}; "
            "FODs are symmetric: keep the even orders only"
        )
    lmax = harmonics.lmax_of(count)
    if not np.isfinite(data).all():
        bad = int((~np.isfinite(data).all(axis=3)).sum())
        raise FornixError(f"{bad} voxels of the FOD are not finite; set them to zero")
    first = data[..., 0]
    if not (first > 0).any() or (first < -1e-6).mean() > 0.5:
        raise FornixError(
            "the first coefficient of a FOD is its mean and cannot be negative: the file is in another "
            "basis; convert it to MRtrix3's"
        )
    if affine is not None and lmax >= 2:
        _check_basis(data, np.asarray(affine, dtype=np.float64), lmax)
    return lmax


def check_peaks(peaks: NDArray, affine: ArrayLike) -> tuple[str, ...]:
    """Notes on a peaks image (X, Y, Z, 3 per peak): warns where world axes fit worse than voxel axes.

    Nothing is changed: `peaks_to_world` does that. Returns the notes, empty where all is well or
    too few voxels have peaks to tell. Raises FornixError where the shape cannot be peaks.
    """
    affine = np.asarray(affine, dtype=np.float64)
    if peaks.ndim != 4 or peaks.shape[3] % 3:
        raise FornixError(
            f"a peaks image has 4 dimensions and 3 numbers per peak, this one has shape {peaks.shape}"
        )
    first = np.nan_to_num(peaks[..., :3])
    world = coherence(first, affine)
    if world is None:
        return ()
    rotation = voxel_rotation(affine)
    readings = {"voxel axes": rotation, "FSL's axes": fsl_to_world(affine)}
    scores = {name: coherence(first @ turn.T, affine) or 0.0 for name, turn in readings.items()}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] <= world + _MARGIN:
        return ()
    return (
        tell(
            f"the peaks seem to be in {best}, not in world axes (neighbours agree to "
            f"{scores[best]:.2f} against {world:.2f}); turn them with peaks_to_world"
        ),
    )


def peaks_to_world(peaks: NDArray, affine: ArrayLike, fsl: bool = False) -> NDArray[np.float32]:
    """Peaks (X, Y, Z, 3 per peak) given in voxel axes, or FSL's, in world axes."""
    affine = np.asarray(affine, dtype=np.float64)
    rotation = fsl_to_world(affine) if fsl else voxel_rotation(affine)
    vectors = peaks.reshape(*peaks.shape[:3], -1, 3) @ rotation.T
    return np.asarray(vectors.reshape(peaks.shape), dtype=np.float32)


def coherence(vectors: NDArray, affine: NDArray[np.float64]) -> float | None:
    """How well the next voxels along each vector agree with it: 0 by chance, 1 for straight fibres.

    Args:
        vectors: (X, Y, Z, 3) in world axes, zeros where there is none. Weighted by length, so that a
            reading that leads out of the fibres counts as disagreement.
        affine: (4, 4) voxel to world, mm.

    Returns:
        None where fewer than 100 voxels have strong vectors.
    """
    length = np.linalg.norm(vectors, axis=3)
    if not (length > 0).any():
        return None
    high = np.percentile(length[length > 0], 95)
    used = np.argwhere(length > 0.3 * high)
    if len(used) < _LEAST:
        return None
    used = used[:: len(used) // _MOST + 1]
    weight = np.minimum(length, high)
    size = length[tuple(used.T)]
    here = vectors[tuple(used.T)] / size[:, None]
    step = here @ np.linalg.inv(affine[:3, :3]).T
    step = np.rint(step / np.abs(step).max(axis=1, keepdims=True)).astype(int)
    total = 0.0
    for side in (1, -1):
        there = used + side * step
        inside = ((there >= 0) & (there < vectors.shape[:3])).all(axis=1)
        ahead = tuple(there[inside].T)
        other = vectors[ahead] / np.maximum(length[ahead], 1e-12)[:, None]
        # Squared, about its mean of 1/3 for random directions.
        agreement = 1.5 * (here[inside] * other).sum(axis=1) ** 2 - 0.5
        agreement *= weight[ahead] * weight[tuple(used[inside].T)]
        total += float(agreement.sum())
    return total / (2 * float((weight[tuple(used.T)] ** 2).sum()))


def _check_basis(data: NDArray, affine: NDArray[np.float64], lmax: int) -> None:
    inside = data[..., 0] > 0
    values = data[inside].astype(np.float64)

    def score(matrix: NDArray) -> float | None:
        vectors = np.zeros((*data.shape[:3], 3))
        vectors[inside] = find_peaks((values @ matrix.T).astype(np.float32), 1)[:, 0]
        return coherence(vectors, affine)

    ours = score(np.eye(data.shape[3]))
    if ours is None:
        return
    rivals = {
        f"DIPY's {name}{' (legacy)' if legacy else ''}": harmonics.from_dipy_matrix(
            lmax, name, legacy
        )
        for name in ("descoteaux07", "tournier07")
        for legacy in (True, False)
    }
    scores = {name: score(matrix) or 0.0 for name, matrix in rivals.items()}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] > ours + _MARGIN:
        raise FornixError(
            f"the FOD seems to be in the basis {best}, not MRtrix3's (neighbours agree to "
            f"{scores[best]:.2f} against {ours:.2f}); convert it with "
            "fornix.numerics.harmonics.from_dipy_matrix"
        )


def _is_even(count: int) -> bool:
    try:
        harmonics.lmax_of(count)
    except FornixError:
        return False
    return True
