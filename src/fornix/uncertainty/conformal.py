"""Conformal calibration: intervals that hold as often as they say, per kind of protocol and noise.

For voxels of known truth, never trained on, r = (truth - mean) / std is collected per stratum
(number of directions, shells, noise, height of the estimate); its quantiles turn a new estimate into
an interval, mean + std * quantile(level) (split conformal prediction: Papadopoulos et al., ECML 2002;
Romano et al., NeurIPS 2019; per stratum: Vovk, ACML 2012; voxels of like strata count too, by their
likeness: Tibshirani et al., NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients

#: Levels that are tabulated; others are interpolated.
LEVELS = (0.005, 0.025, 0.05, 0.1, 0.16, 0.25, 0.5, 0.75, 0.84, 0.9, 0.95, 0.975, 0.995)
_DIRECTIONS = (9, 19, 44, 100)
_SNR = (8.0, 14.0, 25.0, 45.0, 80.0)
#: Bands of the estimate's own height.
BANDS = 3
COUNT = (len(_DIRECTIONS) + 1) * 2 * (len(_SNR) + 1)
#: Steps that lie between neighbouring strata: of directions, between one shell and more, of noise.
_STEPS = (1, 2, 1)
#: A stratum of this many scans leans half as much on others as one that has none.
_SCANS = 20.0


def strata(gradients: Gradients, sigma: NDArray) -> NDArray[np.int64]:
    """Stratum of each voxel, 0 to COUNT - 1: directions, one shell or more, noise over S0 (n,)."""
    weighted = int((~gradients.b0_mask).sum())
    many = int(np.searchsorted(_DIRECTIONS, weighted))
    shells = int(len(gradients.shells) > 1)
    noise = np.searchsorted(_SNR, 1 / np.maximum(np.asarray(sigma), 1e-6))
    return np.asarray((many * 2 + shells) * (len(_SNR) + 1) + noise, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Quantiles of (truth - mean) / std.

    Attributes:
        table: (COUNT, M, BANDS, len(LEVELS)) per stratum, metric and band of the mean.
        edges: (M, BANDS - 1) means that part the bands.
    """

    table: NDArray[np.float32]
    edges: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        mean: NDArray,
        std: NDArray,
        truth: NDArray,
        stratum: NDArray[np.int64],
        scan: NDArray[np.int64] | None = None,
    ) -> Calibration:
        """From estimates of voxels with known truth.

        Args:
            mean: (n, M) estimates.
            std: (n, M) as the network gives them.
            truth: (n, M).
            stratum: (n,) of `strata`.
            scan: (n,) which scan each voxel is of: errors that a scan's voxels share make few scans of
                many voxels, so strata of few scans lean on those like them. None: all are independent.
        """
        metrics = mean.shape[1]
        inner = np.linspace(0, 1, BANDS + 1)[1:-1]
        edges = np.quantile(mean, inner, axis=0).T.astype(np.float32)
        table = np.zeros((COUNT, metrics, BANDS, len(LEVELS)), dtype=np.float32)
        ratio = (truth - mean) / std
        weight = likeness(scans_of(stratum, scan)).astype(np.float32)
        for m in range(metrics):
            band = np.searchsorted(edges[m], mean[:, m])
            for k in range(BANDS):
                rows = np.flatnonzero(band == k)
                rows = rows[np.argsort(ratio[rows, m])]
                for s in range(COUNT):
                    table[s, m, k] = _quantiles(ratio[rows, m], weight[s, stratum[rows]])
        return cls(table, edges)

    def quantiles(
        self, mean: NDArray, std: NDArray, stratum: NDArray[np.int64], levels: Sequence[float]
    ) -> NDArray[np.float32]:
        """Quantiles (len(levels), n, M) of the truth for estimates (n, M), not clipped to ranges.

        Raises:
            FornixError: For levels outside those that were calibrated.
        """
        wanted = np.asarray(levels, dtype=np.float64)
        if (wanted < LEVELS[0]).any() or (wanted > LEVELS[-1]).any():
            raise FornixError(
                f"quantiles are calibrated from {LEVELS[0]} to {LEVELS[-1]}, not {list(levels)}"
            )
        if not len(wanted):
            return np.empty((0, *mean.shape), dtype=np.float32)
        known = np.array(LEVELS)
        upper = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
        share = ((wanted - known[upper - 1]) / (known[upper] - known[upper - 1])).astype(np.float32)
        factors = (1 - share) * self.table[..., upper - 1] + share * self.table[..., upper]
        found = mean[..., None] + std[..., None] * self._of(factors, mean, stratum)
        return np.ascontiguousarray(np.moveaxis(found, -1, 0), dtype=np.float32)

    def scaled(
        self, mean: NDArray, std: NDArray, stratum: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Standard deviations (n, M) so that mean ± 1.645 std spans the 90% interval's width."""
        low, high = LEVELS.index(0.05), LEVELS.index(0.95)
        factors = (self.table[..., high] - self.table[..., low]) / np.float32(2 * 1.6449)
        return np.asarray(std * self._of(factors, mean, stratum), dtype=np.float32)

    def _of(
        self, factors: NDArray[np.float32], mean: NDArray, stratum: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Entries (n, M, …) of factors (COUNT, M, BANDS, …) for estimates (n, M)."""
        metrics = mean.shape[1]
        band = (mean[:, :, None] > self.edges).sum(2)
        place = (stratum[:, None] * metrics + np.arange(metrics)) * BANDS + band
        return np.asarray(factors.reshape(-1, *factors.shape[3:])[place])

    def state(self) -> dict[str, torch.Tensor]:
        """As tensors, to be kept beside a network's weights."""
        return {"table": torch.from_numpy(self.table), "edges": torch.from_numpy(self.edges)}

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor]) -> Calibration:
        """The inverse of `state`."""
        return cls(state["table"].numpy(), state["edges"].numpy())


def scans_of(stratum: NDArray[np.int64], scan: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """(COUNT,) scans of each stratum."""
    single = np.arange(len(stratum)) if scan is None else scan
    pairs = np.unique(np.stack([stratum, single]), axis=1)
    return np.bincount(pairs[0], minlength=COUNT).astype(np.float64)


def likeness(scans: NDArray[np.float64]) -> NDArray[np.float64]:
    """(COUNT, COUNT) how much a voxel of one stratum counts in another: 1 in its own, half for each step
    apart, and the less the more scans the other has itself.
    """
    place = np.stack(
        np.unravel_index(np.arange(COUNT), (len(_DIRECTIONS) + 1, 2, len(_SNR) + 1)), 1
    )
    steps = (np.abs(place[:, None] - place[None]) * _STEPS).sum(-1)
    leans = _SCANS / (_SCANS + scans)
    return np.where(steps == 0, 1.0, leans[:, None] * 0.5**steps)


def _quantiles(values: NDArray, weight: NDArray) -> NDArray[np.float32]:
    """At `LEVELS`, of sorted values with these weights."""
    if not len(values):
        return np.zeros(len(LEVELS), dtype=np.float32)
    below = np.cumsum(weight, dtype=np.float64) - 0.5 * weight
    return np.interp(np.array(LEVELS) * weight.sum(dtype=np.float64), below, values).astype("f4")
