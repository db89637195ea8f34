"""Eigenvalues and vectors of many symmetric 3 x 3 matrices on a device without LAPACK's speed.

The cubic's roots by trigonometry (Smith, CACM 1961), in float64; each vector is the longest cross product
of two rows of A - l 1, the others completed to a right-handed frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def eigen3(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (n, 3), ascending, and orthonormal vectors (n, 3, 3) as columns.

    Args:
        matrix: (n, 3, 3) symmetric, any float dtype; computed in float64, returned in the dtype given.
    """
    import torch

    a = matrix.double()
    one = torch.eye(3, dtype=a.dtype, device=a.device)
    mean = a.diagonal(dim1=1, dim2=2).mean(1)
    centred = a - mean[:, None, None] * one
    size = (centred.square().sum((1, 2)) / 6).sqrt().clamp_min(1e-30)
    half = (torch.linalg.det(centred / size[:, None, None]) / 2).clamp(-1, 1)
    angle = torch.acos(half) / 3
    third = 2 * torch.pi / 3
    high = mean + 2 * size * torch.cos(angle)
    low = mean + 2 * size * torch.cos(angle + third)
    values = torch.stack([low, 3 * mean - low - high, high], 1)
    # The value that lies further from the middle one has the better determined vector.
    top = (values[:, 2] - values[:, 1]) >= (values[:, 1] - values[:, 0])
    first = _vector(a, torch.where(top, values[:, 2], values[:, 0]), one)
    helper = one[first.abs().argmin(1)]
    u = torch.nn.functional.normalize(torch.linalg.cross(first, helper), dim=1)
    w = torch.linalg.cross(first, u)
    # The other two from the 2 x 2 matrix across the first.
    au, aw = (a @ u[..., None])[..., 0], (a @ w[..., None])[..., 0]
    p, q, r = (u * au).sum(1), (u * aw).sum(1), (w * aw).sum(1)
    turn = 0.5 * torch.atan2(2 * q, p - r)
    larger = turn.cos()[:, None] * u + turn.sin()[:, None] * w
    smaller = torch.linalg.cross(first, larger)
    vectors = torch.where(
        top[:, None, None],
        torch.stack([smaller, larger, first], 2),
        torch.stack([first, smaller, larger], 2),
    )
    return values.to(matrix.dtype), vectors.to(matrix.dtype)


def _vector(a: torch.Tensor, value: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
    import torch

    rows = a - value[:, None, None] * one
    crosses = torch.stack(
        [torch.linalg.cross(rows[:, i], rows[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))], 1
    )
    length = crosses.square().sum(2)
    best = length.argmax(1)
    chosen = crosses[torch.arange(len(a), device=a.device), best]
    norm = chosen.norm(dim=1, keepdim=True)
    # All equal: any axis is one.
    return torch.where(norm > 1e-150, chosen / norm.clamp_min(1e-150), one[0])
