"""From measured signals of any protocol to what the networks read: fixed-size, protocol-free.

All of it is linear algebra that commutes with rotations: the tensor fit gives the scale and a first
estimate, the q-space encoder the harmonic features, both with what the noise leaves uncertain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import pick_device
from fornix.core.gradients import Gradients
from fornix.models.base import Fit
from fornix.models.tensor import fit_tensor
from fornix.qspace.encoder import Encoder
from fornix.qspace.prior import SignalPrior

_PARAMS = ("fa", "md", "ad", "rd")
_TOP = (1.0, 4.0, 5.0, 4.0)
#: How many numbers describe a protocol.
PROTOCOL_SIZE = 5


@dataclass(frozen=True, eq=False)
class EncodedVoxels:
    """n voxels as one protocol shows them; tensors on the encoder's device.

    Attributes:
        projected: (n, R) q-space coordinates of the signals over `scale`.
        scale: (n,) S0 by which they were divided, in units of the data.
        sigma: (n,) noise over that scale.
        s0_std: (n,) relative standard deviation of the scale.
        fit: (n, 4) FA, MD, AD, RD of the tensor fit, µm²/ms.
        fit_std: (n, 4) their standard deviations.
        tensor: (n, 6) the fitted tensor Dxx Dyy Dzz Dxy Dxz Dyz, µm²/ms, world axes.
        nonphysical: (n,) 1 where the tensor fit was not physical, else 0.
        misfit: (n,) squared residual of the q-space encoder over its expectation.
    """

    projected: torch.Tensor
    scale: torch.Tensor
    sigma: torch.Tensor
    s0_std: torch.Tensor
    fit: torch.Tensor
    fit_std: torch.Tensor
    tensor: torch.Tensor
    nonphysical: torch.Tensor
    misfit: torch.Tensor

    def __len__(self) -> int:
        return len(self.scale)

    def take(self, voxels: torch.Tensor | slice) -> EncodedVoxels:
        """Some of the voxels."""
        return EncodedVoxels(**{k: v[voxels] for k, v in self.__dict__.items()})

    @staticmethod
    def joined(parts: Iterable[EncodedVoxels], total: int) -> EncodedVoxels:
        """Several lots as one of `total` voxels; each lot may be forgotten once it was taken."""
        made: dict[str, torch.Tensor] = {}
        start = 0
        for part in parts:
            stop = start + len(part.scale)
            for name, values in part.__dict__.items():
                if name not in made:
                    made[name] = values.new_empty((total, *values.shape[1:]))
                made[name][start:stop] = values
            start = stop
        return EncodedVoxels(**made)

    def parts(self, size: int) -> list[EncodedVoxels]:
        """Lots of at most `size` voxels, sharing this one's memory."""
        split = {k: v.split(size) for k, v in self.__dict__.items()}
        return [EncodedVoxels(**dict(zip(split, lot))) for lot in zip(*split.values())]


class ProtocolEncoder:
    """From measured signals of one protocol to what networks read; made once, used for every voxel.

    Args:
        gradients: The protocol.
        device: Where tensors live.
        prior: Of the q-space encoder; `qspace.prior.default_prior()` if absent.

    Attributes:
        qspace: The q-space encoder of this protocol.
        protocol: (PROTOCOL_SIZE,) numbers that describe the protocol.

    Raises:
        FornixError: The protocol gives no tensor, or has b-values beyond the prior's.
    """

    def __init__(
        self,
        gradients: Gradients,
        device: str | torch.device = "auto",
        prior: SignalPrior | None = None,
    ) -> None:
        self.gradients = gradients
        self.device = pick_device(device)
        self.qspace = Encoder(gradients, prior, self.device)
        keep, _ = gradients.facts.tensor_volumes()
        self._rows = np.flatnonzero(keep)
        self._for_tensor = gradients.subset(keep)
        self.protocol = self._describe()

    def encode(self, signals: NDArray[np.float32], sigma: NDArray) -> EncodedVoxels:
        """What the networks read of some voxels.

        Args:
            signals: (n, N) in any unit, finite and not all zero.
            sigma: (n,) noise standard deviation in the same unit.
        """
        sigma = np.asarray(sigma, dtype=np.float64)
        part = signals if len(self._rows) == signals.shape[1] else signals[:, self._rows]
        fit = fit_tensor(part, self._for_tensor, "wls", sigma=sigma)
        scale = self._scale(signals, fit["s0"], sigma)
        relative = np.clip(sigma / scale, 2e-3, 1.0)
        values = np.clip(signals / scale[:, None], 0, 5)
        y, level = self._tensor(values), self._tensor(relative)
        projected = self.qspace.project(y)
        s0_std = np.nan_to_num(fit.std_of("s0") / scale, nan=1.0)
        return EncodedVoxels(
            projected=projected,
            scale=self._tensor(scale),
            sigma=level,
            s0_std=self._tensor(np.clip(s0_std, 0, 1)),
            nonphysical=self._tensor(fit.flags != 0),
            misfit=self.qspace.misfit(y, projected, level),
            **self._tensor_part(fit),
        )

    def averaged(
        self, seen: EncodedVoxels, projected: torch.Tensor, sigma: torch.Tensor
    ) -> EncodedVoxels:
        """The same voxels seen through averages over their neighbours.

        Args:
            seen: The voxels themselves.
            projected: (n, R) averaged coordinates.
            sigma: (n,) noise left in them, over S0.

        Returns:
            The voxels with these coordinates and the tensor fitted to them.
        """
        signals = self.qspace.restore(projected, self._rows).cpu().numpy()
        noise = sigma.cpu().numpy().astype(np.float64)
        fit = fit_tensor(signals, self._for_tensor, "wls", sigma=noise)
        return replace(seen, projected=projected, sigma=sigma, **self._tensor_part(fit))

    def _tensor_part(self, fit: Fit) -> dict[str, torch.Tensor]:
        """FA, MD, AD, RD, their standard deviations and the tensor, none beyond what is possible."""
        top = np.array(_TOP)
        means = np.stack([fit[p] for p in _PARAMS], 1)
        errors = np.stack([fit.std_of(p) for p in _PARAMS], 1)
        errors = np.where(np.isfinite(errors), errors, top)
        return {
            "fit": self._tensor(np.clip(means, 0, top)),
            "fit_std": self._tensor(np.clip(errors, 1e-4, top)),
            "tensor": self._tensor(_bounded(fit["tensor"])),
        }

    def _scale(self, signals: NDArray, s0: NDArray, sigma: NDArray) -> NDArray:
        """The tensor fit's S0 uses every volume; kept near the b0s' mean and above the noise."""
        b0 = self.gradients.b0_mask
        if b0.any():
            mean = signals[:, b0].mean(1)
            s0 = np.clip(s0, 0.5 * mean, 2.0 * mean)
        scale = np.maximum(s0, 2 * sigma)
        return np.where(scale > 0, scale, 1.0).astype(np.float32)

    def _describe(self) -> torch.Tensor:
        """(PROTOCOL_SIZE,) numbers of order 1: counts of volumes and b0s, largest, mean and spread
        of the weighted b-values.
        """
        weighted = self.gradients.b[~self.gradients.b0_mask]
        numbers = [
            np.log(len(weighted) / 20) / 1.5,
            np.log(1 + self.gradients.b0_mask.sum()) - 1,
            weighted.max() - 1.5,
            weighted.mean() - 1.3,
            weighted.std(),
        ]
        return self._tensor(np.array(numbers))

    def _tensor(self, array: NDArray) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array, dtype=np.float32), device=self.device)


def _bounded(tensor: NDArray) -> NDArray:
    """Tensors (n, 6) at most 5 µm²/ms long; shortened as a whole, which rotation does not change."""
    length = np.sqrt((tensor[:, :3] ** 2).sum(1) + 2 * (tensor[:, 3:] ** 2).sum(1))
    return np.asarray(tensor * np.minimum(1, 5 / np.maximum(length, 1e-6))[:, None])
