"""Fibre orientations by the networks, as maps of a whole scan: any protocol from six directions.

Two networks: `learned` reads a voxel and averages with those of its neighbours that noise alone could
explain as the same tissue (`learn.context`), `voxelwise` the voxel alone; both judge it by what the
scan's voxels are like together (`learn.population`). A peak is a maximum of the network's field; it is
shown where a fibre is likelier than `CONFIDENT` to lie near, with that probability and a cone that
holds it in 95 of 100. The FOD is the mean of what could be, which tracking samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import pick_device
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import Map, Maps
from fornix.orientation.lobes import MOST
from fornix.orientation.reading import read_orientations

#: A peak is shown where a fibre lies near with at least this probability: about where the sum of
#: missed and spurious peaks is least, chosen on another seed than the benchmark's
#: (docs/benchmarks/orientation.csv has the whole curve).
CONFIDENT = 0.25


def learned_fod(
    dwi: DWI,
    peaks: int = 3,
    device: str = "auto",
    confident: float = CONFIDENT,
    method: str = "learned",
    adapt: bool = False,
) -> Maps:
    """The answer of a network as maps.

    dwi.sigma is the noise level, estimated from the scan where it is None. peaks: how many at most,
    up to 4. confident: least probability of a peak that is shown, 0 to 1. method: `learned` (reads
    neighbours) or `voxelwise`. adapt: fit what the network takes the scan to be to the scan's own
    volumes first, kept only if hidden volumes are predicted better (`learn.fod_adapt`).

    Returns Maps `fod` (45 coefficients, MRtrix3 basis, world axes, its integral is the share of the
    voxel that is not water), `fodstd` (X, Y, Z, 2: a and b of the standard deviation
    sqrt(a² + (b f)²) of an amplitude f), `wm`, `gm`, `csf` (fractions), `peaks` (X, Y, Z, 3 per peak:
    vectors in world axes, length = amplitude), `peakprob` and `peakcone` (X, Y, Z, peaks).
    `trust` is False where signals could not be read.

    Raises FornixError for protocols without a tensor and for scans without usable signals.
    """
    if not 1 <= peaks <= MOST:
        raise FornixError(f"the learned methods give 1 to {MOST} peaks, not {peaks}")
    if not 0 <= confident <= 1:
        raise FornixError(f"the least probability of a peak must lie in [0, 1], not {confident}")
    inside = np.flatnonzero(dwi.brain())
    if not len(inside):
        raise FornixError("the mask is empty")
    found = read_orientations(dwi, method, inside, pick_device(device), adapt)
    shown = (found.probability >= confident) & (found.amplitude > 0)
    # Those that stay come first, most likely fibres before others of the same voxel.
    order = np.argsort(np.where(shown, -found.probability, 1.0), axis=1, kind="stable")[:, :peaks]
    kept = np.take_along_axis(shown, order, 1)

    def chosen(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(kept, np.take_along_axis(values, order, 1), 0).astype(np.float32)

    rows = np.arange(len(inside))[:, None]
    vectors = found.directions[rows, order] * chosen(found.amplitude)[..., None]
    made = {
        "fod": (found.fod, "fibre orientation distribution: real even harmonics of order 8, MRtrix3 "
                "basis, world axes"),
        "fodstd": (found.spread, "a and b of the standard deviation sqrt(a^2 + (b f)^2) of an "
                   "amplitude f of the FOD"),
        "peaks": (vectors.reshape(len(inside), -1), f"{peaks} vectors in world axes, length = FOD "
                  "amplitude, most likely fibre first"),
        "peakprob": (chosen(found.probability), "probability that a fibre lies near each peak"),
        "peakcone": (chosen(found.cone95), "degrees about each peak that hold the fibre in 95 of 100"),
        "wm": (found.tissue[:, 0], "fraction of white matter"),
        "gm": (found.tissue[:, 1], "fraction of grey matter"),
        "csf": (found.tissue[:, 2], "fraction of free water"),
    }  # fmt: skip
    maps = {
        name: Map(
            "", name, np.asarray(dwi.unmask(np.asarray(data, dtype=np.float32))), dwi.affine,
            units="degrees" if name == "peakcone" else "1", method=f"{method} ({found.weights})",
            description=text,
        )
        for name, (data, text) in made.items()
    }  # fmt: skip
    trust = np.zeros(dwi.grid, dtype=bool)
    trust.reshape(-1)[inside] = found.readable
    return Maps(maps, trust, tuple(found.notes))
