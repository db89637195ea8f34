"""The q-space encoder: from a scan of any protocol to features of fixed size, and back.

With the prior's finite number of factors the Gaussian process is Bayesian linear regression: the
normalised signal is y = mean + Phi z + noise with z ~ N(0, 1). One singular value decomposition of
Phi serves every voxel at every noise level; encoding is two matrix products. It commutes with
rotations since each l's features span a representation, and knows no shells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import pick_device
from fornix.core.gradients import Gradients
from fornix.qspace.prior import SignalPrior, default_prior


@dataclass(frozen=True, eq=False)
class Posterior:
    """What a voxel's measurements say. Tensors on the encoder's device.

    Attributes:
        z: (voxels, F) posterior mean of the features.
        weight: (voxels, R) how much of each singular direction the measurements determine, from 0 to 1.
    """

    z: torch.Tensor
    weight: torch.Tensor


class Encoder:
    """The linear operator of one protocol.

    Args:
        gradients: The protocol.
        prior: Of the signal; `default_prior()` if absent.
    """

    def __init__(
        self,
        gradients: Gradients,
        prior: SignalPrior | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        self.gradients = gradients
        self.prior = prior or default_prior()
        self.device = pick_device(device)
        design = self.prior.design(gradients.b, gradients.directions)
        left, values, right = np.linalg.svd(design, full_matrices=False)
        self._mean = self._tensor(self.prior.mean_at(gradients.b))
        self._left, self._right = self._tensor(left), self._tensor(right)
        self._values = self._tensor(values)
        self._own = self._tensor(design)

    def encode(self, signals: torch.Tensor, sigma: torch.Tensor) -> Posterior:
        """Features of normalised signals (voxels, N); sigma: (voxels,) noise over S0."""
        return self.shrink(self.project(signals), sigma)

    def project(self, signals: torch.Tensor) -> torch.Tensor:
        """All that the signals (…, N) say of the features: (…, R) coordinates with the noise's own
        standard deviation, R = min(N, F). Averages of these are those of averaged signals.
        """
        return (signals - self._mean) @ self._left

    def restore(self, projected: torch.Tensor, volumes: NDArray[np.int64]) -> torch.Tensor:
        """Signals (…, len(volumes)) at some of the measured volumes, from projected ones (…, R): as
        they were measured, less what the prior cannot hold.
        """
        rows = torch.as_tensor(volumes, device=self.device)
        return self._mean[rows] + projected @ self._left[rows].T

    @property
    def variance(self) -> torch.Tensor:
        """(R,) prior variance of the projected coordinates, largest first."""
        return self._values**2

    def shrink(self, projected: torch.Tensor, sigma: torch.Tensor) -> Posterior:
        """Features from projected signals (voxels, R) whose noise is sigma (voxels,)."""
        variance = self._values**2
        weight = variance / (variance + sigma[:, None] ** 2)
        z = (projected * weight / self._values.clamp(min=1e-12)) @ self._right
        return Posterior(z, weight)

    def noise_of(self, weight: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Variance (voxels, R) that noise alone gives the features along each singular direction.

        Args:
            weight: From `Posterior`.
            sigma: (voxels,) noise over S0.
        """
        return (weight / self._values.clamp(min=1e-12) * sigma[:, None]) ** 2

    def turned(self, matrix: torch.Tensor) -> torch.Tensor:
        """A linear function of the features, (K, F), as one of the singular directions, (K, R)."""
        return matrix @ self._right.T

    def misfit(
        self, signals: torch.Tensor, projected: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        """Squared residual of the posterior mean over what noise alone leaves, (voxels,): 1 is as
        expected. With fewer volumes than features it tells little; it is never below 0.
        """
        outside = torch.zeros_like(sigma)
        if signals.shape[1] > projected.shape[1]:
            outside = ((signals - self._mean) ** 2).sum(1) - (projected**2).sum(1)
        left = sigma[:, None] ** 2 / (self._values**2 + sigma[:, None] ** 2)
        inside = ((projected * left) ** 2).sum(1)
        expected = sigma**2 * (signals.shape[1] - left.shape[1] + left.sum(1))
        return (outside.clamp(min=0) + inside) / expected

    def information(self, weight: torch.Tensor) -> torch.Tensor:
        """Share of each factor's prior variance that the measurements remove, mean over m: from
        `Posterior.weight` (voxels, R) to (voxels, number of factors), ordered by l, then factor.
        """
        shares = []
        squared = self._right**2
        for i, part in enumerate(self._features()):
            count = len(self.prior.factors[i])
            shares.append(squared[:, part].reshape(len(squared), count, 4 * i + 1).mean(2))
        return weight @ torch.cat(shares, 1)

    def predict(
        self, posterior: Posterior, gradients: Gradients, *, std: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Normalised signal at other gradients, (voxels, M), and its standard deviation."""
        mean = self.signal(posterior.z, gradients)
        if not std:
            return mean, None
        design = self._tensor(self.prior.design(gradients.b, gradients.directions))
        before = (design**2).sum(1)
        known = posterior.weight @ ((design @ self._right.T) ** 2).T
        return mean, (before - known).clamp(min=0).sqrt()

    def signal(self, z: torch.Tensor, gradients: Gradients) -> torch.Tensor:
        """Normalised signal (voxels, M) that features (voxels, F) mean at any gradients."""
        if gradients is self.gradients:  # asked for block by block: splines cost more than products
            return self._mean + z @ self._own.T
        design = self._tensor(self.prior.design(gradients.b, gradients.directions))
        return self._tensor(self.prior.mean_at(gradients.b)) + z @ design.T

    def leave_one_out(
        self, signals: torch.Tensor, sigma: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the other volumes predict for each one, and the standard deviation of the measured
        value about it (noise included): both (voxels, N).
        """
        rest = signals - self._mean
        projected = rest @ self._left
        variance = self._values**2
        noise = sigma[:, None] ** 2
        weight = variance / (variance + noise)
        # Rows of the inverse covariance K^-1 = (1 - U w U^T) / sigma^2.
        solved = (rest - (projected * weight) @ self._left.T) / noise
        diagonal = (1 - weight @ (self._left**2).T).clamp(min=1e-6) / noise
        return signals - solved / diagonal, diagonal.rsqrt()

    def log_evidence(self, signals: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Log marginal likelihood of each voxel's measurements, (voxels,)."""
        rest = signals - self._mean
        projected = rest @ self._left
        total = self._values**2 + sigma[:, None] ** 2
        outside = ((rest**2).sum(1) - (projected**2).sum(1)).clamp(min=0)
        left_over = signals.shape[1] - len(self._values)
        log_noise = torch.log(sigma**2)
        return -0.5 * (
            (projected**2 / total).sum(1)
            + outside / sigma**2
            + torch.log(total).sum(1)
            + left_over * log_noise
            + signals.shape[1] * np.log(2 * np.pi)
        )

    def adapted(self, signals: torch.Tensor, sigma: torch.Tensor, iterations: int = 10) -> Encoder:
        """The encoder whose prior variances fit this scan's voxels best (expectation-maximisation).

        The variance of each factor becomes what the voxels show: the mean of their features' second
        moments, posterior variance included. Factors the protocol cannot see keep theirs.
        """
        encoder: Encoder = self
        for _ in range(iterations):
            made = encoder.encode(signals, sigma)
            seen = made.weight.mean(0) @ (encoder._right**2)  # share of each feature determined
            moment = (made.z**2).mean(0) + 1 - seen
            scales = []
            for part, (i, scale) in zip(encoder._features(), enumerate(encoder.prior.scale)):
                per_factor = moment[part].reshape(len(scale), 4 * i + 1).mean(1)
                scales.append(scale * per_factor.double().cpu().numpy())
            encoder = Encoder(self.gradients, self.prior.rescaled(tuple(scales)), self.device)
        return encoder

    def _features(self) -> Iterator[slice]:
        start = 0
        for i, factor in enumerate(self.prior.factors):
            stop = start + len(factor) * (4 * i + 1)
            yield slice(start, stop)
            start = stop

    def _tensor(self, array: NDArray) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array), dtype=torch.float32, device=self.device)
