"""One scan alone, as a reference scanner would have made it: what its own noise tells of its coils.

Images of several coils, added as squares, have a floor that a single channel's have not: of C independent
channels with noise sigma, E[M²] = S² + 2 C sigma². Fits and networks know the floor of one channel (Rician).
Where there is air in the picture it tells C, and the rest of the floor is taken off.

Koay, Basser, Journal of Magnetic Resonance 179 (2006) 317; Constantinides et al., MRM 38 (1997) 852.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError

#: Voxels of distance from the brain, with the scalp between, from which air is looked for.
_AWAY = 4
#: Voxels of air that tell a floor, and least share of them that hold something.
_ENOUGH, _FILLED = 200, 0.95
#: Channels below which the floor is taken for that of one.
_ONE = 1.25


@dataclass(frozen=True)
class NoiseFloor:
    """What air says of a scan.

    Attributes:
        channels: Effective number of channels; 1 where it cannot be told.
        air: Voxels of air.
        reason: Why it cannot be told; empty where it can.
    """

    channels: float
    air: int
    reason: str = ""

    @property
    def said(self) -> str:
        """In words."""
        if self.reason:
            return f"left as it is: {self.reason}"
        if self.channels < _ONE:
            return "the noise floor is that of one channel: left as it is"
        return f"the noise floor of {self.channels:.1f} channels was brought to that of one"


def noise_floor(dwi: DWI) -> NoiseFloor:
    """Effective number of coil channels, from air.

    Args:
        dwi: The scan with mask and noise level, as it came from the scanner.

    Raises:
        FornixError: The noise level is not known.
    """
    if dwi.sigma is None:
        raise FornixError("the noise level is not known; call estimate_noise first")
    head = ndimage.binary_dilation(dwi.brain(), iterations=_AWAY)
    b = dwi.gradients.bvals
    # Of the strongest weighting: scalp and ghosts are faintest there.
    some = np.argsort(b)[-max(len(b) // 2, 1) :]
    chosen = np.flatnonzero(~head)
    if len(chosen) < _ENOUGH:
        return NoiseFloor(1.0, len(chosen), "the picture shows no air")
    values = np.stack([dwi.volume(int(v)).reshape(-1)[chosen] for v in some], 1)
    filled = (values > 0).mean()
    if filled < _FILLED:
        return NoiseFloor(1.0, len(chosen), "the air was set to 0 by the scanner")
    power = (values.astype(float) ** 2).mean(1)
    level = np.asarray(dwi.sigma)
    sigma2 = float(np.median(level[dwi.brain()] ** 2 if level.ndim else level**2))
    # The median, since some may hold skull, ghosts or what moved; that of few volumes is below the mean.
    channels = float(np.median(power)) / (2 * sigma2)
    df = 2 * len(some) * max(channels, 1.0)
    return NoiseFloor(max(channels * df / float(stats.chi2.median(df)), 1.0), len(chosen))


def with_one_channel(dwi: DWI, floor: NoiseFloor) -> DWI:
    """The scan with the noise floor of a single channel.

    Args:
        dwi: The scan, with its noise level.
        floor: From `noise_floor`.
    """
    if floor.channels < _ONE or dwi.sigma is None:
        return dwi
    extra = 2 * (floor.channels - 1) * np.asarray(dwi.sigma, np.float32) ** 2
    data = np.asarray(dwi.data, np.float32)
    left: NDArray[np.float32] = data**2 - (extra[..., None] if extra.ndim else extra)
    return dwi.with_(data=np.sqrt(np.maximum(left, 0)))
