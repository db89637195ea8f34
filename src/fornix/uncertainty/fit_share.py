"""How much of the tensor fit an estimate keeps: next to none of few measurements, nearly all of many.

A network's own error does not fall below some floor, which shows on tissue unlike its training's; a fit's
falls with every measurement. Weighted by precision (a random-effects combination: DerSimonian & Laird,
Control Clin Trials 1986), the two together are hardly ever worse than the better one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

#: FA, MD, AD and RD each have a weight.
SHARES = 4
#: The networks' error (FA, µm²/ms) that no measurement takes away: root mean square on heads unlike the
#: training's (`anatomy`, `exchange` of the benchmark), 128 directions at SNR 60 and 100, the worse of one
#: and two shells.
FLOOR = (0.012, 0.010, 0.016, 0.012)


@dataclass(frozen=True)
class Parts:
    """What an estimate is put together of: medians over a scan's voxels.

    Attributes:
        share: Weight of the classical fit, 0 to 1; the network has the rest.
        network: What the network alone says.
        fit: What the fit alone says.
    """

    share: float
    network: float
    fit: float

    @classmethod
    def of(cls, share: NDArray | float, network: NDArray, fit: NDArray) -> Parts:
        """Of the voxels' own (n,)."""
        return cls(*(float(np.median(v)) for v in (share, network, fit)))


def fit_share(fit_std: torch.Tensor, near_reference: bool) -> torch.Tensor:
    """Weights of the fit.

    Args:
        fit_std: (n, SHARES) standard deviations of the fit.
        near_reference: Whether it is at the b-value that the networks' tensor describes; a fit at another
            one describes something else, and keeps no weight.

    Returns:
        (n, SHARES), 0 to 1.
    """
    floor = torch.tensor(FLOOR).to(fit_std).square()
    return floor / (floor + fit_std.square()) if near_reference else torch.zeros_like(fit_std)


def moved(
    mean: torch.Tensor,
    std: torch.Tensor,
    fit: torch.Tensor,
    fit_std: torch.Tensor,
    share: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimates and their deviations (n, M), the first SHARES moved to the fit (n, SHARES) by `share`."""
    rest = 1 - share
    first = rest * mean[:, :SHARES] + share * fit
    spread = torch.hypot(rest * std[:, :SHARES], share * fit_std)
    return torch.cat([first, mean[:, SHARES:]], 1), torch.cat([spread, std[:, SHARES:]], 1)
