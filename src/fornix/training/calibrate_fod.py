"""After training of the network of orientations: which of its peaks are fibres, on unseen voxels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.models.peak_matching import match
from fornix.nets.features import Features
from fornix.nets.fod_net import FodNet
from fornix.nets.peak_candidates import PeakCandidates, peak_candidates
from fornix.physics.fod_truth import true_axes
from fornix.training.data.fod_voxels import FodVoxels
from fornix.uncertainty.peaks import NEAR, PeakCalibration


@torch.inference_mode()
def calibrate_fod(
    network: FodNet,
    draw: Callable[[], tuple[FodVoxels, Features]],
    protocols: int = 240,
    tell: Callable[[str], None] = print,
) -> dict[str, dict[str, torch.Tensor]]:
    """Tables of `PeakCalibration` from random protocols, as a group to be saved with the weights.

    Args:
        network: The trained network.
        draw: Gives the voxels of another scan with their features.
        protocols: How many random protocols.
        tell: Is given each line of progress.
    """
    numbers: list[np.ndarray] = []
    angles: list[np.ndarray] = []
    for k in range(protocols):
        found, angle = _scored(network, *draw())
        numbers.append(found.numbers[found.there])
        angles.append(angle[found.there])
        if (k + 1) % 40 == 0:
            tell(f"calibration: {k + 1} of {protocols} protocols")
    made = PeakCalibration.fit(np.concatenate(numbers), np.concatenate(angles))
    return {"peaks": made.state()}


def _scored(
    network: FodNet, voxels: FodVoxels, features: Features
) -> tuple[PeakCandidates, NDArray[np.float32]]:
    """Peaks and the angle (n, MOST) of each to its true axis, NaN without one."""
    found = peak_candidates(network(features, features.invariants))
    axes, real = true_axes(voxels.tissue)
    apart, partner = match(found.directions, axes.numpy(), real.numpy(), NEAR)
    angle = np.full(found.amplitude.shape, np.nan, dtype=np.float32)
    rows, which = np.nonzero(partner >= 0)
    angle[rows, partner[rows, which]] = apart[rows, which]
    return found, angle
