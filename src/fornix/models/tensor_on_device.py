"""Weighted least squares of the tensor in torch, for devices that numba's kernels do not reach.

The same numbers as `fit_tensor(..., "wls")` with a known noise level; see there for the papers.
"""

from __future__ import annotations

import numpy as np
import torch

from fornix.core.gradients import Gradients
from fornix.models.base import Fit
from fornix.models.tensor import COLUMNS
from fornix.numerics.eigen3 import eigen3

#: No tissue or fluid in a body diffuses faster, µm²/ms.
_HIGHEST = 10.0
#: Signals that are not positive: their value over the largest, and their weight.
_POOR, _LITTLE = 1e-3, 1e-6


def wls_on_device(
    signals: torch.Tensor, gradients: Gradients, sigma: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Fit a tensor to each voxel on the signals' device, in float64 inside.

    Args:
        signals: (n, N) in any unit, finite, each voxel with a positive value.
        gradients: The N b-values and directions; they give a tensor.
        sigma: (n,) noise standard deviation, in units of the signals.

    Returns:
        `values` and `std` (n, 14) in the columns of `models.tensor.COLUMNS` (v1's standard deviation is
        left 0) and `nonphysical` (n,), float32.
    """
    s = signals.double()
    largest = s.amax(1, keepdim=True).clamp_min(1e-30)
    positive = s > 0
    enough = positive.sum(1, keepdim=True) >= 7
    weight = torch.where(positive | ~enough, 1.0, _LITTLE).to(s)
    s = torch.where(positive, s / largest, torch.full_like(s, _POOR))
    logs = s.log()
    x = torch.as_tensor(np.ascontiguousarray(gradients.facts.tensor_design.T)).to(s)  # (N, 7)
    outer = (x[:, :, None] * x[:, None, :]).flatten(1)

    def solved(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        normal = (w @ outer).unflatten(1, (7, 7))
        inverse = torch.linalg.inv_ex(normal)[0]
        return (inverse @ ((w * logs) @ x)[..., None])[..., 0], inverse

    beta, _ = solved(weight)
    predicted = torch.exp(2 * (beta @ x.T).clamp(max=20.0))
    predicted = torch.maximum(predicted, 1e-10 * predicted.amax(1, keepdim=True)) * weight
    beta, covariance = solved(predicted)
    beta = torch.nan_to_num(beta)
    covariance = torch.nan_to_num(covariance) * (sigma.double() / largest[:, 0])[:, None, None] ** 2
    return _metrics(beta, covariance, largest[:, 0])


def as_fit(found: dict[str, torch.Tensor]) -> Fit:
    """The same as a `Fit`, on the CPU."""
    values, std = found["values"].cpu().numpy(), found["std"].cpu().numpy()
    return Fit(COLUMNS, values, std, found["nonphysical"].cpu().numpy().astype(np.uint8))


def _metrics(
    beta: torch.Tensor, covariance: torch.Tensor, largest: torch.Tensor
) -> dict[str, torch.Tensor]:
    d = _matrix(beta[:, 1:7])
    free, vectors = eigen3(d)
    lam = free.clamp(0.0, _HIGHEST)
    nonphysical = (lam != free).any(1)
    mean = lam.mean(1)
    square = lam.square().sum(1)
    deviation = (lam - mean[:, None]).square().sum(1)
    fa = (1.5 * deviation / square.clamp_min(1e-300)).sqrt().clamp_max(1.0)
    d = (vectors * lam[:, None]) @ vectors.transpose(1, 2)
    one = torch.eye(3, dtype=d.dtype, device=d.device)
    varied = ((deviation > 1e-24) & (square > 0))[:, None, None]
    apart = (d - mean[:, None, None] * one) / deviation.clamp_min(1e-24)[:, None, None]
    slope = fa[:, None, None] * (apart - d / square.clamp_min(1e-300)[:, None, None])
    slope = torch.where(varied, slope, torch.zeros_like(slope))
    along = vectors[:, :, 2, None] * vectors[:, None, :, 2]
    across = (one - along) / 2
    s0 = torch.exp(beta[:, 0].clamp_max(7.0)) * largest
    errors = [
        _error(covariance, slope).clamp_max(1.0),
        _error(covariance, (one / 3).expand_as(d)).clamp_max(_HIGHEST),
        _error(covariance, along).clamp_max(_HIGHEST),
        _error(covariance, across).clamp_max(_HIGHEST),
    ]
    diagonal = covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt().clamp_max(_HIGHEST)
    six = [d[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
    v1 = vectors[:, :, 2]
    values = torch.stack([fa, mean, lam[:, 2], lam[:, :2].mean(1), *six, *v1.T, s0], 1)
    std = torch.stack(
        [*errors, *diagonal[:, 1:].T, *torch.zeros_like(v1).T, s0 * diagonal[:, 0]], 1
    )
    return {"values": values.float(), "std": std.float(), "nonphysical": nonphysical.float()}


def _error(covariance: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Standard deviation of a quantity whose gradient by the symmetric tensor is `slope`."""
    g = torch.stack(
        [
            torch.zeros_like(slope[:, 0, 0]), slope[:, 0, 0], slope[:, 1, 1], slope[:, 2, 2],
            2 * slope[:, 0, 1], 2 * slope[:, 0, 2], 2 * slope[:, 1, 2],
        ], 1,
    )  # fmt: skip
    return ((g[:, None] @ covariance @ g[..., None])[:, 0, 0]).clamp_min(0).sqrt()


def _matrix(six: torch.Tensor) -> torch.Tensor:
    xx, yy, zz, xy, xz, yz = six.unbind(-1)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).unflatten(-1, (3, 3))
