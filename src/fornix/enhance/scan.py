"""A scan at other gradients, in smaller voxels, or both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.enhance.grids import fine_grid
from fornix.enhance.measured import Carried
from fornix.enhance.protocols import target_gradients
from fornix.enhance.result import Enhanced
from fornix.enhance.space import sharpen
from fornix.estimators.predict import predict

Progress = Callable[[int, int], None]


def enhance_scan(
    dwi: DWI,
    *,
    to: Gradients | str | Path | None = None,
    voxel_size: ArrayLike | None = None,
    method: str = "auto",
    adapt: bool | None = None,
    denoised: DWI | None = None,
    threads: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Enhanced:
    """The scan as it would have been at other gradients, in smaller voxels, or both.

    Both together: first the gradients, by estimators that know noise as it was measured; then the predicted
    volumes are mixed into smaller voxels as the measured scan tells.

    Args:
        dwi: The scan, with its noise level (`estimate_noise`), a b0, and for smaller voxels a mask.
        to: Gradients, or what names them, see `enhance.protocols.target_gradients`.
        voxel_size: mm, one number or three along the voxel axes: a third of the measured or more, no larger
            along any axis, smaller by 1.25 or more along at least one.
        method: Of the gradients' prediction, as in `predict`.
        adapt: As in `predict`.
        denoised: The same scan denoised already; None denoises it for smaller voxels.
        threads: None leaves numba's and torch's numbers as they are.
        device: `auto`, `cpu` or `cuda`.
        progress: Called with (done, in all) of each part.

    Returns:
        The enhanced scan with mask and noise level on its own grid, and its standard deviation.

    Raises:
        FornixError: Neither is asked for, or one cannot be had from this scan.
    """
    if to is None and voxel_size is None:
        raise FornixError("say what to enhance: --to PROTOCOL, --voxel-size MM, or both")
    if voxel_size is not None:
        fine_grid(dwi, voxel_size)  # says what is wrong with it before the long part
    with use_threads(threads):
        carried, method_told, details = None, "", {}
        if to is not None:
            target = to if isinstance(to, Gradients) else target_gradients(to, dwi.affine)
            predicted, spread = predict(
                dwi, target, method=method, adapt=adapt, device=device, progress=progress
            )
            assert spread.std is not None
            method_told, details = spread.method, dict(spread.details)
            if voxel_size is None:
                level = np.where(dwi.brain(), spread.std.mean(-1), 0).astype(np.float32)
                return Enhanced(predicted.with_(sigma=level), spread.std, method_told, details)
            carried = Carried(predicted, spread.std)
        assert voxel_size is not None
        made = sharpen(
            dwi, voxel_size, carried=carried, denoised=denoised, device=device, progress=progress
        )
    both = " and ".join(m for m in (method_told, made.method) if m)
    return Enhanced(made.dwi, made.std, both, {**details, **made.details})
