"""Interpolation and one-dimensional distortion on voxel grids, in torch."""

from __future__ import annotations

import torch

#: Neighbouring voxels are never squeezed closer than this fraction of a voxel: no fold-over.
SMALLEST_GAP = 0.15


def sample(volumes: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Values at voxel coordinates by cubic convolution (Keys, IEEE TASSP 1981); 0 outside the grid.

    volumes: (X, Y, Z, C); points: (m, 3) in voxels. Returns (m, C).
    """
    grid = volumes.shape[:3]
    flat = volumes.reshape(-1, volumes.shape[3])
    base = points.floor()
    taps = [_keys(points[:, axis] - base[:, axis]) for axis in range(3)]
    corner = base.long() - 1
    index, weight = [], []
    for axis, size in enumerate(grid):
        position = corner[:, axis, None] + torch.arange(4, device=points.device)
        inside = (position >= 0) & (position < size)
        index.append(position.clamp(0, size - 1))
        weight.append(taps[axis] * inside)
    out = torch.zeros((len(points), flat.shape[1]), dtype=volumes.dtype, device=volumes.device)
    for i in range(4):
        if grid[0] == 1 and i != 1:
            continue
        for j in range(4):
            plane = (index[0][:, i] * grid[1] + index[1][:, j]) * grid[2]
            both = weight[0][:, i] * weight[1][:, j]
            for k in range(4):
                out += (both * weight[2][:, k])[:, None] * flat[plane + index[2][:, k]]
    return out


def _keys(t: torch.Tensor) -> torch.Tensor:
    """Weights of the four neighbours at fraction t in [0, 1): (m, 4)."""
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

    shift: (X, Y, Z) voxels by which signal moves along `axis`, `unfolded`. Returns (source (X, Y, Z)
    coordinate along the axis, jacobian (X, Y, Z) = d source / d position). Positions between voxels
    are linear, so the inverse is exact: signal piled up is conserved.
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
