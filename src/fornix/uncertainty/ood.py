"""Out-of-distribution scores: how unlike a voxel is to the training data, and to its own predicted signal.

Four pieces of evidence, each compared with voxels of the training family in the same stratum: the
distance of its invariants from theirs (Mahalanobis), the encoder's misfit, the worst volume when
predicted from the others, and the residual of the network's own signal. The score is the largest
-log10 p over them: 2 means that one training voxel in a hundred is as extreme, 3 one in a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.uncertainty.conformal import COUNT

#: Names of the evidence, in order.
EVIDENCE = ("distance", "misfit", "worst", "residual")
#: Shares of the family that lie above the tabulated values: ten to the minus these.
_DECADES = np.array([0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0])
_ENOUGH = 300


@dataclass(frozen=True, eq=False)
class Evidence:
    """(n,) each: squared Mahalanobis distance per dimension, and three ratios of squared residuals
    to what noise explains; `volume` is the one that `worst` is about, where it is known.
    """

    distance: NDArray[np.float32]
    misfit: NDArray[np.float32]
    worst: NDArray[np.float32]
    residual: NDArray[np.float32]
    volume: NDArray[np.int64] | None = None

    def columns(self) -> NDArray[np.float32]:
        """(n, 4) logarithms, in the order of `EVIDENCE`."""
        found = np.stack([getattr(self, name) for name in EVIDENCE], 1)
        return np.log(np.maximum(found, 1e-6)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class OODScorer:
    """The training family's invariants and evidence.

    Attributes:
        mean: (F,), whiten: (F, F) of the invariants.
        table: (COUNT, 4, decades) values of the evidence that one in ten to the d voxels exceed.
    """

    mean: NDArray[np.float32]
    whiten: NDArray[np.float32]
    table: NDArray[np.float32]

    @staticmethod
    def whitening(invariants: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean (F,) and whitening matrix (F, F) of invariants (n, F), small variances kept off."""
        mean = invariants.mean(0)
        covariance = np.cov(invariants.astype(np.float64), rowvar=False)
        values, vectors = np.linalg.eigh(covariance)
        whiten = vectors / np.sqrt(np.maximum(values, 1e-3))
        return mean.astype(np.float32), whiten.astype(np.float32)

    @classmethod
    def fit(
        cls, mean: NDArray, whiten: NDArray, evidence: Evidence, stratum: NDArray[np.int64]
    ) -> OODScorer:
        """Tabulate the evidence of the family's voxels (n,) per stratum (n,)."""
        columns = evidence.columns()
        shares = 1 - 10.0**-_DECADES
        overall = np.quantile(columns, shares, axis=0).T
        table = np.tile(overall, (COUNT, 1, 1)).astype(np.float32)
        for s in range(COUNT):
            here = stratum == s
            if here.sum() >= _ENOUGH:
                table[s] = np.quantile(columns[here], shares, axis=0).T
        return cls(mean, whiten, table)

    def distance(self, invariants: torch.Tensor) -> torch.Tensor:
        """Squared Mahalanobis distance over the number of dimensions, (n,)."""
        centred = invariants - torch.as_tensor(self.mean).to(invariants)
        white = centred @ torch.as_tensor(self.whiten).to(invariants)
        return white.square().mean(1)

    def ood_score(self, evidence: Evidence, stratum: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, 4) decades of each piece of evidence; beyond the table on along its last slope."""
        columns = evidence.columns()
        out = np.empty_like(columns)
        for s in np.unique(stratum):
            here = stratum == s
            for k in range(len(EVIDENCE)):
                x = self.table[s, k].astype(np.float64)
                x = np.maximum.accumulate(x + 1e-9 * np.arange(len(x)))
                found = np.interp(columns[here, k], x, _DECADES)
                slope = (_DECADES[-1] - _DECADES[-3]) / max(x[-1] - x[-3], 1e-3)
                out[here, k] = found + slope * np.maximum(columns[here, k] - x[-1], 0)
        return np.minimum(out, 20.0)

    def state(self) -> dict[str, torch.Tensor]:
        """As tensors, to be kept beside a network's weights."""
        return {k: torch.from_numpy(getattr(self, k)) for k in ("mean", "whiten", "table")}

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor]) -> OODScorer:
        """The inverse of `state`."""
        return cls(*(state[k].numpy() for k in ("mean", "whiten", "table")))
