"""From measured signals of any protocol to what the networks read: fixed-size, protocol-free.

All of it is linear algebra that commutes with rotations: the tensor fit gives the scale and a first
estimate, the q-space encoder the harmonic features, both with what the noise leaves uncertain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import pick_device
from fornix.core.design import quadratic_form
from fornix.core.gradients import Gradients
from fornix.models.tensor import COLUMNS, fit_tensor
from fornix.models.tensor_on_device import wls_on_device
from fornix.numerics.directions import quadrature
from fornix.qspace.encoder import Encoder
from fornix.qspace.prior import SignalPrior

_PARAMS = ("fa", "md", "ad", "rd")
_TOP = (1.0, 4.0, 5.0, 4.0)
#: How many numbers describe a protocol.
PROTOCOL_SIZE = 5
#: b-value that the networks' tensor describes, and how near to it a fit is one of the same, ms/µm².
REFERENCE_B, _NEAR = 1.0, 0.15
#: A tensor's signal is read at so many b-values at most, on axes that integrate polynomials of this degree
#: exactly, and counts as this many axes with this noise.
_TENSOR_LEVELS, _TENSOR_DEGREE, _TENSOR_AXES, _TENSOR_NOISE = 3, 19, 45, 0.01


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
        tensor_s0: (n,) S0 of that fit over `scale`.
        nonphysical: (n,) 1 where the tensor fit was not physical, else 0.
        misfit: (n,) squared residual of the q-space encoder over its expectation.
        unlike: (n, 2) of averages over neighbours, see `neighbour_attention.Average`; 0 and 1 of voxels
            themselves.
    """

    projected: torch.Tensor
    scale: torch.Tensor
    sigma: torch.Tensor
    s0_std: torch.Tensor
    fit: torch.Tensor
    fit_std: torch.Tensor
    tensor: torch.Tensor
    tensor_s0: torch.Tensor
    nonphysical: torch.Tensor
    misfit: torch.Tensor
    unlike: torch.Tensor

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
        near_reference: Whether its tensor is fitted at the b-value that the networks' tensor describes.

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
        level = self._for_tensor.b[~self._for_tensor.b0_mask].mean()
        self.near_reference = bool(abs(level - REFERENCE_B) < _NEAR)

    def encode(
        self, signals: NDArray[np.float32] | torch.Tensor, sigma: NDArray | torch.Tensor
    ) -> EncodedVoxels:
        """What the networks read of some voxels.

        Args:
            signals: (n, N) in any unit, finite and not all zero.
            sigma: (n,) noise standard deviation in the same unit.
        """
        y = torch.as_tensor(signals, device=self.device)
        noise = torch.as_tensor(sigma, device=self.device).double()
        values, std, nonphysical = self._fitted(self._of_tensor(y), noise)
        s0 = COLUMNS["s0"].start
        scale = self._scale(y, values[:, s0], noise)
        level = (noise / scale).clamp(2e-3, 1.0).float()
        over = (y / scale[:, None]).clamp(0, 5)
        projected = self.qspace.project(over)
        s0_std = torch.nan_to_num(std[:, s0] / scale, nan=1.0, posinf=1.0).clamp(0, 1)
        return EncodedVoxels(
            projected=projected,
            scale=scale,
            sigma=level,
            s0_std=s0_std,
            nonphysical=nonphysical,
            misfit=self.qspace.misfit(over, projected, level),
            unlike=torch.stack([torch.zeros_like(scale), torch.ones_like(scale)], 1),
            **_tensor_part(values, std, scale),
        )

    def averaged(
        self,
        seen: EncodedVoxels,
        projected: torch.Tensor,
        sigma: torch.Tensor,
        unlike: torch.Tensor | None = None,
    ) -> EncodedVoxels:
        """The same voxels seen through averages over their neighbours.

        Args:
            seen: The voxels themselves.
            projected: (n, R) averaged coordinates.
            sigma: (n,) noise left in them, over S0.
            unlike: (n, 2) of the average; the voxels' own if absent.

        Returns:
            The voxels with these coordinates and the tensor fitted to them.
        """
        signals = self.qspace.restore(projected, self._rows)
        values, std, _ = self._fitted(signals, sigma.double())
        part = _tensor_part(values, std, torch.ones_like(sigma))
        differs = seen.unlike if unlike is None else unlike
        return replace(seen, projected=projected, sigma=sigma, unlike=differs, **part)

    def tensor_features(self, seen: EncodedVoxels) -> torch.Tensor:
        """(n, F) q-space features of the signal that the voxels' tensors give at the b-values they were
        fitted to: the tensor knows how the signal goes on between few directions, the Gaussian process
        does not.
        """
        b, exponents, operator, mean = self._tensor_reading
        signals = seen.tensor_s0[:, None] * torch.exp(-(seen.tensor @ exponents) * b)
        return (signals.clamp(0, 5) - mean) @ operator

    @cached_property
    def _tensor_reading(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gradients on which tensors are read: b (M,), what makes exponents of tensors (6, M), what makes
        features of their signals (M, F), and the prior's mean there (M,).

        The axes are those of a quadrature, so that reading commutes with rotations.
        """
        measured = np.sort(self._for_tensor.b[~self._for_tensor.b0_mask])
        levels = [float(part.mean()) for part in np.split(measured, _jumps(measured))]
        axes, weights = quadrature(_TENSOR_DEGREE)
        b = np.r_[0.0, np.repeat(levels, len(axes))]
        directions = np.vstack([np.zeros((1, 3)), np.tile(axes, (len(levels), 1))])
        counts = (
            _TENSOR_AXES * np.r_[1 / _TENSOR_AXES, np.tile(weights / weights.sum(), len(levels))]
        )
        prior = self.qspace.prior
        design = prior.design(b, directions)
        weighted = design.T * counts
        ridge = _TENSOR_NOISE**2 * np.eye(design.shape[1])
        operator = np.linalg.solve(weighted @ design + ridge, weighted)
        return (
            self._tensor(b), self._tensor(quadratic_form(directions).T), self._tensor(operator.T),
            self._tensor(prior.mean_at(b)),
        )  # fmt: skip

    def _of_tensor(self, signals: torch.Tensor) -> torch.Tensor:
        """The volumes that the tensor is fitted to."""
        return signals if len(self._rows) == signals.shape[1] else signals[:, self._rows]

    def _fitted(
        self, signals: torch.Tensor, sigma: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Values and standard deviations (n, 14) of the weighted fit, and where it was not physical."""
        if self.device.type != "cpu":
            found = wls_on_device(signals, self._for_tensor, sigma)
            return found["values"], found["std"], found["nonphysical"]
        fit = fit_tensor(signals.numpy(), self._for_tensor, "wls", sigma=sigma.numpy())
        assert fit.std is not None
        return torch.from_numpy(fit.values), torch.from_numpy(fit.std), self._tensor(fit.flags != 0)

    def _scale(self, signals: torch.Tensor, s0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The tensor fit's S0 uses every volume; kept near the b0s' mean and above the noise."""
        b0 = self.gradients.b0_mask
        if b0.any():
            mean = signals[:, torch.from_numpy(np.flatnonzero(b0)).to(self.device)].mean(1)
            s0 = torch.minimum(torch.maximum(s0, 0.5 * mean), 2.0 * mean)
        scale = torch.maximum(s0.double(), 2 * sigma)
        return torch.where(scale > 0, scale, 1.0).float()

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


def _tensor_part(
    values: torch.Tensor, std: torch.Tensor, scale: torch.Tensor
) -> dict[str, torch.Tensor]:
    """FA, MD, AD, RD, their standard deviations and the tensor, none beyond what is possible."""
    top = torch.tensor(_TOP, device=values.device)
    columns = [COLUMNS[p].start for p in _PARAMS]
    errors = torch.where(std[:, columns].isfinite(), std[:, columns], top)
    return {
        "fit": torch.minimum(values[:, columns].clamp(min=0), top),
        "fit_std": torch.minimum(errors.clamp(min=1e-4), top),
        "tensor": _bounded(values[:, COLUMNS["tensor"]]),
        "tensor_s0": (values[:, COLUMNS["s0"].start] / scale).clamp(0, 5),
    }


def _bounded(tensor: torch.Tensor) -> torch.Tensor:
    """Tensors (n, 6) at most 5 µm²/ms long; shortened as a whole, which rotation does not change."""
    length = (tensor[:, :3].square().sum(1) + 2 * tensor[:, 3:].square().sum(1)).sqrt()
    return tensor * (5 / length.clamp(min=1e-6)).clamp(max=1)[:, None]


def _jumps(b: NDArray[np.float64]) -> NDArray[np.int64]:
    """Where sorted b-values part into levels: at the largest gaps of more than 0.15 ms/µm²."""
    gaps = np.diff(b)
    largest = np.argsort(-gaps)[: _TENSOR_LEVELS - 1]
    return np.sort(largest[gaps[largest] > 0.15]) + 1
