"""What any network sees of a scan: encoded voxels, averages over their neighbours, typical voxels.

Tissue maps, fibre orientations and predicted signals all start here, so that they see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks, in_parallel
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.signals import Signals
from fornix.models import flags as why
from fornix.nets.encoding import EncodedVoxels, ProtocolEncoder
from fornix.nets.features import Features
from fornix.nets.neighbour_attention import WHITE, Average, NeighbourAttention, averages
from fornix.nets.scan_encoder import ENOUGH
from fornix.preprocess.noise_correlation import Correlation
from fornix.qspace.prior import BMAX

Rows = NDArray[np.int64] | slice
F = TypeVar("F", bound=Features)
#: Voxels that are encoded at once: few enough to stay in a core's cache.
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class ScanView:
    """The usable voxels of a scan as one protocol shows them; made by `ScanView.of`.

    Attributes:
        dwi: The scan without the volumes that no network was trained for.
        encoder: Of its protocol.
        asked: How many voxels were asked for.
        flags: (asked,) bits of `models.flags`; 0 for usable voxels.
        voxels: (n,) flat indices (C order) of the usable voxels on the scan's grid.
        sigma: (n,) their noise standard deviation in units of the data.
        encoded: The n voxels themselves.
        attention: Averages voxels with their neighbours; None for networks that see single voxels.
        correlation: Of the noise of neighbouring voxels.
        neighbours: Per pass of the attention, the voxels averaged with their like.
        notes: What was left out or replaced, one line each.
    """

    dwi: DWI
    encoder: ProtocolEncoder
    asked: int
    flags: NDArray[np.uint8]
    voxels: NDArray[np.int64]
    sigma: NDArray[np.float64]
    encoded: EncodedVoxels
    attention: NeighbourAttention | None
    correlation: Correlation
    neighbours: tuple[Average, ...]
    notes: tuple[str, ...]

    @staticmethod
    @torch.no_grad()
    def of(
        dwi: DWI,
        voxels: NDArray[np.int64],
        sigma: NDArray[np.float64],
        device: torch.device,
        attention: NeighbourAttention | None = None,
        correlation: Correlation = WHITE,
    ) -> ScanView:
        """Read some voxels of a scan.

        Args:
            dwi: The scan.
            voxels: (asked,) flat indices of its grid.
            sigma: (asked,) noise standard deviation in units of the data.
            device: Where tensors live.
            attention: To average over neighbours with; None leaves them out.
            correlation: Of the noise of neighbouring voxels, see `preprocess.noise_correlation`.

        Raises:
            FornixError: The protocol gives no tensor, no voxel holds usable signals, or no noise level
                is known anywhere.
        """
        dwi, notes = _within_training_range(dwi)
        encoder = ProtocolEncoder(dwi.gradients, device)
        asked = Signals(dwi, voxels)
        flags = np.concatenate([_flags(asked[part]) for part in blocks(len(voxels), 16384)])
        usable = flags == 0
        if not usable.any():
            raise FornixError("no voxel of the mask holds usable signals (NaN, inf or all zero)")
        level, more = _usable_noise(sigma[usable])
        signals = asked.of(np.flatnonzero(usable))

        def encode(part: slice) -> EncodedVoxels:
            return encoder.encode(signals[part], level[part])

        # The first block alone: it makes what the others share.
        first, *others = blocks(len(level), _BLOCK)
        lots = chain([encode(first)], in_parallel(encode, others))
        encoded = EncodedVoxels.joined(lots, len(level))
        places = voxels[usable]
        neighbours = (
            []
            if attention is None
            else _averaged(dwi, encoder, encoded, places, attention, correlation)
        )
        return ScanView(
            dwi, encoder, len(voxels), flags, places, level, encoded, attention, correlation,
            tuple(neighbours), (*notes, *more),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.voxels)

    @property
    def usable(self) -> NDArray[np.int64]:
        """(n,) where the usable voxels stand among those asked for."""
        return np.flatnonzero(self.flags == 0)

    def blocks(self, size: int) -> Iterator[slice]:
        """Slices of the usable voxels, `size` at a time."""
        return blocks(len(self), size)

    def signals(self, rows: Rows) -> NDArray[np.float32]:
        """Measured signals (rows, N) of some of the voxels, in units of the data."""
        return Signals(self.dwi, self.voxels)[rows]

    def context(self, rows: Rows) -> tuple[EncodedVoxels, tuple[EncodedVoxels, ...]]:
        """Some of the voxels, and the same averaged over their neighbours, once per pass."""
        index = rows if isinstance(rows, slice) else torch.as_tensor(rows)
        own = self.encoded.take(index)
        near = (
            self.encoder.averaged(own, near.projected[index], near.noise[index], near.unlike[index])
            for near in self.neighbours
        )
        return own, tuple(near)

    def features(self, rows: Rows, reads: Callable[..., F]) -> F:
        """What a network reads of some of the voxels; reads: the network's own, see `nets.features`."""
        return reads(self.encoder, *self.context(rows))

    def typical(self, reads: Callable[..., F]) -> F:
        """Features of voxels that show what the scan is like, for a `ScanEncoder`."""
        return self.features(typical_voxels(self.voxels, self.asked), reads)

    def without(self, volumes: NDArray[np.int64], rows: slice) -> ScanView:
        """A band of the voxels as they would be seen had these volumes not been measured."""
        shown = np.setdiff1d(np.arange(len(self.dwi.gradients)), volumes)
        return ScanView.of(
            self.dwi.subset(shown), self.voxels[rows], self.sigma[rows], self.encoder.device,
            self.attention, self.correlation,
        )  # fmt: skip


def typical_voxels(
    voxels: NDArray[np.int64], total: int, enough: int = ENOUGH
) -> NDArray[np.int64]:
    """Which of some voxels show what the scan is like.

    They are chosen by their place, so that a bad voxel elsewhere does not change who they are; a
    multiplication scatters the places, so that no line of the grid is favoured.

    Args:
        voxels: (n,) flat indices of the grid.
        total: How many voxels were asked for.
        enough: How many are to be chosen, roughly.

    Returns:
        Indices into `voxels`.
    """
    every = max(1, total // enough)
    found = np.flatnonzero((voxels * 2654435761 >> 8) % every == 0)
    return found if len(found) else np.arange(len(voxels))


def _within_training_range(dwi: DWI) -> tuple[DWI, list[str]]:
    """The scan without volumes beyond the b-values that were simulated, and a note if any were left out."""
    if reason := dwi.gradients.facts.why_no_network:
        raise FornixError(f"{reason}; use a classical method (--method classical, --method csd)")
    far = dwi.gradients.b > BMAX
    if not far.any():
        return dwi, []
    note = (
        f"{int(far.sum())} volumes above b={1000 * BMAX:.0f} s/mm² were left out: no network was "
        "trained there"
    )
    return dwi.subset(~far), [note]


def _usable_noise(level: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
    """Noise levels (n,), the median of the others where there is none, which is noted."""
    usable = np.isfinite(level) & (level > 0)
    if not usable.any():
        raise FornixError(
            "the noise level is zero or not a number everywhere; estimate it (fornix run does) or "
            "give --sigma"
        )
    if usable.all():
        return level, []
    note = f"{int((~usable).sum())} voxels have no noise level; the median of the others stands in"
    return np.where(usable, level, np.median(level[usable])), [note]


def _flags(signals: NDArray[np.float32]) -> NDArray[np.uint8]:
    flags = np.zeros(len(signals), dtype=np.uint8)
    flags[~np.isfinite(signals).all(1)] |= why.BAD_DATA
    flags[~(signals > 0).any(1)] |= why.EMPTY
    return flags


def _averaged(
    dwi: DWI,
    encoder: ProtocolEncoder,
    encoded: EncodedVoxels,
    voxels: NDArray[np.int64],
    attention: NeighbourAttention,
    correlation: Correlation,
) -> list[Average]:
    """Voxels averaged with their like by each pass."""
    place = np.stack(np.unravel_index(voxels, dwi.grid), 1)
    x, y, z = (float(v) for v in dwi.voxel_size)
    found = averages(attention, encoded, encoder.qspace.variance, place, (x, y, z), correlation)
    return [average.to(encoder.device) for average in found]
