"""Losses, switchable: on parameters, on directions, on tensors, on the measured signal."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fornix.nets.targets import spread

#: Power of the standard deviation by which `gaussian` weighs.
EMPHASIS = 0.7

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def l1(mean: torch.Tensor, std: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Absolute error in units of each metric's spread; the spread output is not trained."""
    return ((mean - truth) / spread(mean)).abs()


def l2(mean: torch.Tensor, std: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Squared error in units of each metric's spread; the spread output is not trained."""
    return ((mean - truth) / spread(mean)).square()


def gaussian(mean: torch.Tensor, std: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood, each voxel weighted by a power of its standard deviation, which is not
    trained: without that weight, hard voxels would teach the mean nothing (Seitzer et al., ICLR
    2022); with the first power, easy ones of many measurements little.
    """
    error = (truth - mean) / std
    weight = (std.detach() / spread(mean)).clamp(max=3.0) ** EMPHASIS
    return weight * (torch.log(std / spread(mean)) + 0.5 * error.square())


def quantile(mean: torch.Tensor, std: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Pinball loss of the 5, 25, 50, 75 and 95% quantiles of a normal distribution with this mean
    and standard deviation (Koenker & Bassett, Econometrica 1978).
    """
    made = torch.zeros_like(mean)
    for level, z in ((0.05, -1.645), (0.25, -0.674), (0.5, 0.0), (0.75, 0.674), (0.95, 1.645)):
        left = (truth - mean - z * std) / spread(mean)
        made = made + torch.maximum(level * left, (level - 1) * left)
    return made / 5


#: By name, for recipes and for `fornix experiment losses`.
PARAMETER_LOSSES: dict[str, Loss] = {
    "l1": l1, "l2": l2, "gaussian": gaussian, "quantile": quantile,
}  # fmt: skip


def tensor_likelihood(tensor: torch.Tensor, std: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """As `gaussian`, of the six elements (n, 6) with one standard deviation (n,) each: (n,)."""
    error = (tensor - truth).square()
    # Off-diagonal elements count twice in the Frobenius norm, which alone is rotation invariant.
    total = error[:, :3].sum(1) + 2 * error[:, 3:].sum(1)
    weight = (std.detach() / 0.3).clamp(max=3.0)
    return weight * (torch.log(std / 0.3) + total / 18 / std.square() * 2)


def dyad_error(dyad: torch.Tensor, v1: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Squared Frobenius distance of (n, 6) to v1 v1ᵀ, weighted: (n,). Its minimum is the mean dyad."""
    x, y, z = v1.unbind(-1)
    true = torch.stack([x * x, y * y, z * z, x * y, x * z, y * z], -1)
    error = (dyad - true).square()
    return weight * (error[:, :3].sum(1) + 2 * error[:, 3:].sum(1))


def spherical_variance(
    predicted: torch.Tensor, measured: torch.Tensor, shell: torch.Tensor
) -> torch.Tensor:
    """Variance over the sphere of the residual's part on each shell: (n,).

    Args:
        predicted: (n, N) normalised signals.
        measured: See `predicted`.
        shell: (N,) index of each volume's shell. A constant offset of a shell is not punished: what
            counts is the angular shape.
    """
    residual = predicted - measured
    total = torch.zeros(len(residual)).to(residual)
    for index in shell.unique():
        part = residual[:, shell == index]
        total = total + (part - part.mean(1, keepdim=True)).square().sum(1)
    return total / residual.shape[1]


def rician(predicted: torch.Tensor, measured: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood of magnitudes (n, N), noise sigma (n,); no labels are needed.

    ln p(m | s) = ln(m / σ²) - (m² + s²) / 2σ² + ln I0(m s / σ²) (Gudbjartsson & Patz, MRM 1995);
    terms without s are left out. Returns (n, N).
    """
    variance = sigma[:, None].square()
    x = measured * predicted / variance
    return predicted.square() / (2 * variance) - (torch.log(torch.special.i0e(x)) + x)
