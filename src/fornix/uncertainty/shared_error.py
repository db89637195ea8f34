"""How much of an error all voxels of a region share, so that averages over them do not shrink it.

A head's diffusivities, or walls that let water through, move every voxel's neurite density the same way.
Voxels of known truth tell how much: the mean error of each simulated scan, beside the error of its voxels.
A scan of the calibration is a cube of 12 voxels for networks that see neighbours, and voxels of one head and
of the broad prior together for the others: averages over a region of some centimetres are meant, not less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.uncertainty.conformal import COUNT, likeness, scans_of


@dataclass(frozen=True, eq=False)
class SharedError:
    """Shares of the error.

    Attributes:
        table: (COUNT, M), 0 to 1: root mean square over scans of their mean error, over that of the voxels'
            errors, per stratum of `conformal.strata` and metric.
    """

    table: NDArray[np.float32]

    @classmethod
    def fit(
        cls, error: NDArray[np.floating], stratum: NDArray[np.int64], scan: NDArray[np.int64]
    ) -> SharedError:
        """From errors (n, M) of voxels of known truth, their strata (n,) and scans (n,)."""
        weight = likeness(scans_of(stratum, scan))
        _, number = np.unique(np.stack([stratum, scan]), axis=1, return_inverse=True)
        number = number.reshape(-1)
        count = np.bincount(number).astype(np.float64)
        place = np.zeros(len(count), dtype=np.int64)
        place[number] = stratum

        def of_scans(values: NDArray[np.floating]) -> NDArray[np.float64]:
            return np.stack([np.bincount(number, v) for v in values.T.astype(np.float64)], 1)

        total, squares = of_scans(error), of_scans(error**2)
        # Chance makes a mean too, and it is taken off: of few voxels more than of many.
        mean_squares = squares / count[:, None]
        shared = (total / count[:, None]) ** 2
        chance = (mean_squares - shared) / np.maximum(count - 1, 1)[:, None]
        shared = shared - chance
        # Every scan counts alike within a stratum, whatever the number of its voxels there.
        of_stratum = weight[:, place]
        share = (of_stratum @ shared) / np.maximum(of_stratum @ mean_squares, 1e-12)
        return cls(np.sqrt(np.clip(share, 0, 1)).astype(np.float32))

    def of(self, stratum: NDArray[np.int64]) -> NDArray[np.float64]:
        """(M,) share of a scan whose voxels lie in these strata (n,)."""
        counts = np.bincount(stratum, minlength=COUNT)
        square = counts @ self.table.astype(np.float64) ** 2 / max(len(stratum), 1)
        return np.asarray(np.sqrt(square))

    def state(self) -> dict[str, torch.Tensor]:
        """As tensors, to be kept beside a network's weights."""
        return {"table": torch.from_numpy(self.table)}

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor]) -> SharedError:
        """The inverse of `state`."""
        return cls(state["table"].numpy())
