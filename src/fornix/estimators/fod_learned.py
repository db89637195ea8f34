"""Fibre orientations by the networks, as maps of a whole scan: any protocol from six directions.

Two networks: `learned` reads a voxel and averages with those of its neighbours that noise alone could
explain as the same tissue (`nets.neighbour_attention`), `voxelwise` the voxel alone; both judge it by what
the scan's voxels are like together (`nets.scan_encoder`). A peak is a maximum of the network's fibre
log-odds; it is shown where a fibre is likelier than `MIN_PEAK_PROB` to lie near, with that probability and
a cone that holds it in 95 of 100. The FOD is the mean of what could be, which tracking samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import in_parallel, pick_device
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import Map, Maps
from fornix.estimators.microstructure_learned import context_attention
from fornix.nets import weights as shipped
from fornix.nets.adaptation import adapt_to_scan
from fornix.nets.build import build_network
from fornix.nets.fod_net import FodNet
from fornix.nets.likelihoods import FodSignalModel
from fornix.nets.peak_candidates import MOST, peak_candidates
from fornix.nets.scan_view import ScanView
from fornix.preprocess.noise import noise_of_voxels
from fornix.uncertainty.peaks import PeakCalibration

#: A peak is shown where a fibre lies near with at least this probability: about where the sum of
#: missed and spurious peaks is least, chosen on another seed than the benchmark's
#: (docs/benchmarks/orientation.csv has the whole curve).
MIN_PEAK_PROB = 0.25
#: Voxels that go through a network at once: few enough to stay in a core's cache.
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Orientations:
    """What a network says of n voxels; those that could not be read are zero.

    Attributes:
        fod: (n, 45).
        fod_std: (n, 2) `std_floor` and `std_relative` of `FodPrediction`.
        tissue: (n, 3) fractions of white matter, grey matter and free water.
        directions: (n, MOST, 3) of the maxima of the fibre log-odds, zeros where there are fewer.
        amplitude: (n, MOST) of the FOD there.
        probability: (n, MOST) of a fibre.
        cone95: (n, MOST) degrees.
    """

    fod: NDArray[np.float32]
    fod_std: NDArray[np.float32]
    tissue: NDArray[np.float32]
    directions: NDArray[np.float32]
    amplitude: NDArray[np.float32]
    probability: NDArray[np.float32]
    cone95: NDArray[np.float32]


def learned_fod(
    dwi: DWI,
    peaks: int = 3,
    device: str = "auto",
    min_peak_prob: float | None = None,
    adapt: bool = False,
    seed: int = 0,
    *,
    name: str,
    weights: str,
) -> Maps:
    """The prediction of a network as maps.

    Args:
        dwi: The scan; its noise level is estimated where it has none.
        peaks: How many at most, up to 4.
        device: `auto`, `cpu` or `cuda`.
        min_peak_prob: Least probability of a peak that is shown, 0 to 1; `MIN_PEAK_PROB` if absent.
        adapt: Fit what the network takes the scan to be to the scan's own volumes first, kept only if
            hidden volumes are predicted better (`nets.adaptation`).
        seed: Which voxels and volumes an adaptation looks at.
        name: Of the method.
        weights: Name of the network's weights.

    Returns:
        Maps `fod` (45 coefficients, MRtrix3 basis, world axes, its integral is the share of the voxel that
        is not water), `fodstd` (X, Y, Z, 2: a and b of the standard deviation sqrt(a² + (b f)²) of an
        amplitude f), `wm`, `gm`, `csf` (fractions), `peaks` (X, Y, Z, 3 per peak: vectors in world axes,
        length = amplitude), `peakprob` and `peakcone` (X, Y, Z, peaks). `trust` is False where signals
        could not be read.

    Raises:
        FornixError: The protocol gives no tensor, or the scan has no usable signals.
    """
    least = MIN_PEAK_PROB if min_peak_prob is None else min_peak_prob
    if not 1 <= peaks <= MOST:
        raise FornixError(f"networks give 1 to {MOST} peaks, not {peaks}")
    if not 0 <= least <= 1:
        raise FornixError(f"the least probability of a peak must lie in [0, 1], not {least}")
    inside = np.flatnonzero(dwi.brain())
    where = pick_device(device)
    view = ScanView.of(dwi, inside, noise_of_voxels(dwi, inside), where, context_attention(weights))
    found, notes = read_orientations(view, weights, adapt, seed)
    shown = (found.probability >= least) & (found.amplitude > 0)
    # Those that stay come first, most likely fibres before others of the same voxel.
    order = np.argsort(np.where(shown, -found.probability, 1.0), axis=1, kind="stable")[:, :peaks]
    kept = np.take_along_axis(shown, order, 1)

    def chosen(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(kept, np.take_along_axis(values, order, 1), 0).astype(np.float32)

    rows = np.arange(len(inside))[:, None]
    vectors = found.directions[rows, order] * chosen(found.amplitude)[..., None]
    values = {
        "fod": (found.fod, "fibre orientation distribution: real even harmonics of order 8, MRtrix3 "
                "basis, world axes"),
        "fodstd": (found.fod_std, "a and b of the standard deviation sqrt(a^2 + (b f)^2) of an "
                   "amplitude f of the FOD"),
        "peaks": (vectors.reshape(len(inside), -1), f"{peaks} vectors in world axes, length = FOD "
                  "amplitude, most likely fibre first"),
        "peakprob": (chosen(found.probability), "probability that a fibre lies near each peak"),
        "peakcone": (chosen(found.cone95), "degrees about each peak that hold the fibre in 95 of 100"),
        "wm": (found.tissue[:, 0], "fraction of white matter"),
        "gm": (found.tissue[:, 1], "fraction of grey matter"),
        "csf": (found.tissue[:, 2], "fraction of free water"),
    }  # fmt: skip
    label = f"{name} ({shipped.load(weights).label})"
    maps = {
        param: Map(
            "", param, np.asarray(dwi.unmask(np.asarray(data, dtype=np.float32))), dwi.affine,
            units="degrees" if param == "peakcone" else "1", method=label, description=text,
        )
        for param, (data, text) in values.items()
    }  # fmt: skip
    trust = np.zeros(dwi.grid, dtype=bool)
    trust.reshape(-1)[inside] = view.flags == 0
    return Maps(maps, trust, (*view.notes, *notes))


@torch.no_grad()
def read_orientations(
    view: ScanView, weights: str, adapt: bool = False, seed: int = 0
) -> tuple[Orientations, list[str]]:
    """Ask a network about every voxel of a view.

    Args:
        view: The scan as the network sees it.
        weights: Name of the network's weights.
        adapt: Adapt to the scan first.
        seed: Which voxels and volumes an adaptation looks at.

    Returns:
        Orientations of the voxels asked for, and notes.
    """
    file = shipped.load(weights)
    net = build_network(file)
    assert isinstance(net, FodNet)
    net = net.to(view.encoder.device)
    calibration = PeakCalibration.from_state(file.groups["peaks"])
    code, notes = net.scan_encoder(view.typical(net.reads).invariants), []
    if adapt:
        model = FodSignalModel().to(view.encoder.device)
        shift, note = adapt_to_scan(view, net, model.likelihood, model, seed=seed + 1)
        code = code + shift
        notes.append(note)
    shapes = {
        "fod": (45,), "fod_std": (2,), "tissue": (3,), "directions": (MOST, 3), "amplitude": (MOST,),
        "probability": (MOST,), "cone95": (MOST,),
    }  # fmt: skip
    full = {k: np.zeros((view.asked, *shape), np.float32) for k, shape in shapes.items()}
    usable = view.usable

    @torch.no_grad()  # of each thread its own
    def ask(rows: slice) -> None:
        prediction = net(view.features(rows, net.reads), code)
        found = peak_candidates(prediction)
        here = usable[rows]
        full["fod"][here] = prediction.fod.cpu().numpy()
        spread = torch.stack([prediction.std_floor, prediction.std_relative], 1)
        full["fod_std"][here] = spread.cpu().numpy()
        full["tissue"][here] = prediction.tissue.cpu().numpy()
        full["directions"][here], full["amplitude"][here] = found.directions, found.amplitude
        voxel, which = np.nonzero(found.there)
        numbers = found.numbers[voxel, which]
        full["probability"][here[voxel], which] = calibration.probability(numbers)
        full["cone95"][here[voxel], which] = calibration.cone95(numbers)

    for _ in in_parallel(ask, list(view.blocks(_BLOCK))):
        pass
    return Orientations(**full), notes
