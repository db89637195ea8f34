"""What the networks of fibre orientations see in a scan: voxels, their neighbours, the scan as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks, in_parallel
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.signals import Signals
from fornix.learn import weights as shipped
from fornix.learn.context import Attention
from fornix.learn.features import Features, extract
from fornix.learn.fod_network import FodNetwork
from fornix.learn.fod_peaks import PeakTrust
from fornix.learn.fod_spatial import first_pass
from fornix.learn.observe import Observed, Observer
from fornix.learn.scan import around, known_range, typical, usable_noise
from fornix.orientation.lobes import MOST, lobes
from fornix.preprocess import estimate_noise

#: Weights behind each method.
NETWORKS = {"learned": "fod-spatial", "voxelwise": "fod"}
#: Voxels that go through a network at once: few enough to stay in a core's cache.
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Orientations:
    """What a network says of n voxels; those that could not be read are zero.

    fod: (n, 45). spread: (n, 2) floor and share of `FodAnswer`. tissue: (n, 3) fractions.
    directions: (n, MOST, 3) of the maxima of the field, amplitude (n, MOST) of the FOD there,
    probability (n, MOST) of a fibre and cone95 (n, MOST) in degrees; zeros where there are fewer.
    readable: (n,). notes; weights: label.
    """

    fod: NDArray[np.float32]
    spread: NDArray[np.float32]
    tissue: NDArray[np.float32]
    directions: NDArray[np.float32]
    amplitude: NDArray[np.float32]
    probability: NDArray[np.float32]
    cone95: NDArray[np.float32]
    readable: NDArray[np.bool_]
    notes: list[str]
    weights: str


@dataclass(frozen=True, eq=False)
class Scene:
    """The usable voxels of a scan as one network sees them.

    network, trust: of the weights. observer: of the protocol. signals: (n, N) and sigma (n,) in units
    of the data. voxels: (n,) flat indices of the grid. wide: averages over neighbours, pass by pass,
    (n, R) and (n,); empty for `voxelwise`.
    """

    network: FodNetwork
    trust: PeakTrust
    observer: Observer
    signals: NDArray[np.float32] | Signals
    sigma: NDArray[np.float64]
    voxels: NDArray[np.int64]
    wide: list[tuple[torch.Tensor, torch.Tensor]]

    def features(self, chosen: NDArray[np.int64] | slice) -> Features:
        """Features of some of the voxels."""
        seen = self.observer.observe(np.ascontiguousarray(self.signals[chosen]), self.sigma[chosen])
        near = tuple(
            self.observer.averaged(seen, mean[chosen], noise[chosen]) for mean, noise in self.wide
        )
        return extract(self.observer, seen, near)

    def typical(self) -> Features:
        """Voxels that show what the scan is like."""
        return self.features(typical(self.voxels, len(self.voxels)))


@torch.no_grad()
def read_orientations(
    dwi: DWI, method: str, inside: NDArray[np.int64], device: torch.device, adapted: bool = False
) -> Orientations:
    """Ask a network about the voxels `inside` (flat indices of the grid).

    method: of `NETWORKS`. adapted: fit what the network takes the scan to be to its own volumes first.
    Raises FornixError for protocols without a tensor and for scans without usable signals.
    """
    dwi, notes = known_range(dwi)
    signals = Signals(dwi, inside)
    readable = np.concatenate(
        [
            np.isfinite(part).all(1) & (part > 0).any(1)
            for part in (signals[b] for b in blocks(len(inside), _BLOCK))
        ]
    )
    good = np.flatnonzero(readable)
    if not len(good):
        raise FornixError("no voxel of the mask holds usable signals (NaN, inf or all zero)")
    usable = signals.of(good)
    made = shipped.load(NETWORKS[method])
    level = usable_noise(_noise(dwi, inside[good]), notes)
    scene = scene_of(dwi, method, usable, level, inside[good], device)
    known = scene.network.population(scene.typical().invariants)
    if adapted:
        from fornix.orientation.adaptation import to_scan

        shift, note = to_scan(dwi, method, scene)
        known = known + shift
        notes.append(note)
    shapes = {
        "fod": (45,), "spread": (2,), "tissue": (3,), "directions": (MOST, 3), "amplitude": (MOST,),
        "probability": (MOST,), "cone95": (MOST,),
    }  # fmt: skip
    full = {k: np.zeros((len(inside), *shape), np.float32) for k, shape in shapes.items()}

    @torch.no_grad()  # of each thread its own
    def ask(part: slice) -> None:
        answer = scene.network(scene.features(part), known)
        found = lobes(answer)
        here = good[part]
        full["fod"][here] = answer.fod.cpu().numpy()
        full["spread"][here] = torch.stack([answer.floor, answer.share], 1).cpu().numpy()
        full["tissue"][here] = answer.tissue.cpu().numpy()
        full["directions"][here], full["amplitude"][here] = found.directions, found.amplitude
        rows, which = np.nonzero(found.there)
        numbers = found.numbers[rows, which]
        full["probability"][here[rows], which] = scene.trust.probability(numbers)
        full["cone95"][here[rows], which] = scene.trust.cone95(numbers)

    for _ in in_parallel(ask, list(blocks(len(good), _BLOCK))):
        pass
    return Orientations(**full, readable=readable, notes=notes, weights=made.label)


def scene_of(
    dwi: DWI,
    method: str,
    signals: NDArray[np.float32] | Signals,
    sigma: NDArray[np.float64],
    voxels: NDArray[np.int64],
    device: torch.device,
) -> Scene:
    """Usable voxels (flat indices of the grid) with their signals (n, N) and noise (n,), averaged with
    their neighbours where the method reads them."""
    made = shipped.load(NETWORKS[method])
    network = shipped.network(made)
    assert isinstance(network, FodNetwork)
    observer = Observer(dwi.gradients, device)
    wide = []
    if method == "learned":
        first, *others = blocks(len(voxels), _BLOCK)

        def observe(part: slice) -> Observed:
            return observer.observe(signals[part], sigma[part])

        # The first block alone: it makes what the others share.
        lots = chain([observe(first)], in_parallel(observe, others))
        every = Observed.joined(lots, len(voxels))
        attention = shipped.network(shipped.load("context"))
        assert isinstance(attention, Attention)
        wide = around(dwi, observer, every, voxels, first_pass(attention))
    trust = PeakTrust.from_state(made.groups["peaks"])
    return Scene(network.to(device), trust, observer, signals, sigma, voxels, wide)


def _noise(dwi: DWI, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Noise level as it is told, or estimated, of the voxels at flat `places`."""
    given = dwi.sigma if dwi.sigma is not None else estimate_noise(dwi).sigma
    return np.broadcast_to(np.asarray(given, dtype=np.float64), dwi.grid).reshape(-1)[places]
