"""Head motion and linear eddy currents: each volume registered to the scan's own mean, through DIPY."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.compute import available_threads
from fornix.core.dwi import DWI


@dataclass(frozen=True)
class Motion:
    """How each volume lies against the reference.

    transforms: (N, 4, 4), reference world coordinates to the volume's world coordinates.
    """

    transforms: NDArray[np.float64]

    def translation(self) -> NDArray[np.float64]:
        """(N,) mm, of the point at the centre of the reference grid's world origin."""
        return np.linalg.norm(self.transforms[:, :3, 3], axis=1)

    def rotations(self) -> NDArray[np.float64]:
        """(N, 3, 3) the rotation part of each transform."""
        left, _, right = np.linalg.svd(self.transforms[:, :3, :3])
        return left @ right

    def rotation_angle(self) -> NDArray[np.float64]:
        """(N,) degrees."""
        trace = np.trace(self.rotations(), axis1=1, axis2=2)
        return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def correct_motion(
    dwi: DWI, model: str = "affine", *, threads: int | None = None
) -> tuple[DWI, Motion]:
    """The scan with its volumes aligned and its gradients turned with the head.

    model: `rigid` for head motion, `affine` for linear eddy currents as well.
    b0s are registered to the first b0, diffusion-weighted volumes to their own mean (twice: the
    mean is sharper the second time) by mutual information, and that mean to the b0.
    """
    from dipy.align import affine_registration

    pipeline = ["rigid"] if model == "rigid" else ["rigid", "affine"]

    def register(moving: NDArray, static: NDArray, steps: list[str]) -> NDArray[np.float64]:
        _, matrix = affine_registration(
            _boosted(moving),
            _boosted(static),
            moving_affine=dwi.affine,
            static_affine=dwi.affine,
            pipeline=steps,
            level_iters=[200, 50],
            sigmas=[2.0, 0.5],
            factors=[4, 2],
            ret_metric=False,
        )
        return np.asarray(matrix, dtype=np.float64)

    data = np.asarray(dwi.data)
    transforms = np.tile(np.eye(4), (len(dwi.gradients), 1, 1))
    b0 = np.flatnonzero(dwi.gradients.b0_mask)
    weighted = np.flatnonzero(~dwi.gradients.b0_mask)
    with ThreadPoolExecutor(threads or available_threads()) as pool:
        if len(b0) > 1:
            others = b0[1:]
            found = pool.map(
                register, _volumes(data, others), repeat(data[..., b0[0]]), repeat(["rigid"])
            )
            transforms[others] = list(found)
        if len(weighted):
            reference = _median(data[..., weighted])
            for _ in range(2):
                found = pool.map(
                    register, _volumes(data, weighted), repeat(reference), repeat(pipeline)
                )
                transforms[weighted] = list(found)
                aligned = [_resample(data[..., v], transforms[v], dwi.affine) for v in weighted]
                reference = _median(np.stack(aligned, axis=-1))
            if len(b0):
                link = register(reference, data[..., b0[0]], ["rigid"])
                transforms[weighted] = transforms[weighted] @ link
    motion = Motion(transforms)
    out = np.stack(
        [_resample(data[..., v], transforms[v], dwi.affine) for v in range(data.shape[3])], axis=-1
    )
    # A head turned by R sees the gradient turned by R^T.
    gradients = dwi.gradients.rotated(np.swapaxes(motion.rotations(), 1, 2))
    return dwi.with_(data=out.astype(np.float32), gradients=gradients), motion


def _volumes(data: NDArray, index: NDArray) -> Iterator[NDArray]:
    return (data[..., v] for v in index)


def _boosted(volume: NDArray) -> NDArray[np.float64]:
    top = max(float(np.percentile(volume, 99.5)), 1e-12)
    return np.clip(volume / top, 0, 1).astype(np.float64)


def _median(volumes: NDArray) -> NDArray:
    return np.median(volumes, axis=3)


def _resample(volume: NDArray, transform: NDArray, affine: NDArray) -> NDArray:
    """The volume on the reference grid, cubic, never above or below what it held."""
    matrix = np.linalg.inv(affine) @ transform @ affine
    if np.allclose(matrix, np.eye(4), atol=1e-6):
        return volume
    moved = ndimage.affine_transform(volume, matrix[:3, :3], matrix[:3, 3], order=3, mode="nearest")
    return np.clip(moved, volume.min(), volume.max())
