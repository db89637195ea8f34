"""Interpolation and one-dimensional distortion on voxel grids, in torch."""

from __future__ import annotations

import torch

#: Neighbouring voxels are never squeezed closer than this fraction of a voxel: no fold-over.
SMALLEST_GAP = 0.15


def sample(volume: torch.Tensor, points: torch.Tensor, block: int = 32768) -> torch.Tensor:
    """Values at voxel coordinates by cubic convolution (Keys, IEEE TASSP 1981); 0 outside the grid.

    Args:
        volume: (X, Y, Z)
        points: (m, 3) in voxels.
        block: Voxels at a time.

    Returns:
        (m,).
    """
    return torch.cat([_sample(volume, part) for part in points.split(block)])


def _sample(volume: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    base = points.floor()
    position = base.long()[..., None] + torch.arange(-1, 3, device=points.device)  # (m, 3, 4)
    size = torch.tensor(volume.shape, device=points.device)[:, None]
    weight = _keys(points - base) * ((position >= 0) & (position < size))
    position = torch.minimum(position.clamp_min(0), size - 1)
    step = torch.tensor(
        [volume.shape[1] * volume.shape[2], volume.shape[2], 1], device=points.device
    )
    i, j, k = (position * step[:, None]).unbind(1)
    index = i[:, :, None, None] + j[:, None, :, None] + k[:, None, None, :]
    values = volume.reshape(-1)[index]
    for axis in (2, 1, 0):
        values = (values * weight[:, axis].reshape(-1, *([1] * axis), 4)).sum(-1)
    return values


def _keys(t: torch.Tensor) -> torch.Tensor:
    """Weights of the four neighbours at fraction t in [0, 1): (*t.shape, 4)."""
    return torch.stack(
        [
            ((-0.5 * t + 1.0) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1.0,
            ((-1.5 * t + 2.0) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ],
        -1,
    )


def unfolded(shift: torch.Tensor, axis: int) -> torch.Tensor:
    """A displacement (voxels along `axis`) limited so that positions stay in order along the axis."""
    moved = shift.movedim(axis, -1)
    gaps = (1 + torch.diff(moved, dim=-1)).clamp_min(SMALLEST_GAP) - 1
    limited = torch.cat([torch.zeros_like(moved[..., :1]), gaps.cumsum(-1)], -1)
    # Keep the mean displacement of each line, which starting from the first voxel would lose.
    limited = limited + (moved - limited).mean(-1, keepdim=True)
    folded = (1 + torch.diff(moved, dim=-1)).amin(-1, keepdim=True) < SMALLEST_GAP
    return torch.where(folded, limited, moved).movedim(-1, axis)


def inverse_along(shift: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each distorted voxel comes from, and by how much its signal is concentrated.

    Args:
        shift: (X, Y, Z) voxels by which signal moves along `axis`, `unfolded`.
        axis: Along which it moves.

    Returns:
        (source (X, Y, Z) coordinate along the axis, jacobian (X, Y, Z) = d source / d position).
        Positions between voxels are linear, so the inverse is exact: signal piled up is conserved.
    """
    moved = shift.movedim(axis, -1).contiguous()
    size = moved.shape[-1]
    here = torch.arange(size, dtype=moved.dtype, device=moved.device)
    if size == 1:
        return (here - shift).reshape(shift.shape), torch.ones_like(shift)
    position = here + moved
    wanted = here.expand_as(position).contiguous()
    cell = (torch.searchsorted(position, wanted, right=True) - 1).clamp(0, size - 2)
    left, right = position.gather(-1, cell), position.gather(-1, cell + 1)
    rate = 1 / (right - left)
    source = cell + (wanted - left) * rate
    return source.movedim(-1, axis), rate.movedim(-1, axis)
