"""Grids of points in the world and the sampling of images on them, in torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Affine = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lattice:
    """Where voxels lie.

    Attributes:
        affine: (4, 4) voxel to world (RAS+, mm).
        shape: (X, Y, Z).
    """

    affine: Affine
    shape: tuple[int, int, int]

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel edges, mm, (3,)."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def points(self) -> torch.Tensor:
        """World mm of every voxel's centre, (X, Y, Z, 3) float32."""
        axes = [torch.arange(n, dtype=torch.float32) for n in self.shape]
        voxel = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        return moved(self.affine, voxel)

    def with_spacing(self, spacing: float) -> Lattice:
        """The same box of the world with voxels of about this edge in mm."""
        count = np.maximum(2, np.round(np.array(self.shape) * self.spacing / spacing).astype(int))
        step = np.array(self.shape) / count
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * step
        affine[:3, 3] = self.affine[:3, :3] @ ((step - 1) / 2) + self.affine[:3, 3]
        return Lattice(affine, (int(count[0]), int(count[1]), int(count[2])))


def moved(affine: Affine, points: torch.Tensor) -> torch.Tensor:
    """An affine applied to points (..., 3)."""
    matrix = torch.as_tensor(affine[:3, :3], dtype=points.dtype)
    shift = torch.as_tensor(affine[:3, 3], dtype=points.dtype)
    return points @ matrix.T + shift


def unit(lattice: Lattice, points: torch.Tensor) -> torch.Tensor:
    """World points (..., 3) as `grid_sample` wants them: -1 to 1 over the grid, last axis first."""
    voxel = moved(np.asarray(np.linalg.inv(lattice.affine), np.float64), points)
    extent = torch.tensor([max(n - 1, 1) for n in lattice.shape], dtype=points.dtype)
    return (2 * voxel / extent - 1).flip(-1)


def sample(
    images: torch.Tensor, lattice: Lattice, points: torch.Tensor, *, nearest: bool = False
) -> torch.Tensor:
    """Images (C, X, Y, Z) at world points (..., 3), linear: (C, ...). Beyond the grid its border goes on."""
    flat = unit(lattice, points).reshape(1, -1, 1, 1, 3)
    found = F.grid_sample(
        images[None], flat, padding_mode="border", align_corners=True,
        mode="nearest" if nearest else "bilinear",
    )  # fmt: skip
    return found.reshape(len(images), *points.shape[:-1])


def inside(lattice: Lattice, points: torch.Tensor) -> torch.Tensor:
    """1 where world points (..., 3) lie on the grid, half a voxel around it included, else 0."""
    voxel = moved(np.asarray(np.linalg.inv(lattice.affine), np.float64), points)
    extent = torch.tensor(lattice.shape, dtype=points.dtype)
    return ((voxel > -0.5) & (voxel < extent - 0.5)).all(-1).to(points.dtype)


def blurred(images: torch.Tensor, sigma: float | NDArray[np.floating]) -> torch.Tensor:
    """Images (C, X, Y, Z) blurred by a Gaussian, sigma in voxels (per axis); borders go on.

    A product with a matrix along each axis: at these sizes several times faster than a convolution.
    """
    out = images
    for axis, s in enumerate(np.broadcast_to(sigma, 3)):
        if s >= 0.2 and images.shape[axis + 1] > 1:
            matrix = torch.tensor(_weights(images.shape[axis + 1], float(s)), dtype=images.dtype)
            if axis == 2:
                out = out @ matrix.T
            elif axis == 1:
                out = matrix @ out
            else:
                flat = out.reshape(len(out), out.shape[1], -1)
                out = (matrix @ flat).reshape(out.shape)
    return out


@lru_cache(maxsize=64)
def _weights(count: int, sigma: float) -> NDArray[np.float64]:
    """(count, count) weights of each voxel's neighbours along an axis; the border's go on beyond it."""
    reach = int(np.ceil(3 * sigma))
    away = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (away / sigma) ** 2)
    matrix = np.zeros((count, count))
    for weight, step in zip(kernel / kernel.sum(), away):
        place = np.clip(np.arange(count) + step, 0, count - 1)
        np.add.at(matrix, (np.arange(count), place), weight)
    return matrix


def resampled(
    images: torch.Tensor, source: Lattice, target: Lattice, width: float = 0.5
) -> torch.Tensor:
    """Images (C, X, Y, Z) of one lattice on another, blurred first where that is coarser: (C, …).

    Args:
        images: Of the source.
        source: The lattice they are on.
        target: The one where they are wanted.
        width: Of the blur, standard deviation over the target's spacing.
    """
    ratio = target.spacing.mean() / source.spacing
    sigma = width * np.sqrt(np.maximum(ratio**2 - 1, 0))
    return sample(blurred(images, sigma), source, target.points())
