"""Head motion and linear eddy currents: each volume registered to the scan's own mean, through DIPY."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, repeat

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.compute import available_threads
from fornix.core.dwi import DWI
from fornix.core.series import put_volume, room_like


@dataclass(frozen=True)
class Motion:
    """How each volume lies against the reference.

    Attributes:
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
    dwi: DWI,
    model: str = "affine",
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[DWI, Motion]:
    """The scan with its volumes aligned and its gradients turned with the head.

    Args:
        dwi: The scan.
        model: `rigid` for head motion, `affine` for linear eddy currents as well. b0s are registered to
            the first b0, diffusion-weighted volumes to their own median, and that to the b0, by mutual
            information. Two rounds: a coarse one, then a finer one from where it ended, to a median
            that is sharper by then.
        threads: None leaves numba's and torch's numbers as they are.
        progress: Called with (done, in all).
    """
    transforms = np.tile(np.eye(4), (len(dwi.gradients), 1, 1))
    b0 = np.flatnonzero(dwi.gradients.b0_mask)
    weighted = np.flatnonzero(~dwi.gradients.b0_mask)
    total = max(len(b0) - 1, 0) + 2 * len(weighted)
    done = count(1)

    def register(moving: NDArray, static: NDArray, fine: bool, start: NDArray) -> NDArray:
        found = _register(moving, static, dwi.affine, model if fine else "rigid", fine, start)
        if progress is not None:
            progress(next(done), total)
        return found

    with _quiet_dipy(), ThreadPoolExecutor(threads or available_threads()) as pool:
        if len(b0) > 1:
            others = b0[1:]
            transforms[others] = list(
                pool.map(
                    lambda v: _register(
                        dwi.volume(v), dwi.volume(b0[0]), dwi.affine, "rigid", True, np.eye(4)
                    ),
                    others,
                )
            )
        if len(weighted):
            reference = _median(dwi, weighted)
            for fine in (False, True):
                jobs = (
                    (dwi.volume(v) for v in weighted.tolist()),
                    repeat(reference),
                    repeat(fine),
                    transforms[weighted],
                )
                transforms[weighted] = list(pool.map(register, *jobs))
                reference = _median(_aligned(dwi, transforms, weighted), weighted)
            if len(b0):
                link = _register(
                    reference, dwi.volume(int(b0[0])), dwi.affine, "rigid", True, np.eye(4)
                )
                transforms[weighted] = transforms[weighted] @ link
    motion = Motion(transforms)
    # A head turned by R sees the gradient turned by R^T.
    gradients = dwi.gradients.rotated(np.swapaxes(motion.rotations(), 1, 2))
    every = np.arange(len(transforms))
    return _aligned(dwi, transforms, every).with_(gradients=gradients), motion


def _aligned(dwi: DWI, transforms: NDArray[np.float64], volumes: NDArray[np.int64]) -> DWI:
    """Some volumes on the reference grid; the others hold nothing yet."""
    out = room_like(dwi.data)
    for v in volumes.tolist():
        put_volume(out, v, _resample(dwi.volume(v), transforms[v], dwi.affine))
    return dwi.with_(data=out)


def _median(dwi: DWI, volumes: NDArray[np.int64]) -> NDArray[np.float32]:
    """The median of some volumes, (X, Y, Z)."""
    out = np.empty(dwi.grid, dtype=np.float32)
    for here, signals in dwi.slabs(volumes):
        out[here] = np.median(signals, axis=3)
    return out


def _register(
    moving: NDArray, static: NDArray, affine: NDArray, model: str, fine: bool, start: NDArray
) -> NDArray[np.float64]:
    """DIPY's registration of one volume: static world coordinates to moving world coordinates."""
    from dipy.align import affine_registration

    _, matrix = affine_registration(
        _boosted(moving),
        _boosted(static),
        moving_affine=affine,
        static_affine=affine,
        pipeline=["rigid"] if model == "rigid" else ["rigid", "affine"],
        starting_affine=start,
        level_iters=[60] if fine else [100],
        sigmas=[1.0] if fine else [2.0],
        factors=[2] if fine else [4],
    )
    return np.asarray(matrix, dtype=np.float64)


@contextmanager
def _quiet_dipy() -> Iterator[None]:
    """DIPY tells of every step of every volume; only its warnings are let through."""
    log = logging.getLogger("dipy")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


def _boosted(volume: NDArray) -> NDArray[np.float64]:
    top = max(float(np.percentile(volume, 99.5)), 1e-12)
    return np.clip(volume / top, 0, 1).astype(np.float64)


def _resample(volume: NDArray, transform: NDArray, affine: NDArray) -> NDArray:
    """The volume on the reference grid, cubic, never above or below what it held."""
    matrix = np.linalg.inv(affine) @ transform @ affine
    if np.allclose(matrix, np.eye(4), atol=1e-6):
        return volume
    moved = ndimage.affine_transform(volume, matrix[:3, :3], matrix[:3, 3], order=3, mode="nearest")
    return np.clip(moved, volume.min(), volume.max())
