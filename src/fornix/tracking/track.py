"""The stage: from fibre orientation distributions to a tractogram."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import available_threads
from fornix.core.dwi import DWI, check_mask
from fornix.core.errors import FornixError, tell
from fornix.core.maps import Maps
from fornix.core.methods import Method, MethodTable
from fornix.core.tractogram import Tractogram
from fornix.tracking.dipy_tracker import track_dipy
from fornix.tracking.engine import track_engine
from fornix.tracking.tissue import tissue_shares

TRACK_METHODS = MethodTable(
    "track",
    [
        Method(
            "probabilistic",
            partial(track_engine, "probabilistic"),
            "samples the FOD at each step",
            "Behrens et al., NeuroImage 2007; Tournier et al., 2012",
        ),
        Method(
            "deterministic",
            partial(track_engine, "deterministic"),
            "follows the largest amplitude ahead",
            "Basser et al., MRM 2000",
        ),
        Method(
            "probabilistic-dipy",
            partial(track_dipy, "probabilistic"),
            "DIPY's probabilistic tracker (slow)",
            "Girard et al., NeuroImage 2014",
        ),
        Method(
            "deterministic-dipy",
            partial(track_dipy, "deterministic"),
            "DIPY's deterministic tracker (slow)",
            "Basser et al., MRM 2000",
        ),
        Method(
            "ptt-dipy",
            partial(track_dipy, "ptt"),
            "parallel transport, smooth curves, DIPY (slow)",
            "Aydogan and Shi, IEEE TMI 2021",
        ),
    ],
)


def track(
    dwi: DWI,
    maps: Maps,
    method: str = "probabilistic",
    *,
    count: int = 100_000,
    seeds: NDArray[np.bool_] | None = None,
    step: float | None = None,
    angle: float = 30.0,
    threshold: float = 0.1,
    min_length: float = 20.0,
    max_length: float = 250.0,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tractogram:
    """Track streamlines with anatomical stopping from the diffusion scan alone.

    maps: from `microstructure` and `fod`: dti_fa, dti_md, fod, peaks.
    method: an entry of TRACK_METHODS. count: streamlines to keep.
    seeds: (X, Y, Z) voxels to start from; by default the white matter.
    step: mm, by default half the smallest voxel edge, at most 1 mm. angle: largest turn per step,
    degrees. threshold: of the FOD's largest amplitude, below which a direction is not taken.
    min_length, max_length: mm.

    A streamline is kept if both ends lie in grey matter (anatomically constrained tracking, Smith et
    al., NeuroImage 2012, with tissue from the diffusion scan). The same seed gives the same
    streamlines for any number of threads.

    Raises FornixError where no voxel can be seeded or no streamline is accepted.
    """
    entry = TRACK_METHODS[method]
    tissue = tissue_shares(dwi, maps)
    white = (tissue.white > 0.5) & dwi.brain()
    start = white if seeds is None else check_mask(seeds, dwi.grid) & dwi.brain()
    if not start.any():
        raise FornixError(
            "no voxel to seed from: no white matter was found in the mask; give seeds with --seeds"
        )
    made: Tractogram = entry.run(
        maps["fod"].data,
        dwi.affine,
        tissue,
        start,
        count=count,
        step=step or min(1.0, float(dwi.voxel_size.min()) / 2),
        angle=angle,
        threshold=threshold,
        min_length=min_length,
        max_length=max_length,
        seed=seed,
        threads=threads or available_threads(),
        progress=progress,
    )
    if len(made) < count:
        tell(f"{len(made)} streamlines of the {count} asked for were accepted")
    return made
