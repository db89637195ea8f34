"""Removal of Gibbs ringing by local subvoxel shifts, through DIPY (Kellner et al., MRM 2016)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np

from fornix.core.compute import available_threads
from fornix.core.dwi import DWI
from fornix.core.series import put_volume, room_like


def remove_gibbs(
    dwi: DWI,
    *,
    slice_axis: int = 2,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DWI:
    """The scan without ringing in the slice plane.

    Only right for images that were not interpolated or zero-filled: there the ringing has another
    period. Do it after denoising and before anything that interpolates.
    """
    from dipy.denoise.gibbs import gibbs_removal

    done = count(1)

    out = room_like(dwi.data)

    def one(volume: int) -> None:
        # In double precision: with float32 input DIPY's shifts overflow in dark slices.
        clean = gibbs_removal(np.array(dwi.volume(volume), dtype=np.float64), slice_axis=slice_axis)
        put_volume(out, volume, np.asarray(clean, dtype=np.float32))
        if progress is not None:
            progress(next(done), len(dwi.gradients))

    if min(n for axis, n in enumerate(dwi.grid) if axis != slice_axis) < 8:
        return dwi  # no ringing can be told from structure in so few pixels
    with ThreadPoolExecutor(threads or available_threads()) as pool:
        for _ in pool.map(one, range(len(dwi.gradients))):
            pass
    return dwi.with_(data=out)
