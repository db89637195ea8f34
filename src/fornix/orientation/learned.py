"""Fibre orientations by the network, of a whole scan: any protocol from six directions.

Each voxel is read alone, but judged by what the scan's voxels are like together (`learn.population`).
The FOD is the mean of what could be; a peak of it is shown where a fibre is more likely than
`CONFIDENT` to lie near, with that probability and a cone that holds it in 95 of 100.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks, pick_device
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import Map, Maps
from fornix.learn import weights as shipped
from fornix.learn.features import extract
from fornix.learn.fod_network import FodNetwork
from fornix.learn.fod_peaks import PeakTrust
from fornix.learn.observe import Observed, Observer
from fornix.learn.population import ENOUGH
from fornix.microstructure.fit import gather
from fornix.orientation.lobes import MOST, Lobes, lobes
from fornix.preprocess import estimate_noise
from fornix.qspace.prior import BMAX

WEIGHTS = "fod"
#: A peak is shown where a fibre lies near with at least this probability: about where the sum of
#: missed and spurious peaks is least (docs/benchmarks/orientation.csv has the whole curve).
CONFIDENT = 0.2
_BLOCK = 4096
_TISSUES = ("wm", "gm", "csf")


@dataclass(frozen=True, eq=False)
class Orientations:
    """What the network says of n voxels, those that could be read; the others are zero.

    fod: (n, 45). spread: (n, 2) floor and share of `FodAnswer`. tissue: (n, 3) fractions. lobes, and
    for each of them probability (n, MOST) of a fibre and cone95 (n, MOST) in degrees. readable: (n,).
    """

    fod: NDArray[np.float32]
    spread: NDArray[np.float32]
    tissue: NDArray[np.float32]
    lobes: Lobes
    probability: NDArray[np.float32]
    cone95: NDArray[np.float32]
    readable: NDArray[np.bool_]


def learned_fod(
    dwi: DWI, peaks: int = 3, device: str = "auto", confident: float = CONFIDENT
) -> Maps:
    """The network's answer as maps.

    dwi.sigma is the noise level, estimated from the scan where it is None. peaks: how many at most,
    up to 4. confident: least probability of a peak that is shown, 0 to 1.

    Returns Maps `fod` (45 coefficients, MRtrix3 basis, world axes, its integral is the share of the
    voxel that is not water), `fodstd` (X, Y, Z, 2: a and b of the standard deviation
    sqrt(a² + (b f)²) of an amplitude f), `wm`, `gm`, `csf` (fractions), `peaks` (X, Y, Z, 3 per peak:
    vectors in world axes, length = amplitude), `peakprob` and `peakcone` (X, Y, Z, peaks).
    `trust` is False where signals could not be read.

    Raises FornixError for protocols without a tensor and for scans without usable signals.
    """
    if not 1 <= peaks <= MOST:
        raise FornixError(f"the learned method gives 1 to {MOST} peaks, not {peaks}")
    if not 0 <= confident <= 1:
        raise FornixError(f"the least probability of a peak must lie in [0, 1], not {confident}")
    inside = np.flatnonzero(dwi.brain())
    if not len(inside):
        raise FornixError("the mask is empty")
    found, notes, label = _read(dwi, inside, pick_device(device))
    shown = found.probability >= confident
    # Those that stay come first, most likely fibres before others of the same voxel.
    order = np.argsort(np.where(shown, -found.probability, 1.0), axis=1, kind="stable")[:, :peaks]
    kept = np.take_along_axis(shown, order, 1)

    def chosen(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(kept, np.take_along_axis(values, order, 1), 0).astype(np.float32)

    rows = np.arange(len(inside))[:, None]
    vectors = found.lobes.directions[rows, order] * chosen(found.lobes.amplitude)[..., None]
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
            units="degrees" if name == "peakcone" else "1", method=f"learned ({label})",
            description=text,
        )
        for name, (data, text) in made.items()
    }  # fmt: skip
    trust = np.zeros(dwi.grid, dtype=bool)
    trust.reshape(-1)[inside] = found.readable
    return Maps(maps, trust, tuple(notes))


@torch.inference_mode()
def _read(
    dwi: DWI, inside: NDArray[np.int64], device: torch.device
) -> tuple[Orientations, list[str], str]:
    """Orientations of the voxels `inside` (flat indices of the grid), notes, and the weights' label."""
    notes: list[str] = []
    far = dwi.gradients.b > BMAX
    if far.any():
        notes.append(
            f"{int(far.sum())} volumes above b={1000 * BMAX:.0f} s/mm² were left out: no network was "
            "trained there"
        )
        dwi = dwi.subset(~far)
    made = shipped.load(WEIGHTS)
    network = shipped.network(made)
    assert isinstance(network, FodNetwork)
    network = network.to(device)
    observer = Observer(dwi.gradients, device)
    signals = gather(dwi.data, np.arange(dwi.data.shape[3]), inside)
    readable = np.asarray(np.isfinite(signals).all(1) & (np.nan_to_num(signals) > 0).any(1))
    good = np.flatnonzero(readable)
    if not len(good):
        raise FornixError("no voxel of the mask holds usable signals (NaN, inf or all zero)")
    sigma = _noise(dwi, inside[good])
    seen = [observer.observe(signals[good[b]], sigma[b]) for b in blocks(len(good), _BLOCK)]
    known = network.population(
        extract(observer, Observed.joined(seen).take(_some(inside[good], device))).invariants
    )
    parts: dict[str, list[NDArray]] = {"fod": [], "spread": [], "tissue": []}
    for part in seen:
        answer = network(extract(observer, part), known)
        parts["fod"].append(answer.fod.cpu().numpy())
        parts["spread"].append(torch.stack([answer.floor, answer.share], 1).cpu().numpy())
        parts["tissue"].append(answer.tissue.cpu().numpy())
    full = {}
    for name, values in parts.items():
        every = np.concatenate(values)
        full[name] = np.zeros((len(inside), every.shape[1]), dtype=np.float32)
        full[name][good] = every
    found = lobes(full["fod"], full["spread"][:, 0], full["spread"][:, 1])
    trust = PeakTrust.from_state(made.groups["peaks"])
    there = found.amplitude > 0
    probability = np.where(there, trust.probability(found.numbers), 0)
    cone = np.where(there, trust.cone95(found.numbers), 0)
    return Orientations(
        full["fod"], full["spread"], full["tissue"], found, probability, cone, readable
    ), notes, made.label  # fmt: skip


def _noise(dwi: DWI, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Noise level of the voxels at flat `places`, the median of the others where there is none."""
    given = dwi.sigma if dwi.sigma is not None else estimate_noise(dwi).sigma
    level = np.broadcast_to(np.asarray(given, dtype=np.float64), dwi.grid).reshape(-1)[places]
    usable = np.isfinite(level) & (level > 0)
    if not usable.any():
        raise FornixError(
            "the noise level is zero or not a number everywhere; estimate it (fornix run does) or "
            "give --sigma"
        )
    return np.where(usable, level, np.median(level[usable]))


def _some(places: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Voxels that show what the scan is like, scattered by a multiplication of their places."""
    every = max(1, len(places) // ENOUGH)
    found = np.flatnonzero((places * 2654435761 >> 8) % every == 0)
    return torch.as_tensor(found if len(found) else np.arange(len(places)), device=device)
