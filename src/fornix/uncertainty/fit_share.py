"""How much of the tensor fit an estimate keeps: all of it where measurements are many and noise is low.

A network's own error does not fall below some floor, a fit's falls with every measurement. Voxels of known
truth that training never saw say, per kind of protocol and noise, which weight of the fit leaves the least
squared error of the two together: next to none from 6 directions, nearly one from 90 at low noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.uncertainty.conformal import COUNT

#: FA, MD, AD and RD each have a weight.
SHARES = 4
#: Fewer voxels than this say nothing: all strata together stand in.
_ENOUGH = 400


@dataclass(frozen=True, eq=False)
class FitShare:
    """Weights of the fit.

    Attributes:
        table: (COUNT, 2, SHARES), 0 to 1: per stratum, and for protocols whose tensor is at other b-values
            than the network's (0) or at the same (1).
    """

    table: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        error: NDArray[np.floating],
        apart: NDArray[np.floating],
        stratum: NDArray[np.int64],
        near: NDArray[np.bool_],
    ) -> FitShare:
        """From products of what is known of voxels.

        Args:
            error: (n, SHARES) products of truth minus estimate with fit minus estimate.
            apart: (n, SHARES) squares of fit minus estimate.
            stratum: (n,) of `conformal.strata`.
            near: (n,) whether the tensor is at the network's b-value.
        """
        table = np.zeros((COUNT, 2, SHARES), dtype=np.float32)
        for side in range(2):
            here = near == bool(side)
            everywhere = _best(error[here], apart[here])
            for s in range(COUNT):
                rows = here & (stratum == s)
                enough = rows.sum() >= _ENOUGH
                table[s, side] = _best(error[rows], apart[rows]) if enough else everywhere
        return cls(table)

    def of(self, stratum: NDArray[np.int64], near: bool) -> torch.Tensor:
        """(n, SHARES) weights of the fit in voxels of these strata."""
        return torch.from_numpy(self.table[stratum, int(near)])

    def state(self) -> dict[str, torch.Tensor]:
        """As tensors, to be kept beside a network's weights."""
        return {"table": torch.from_numpy(self.table)}

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor]) -> FitShare:
        """The inverse of `state`."""
        return cls(state["table"].numpy())


def _best(error: NDArray[np.floating], apart: NDArray[np.floating]) -> NDArray[np.float64]:
    if not len(error):
        return np.zeros(SHARES)
    return np.clip(error.sum(0) / np.maximum(apart.sum(0), 1e-12), 0, 1)
