"""Peaks of functions on the sphere: where a fibre orientation distribution points."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fornix.core import harmonics
from fornix.core.compute import blocks, pick_device
from fornix.core.directions import fibonacci


def find_peaks(
    coefficients: NDArray[np.float32],
    count: int = 3,
    *,
    relative: float = 0.2,
    absolute: float = 0.0,
    separation: float = 25.0,
    device: str = "auto",
    block: int = 8192,
) -> NDArray[np.float32]:
    """The largest peaks of spherical functions.

    coefficients: (voxels, harmonics). count: how many peaks at most.
    relative: least amplitude as a share of the largest; absolute: least amplitude.
    separation: least angle between two peaks, degrees.

    Returns (voxels, count, 3): unit vectors times amplitude, largest first, zeros where there are
    fewer. World axes if the coefficients are. Local maxima on 1,000 axes, then one step to the top
    of a paraboloid through each one's neighbourhood.
    """
    where = pick_device(device)
    lmax = harmonics.lmax_of(coefficients.shape[1])
    axes, neighbours, basis, surface, frames = _sphere(lmax)
    evaluate = torch.as_tensor(basis.T, dtype=torch.float32, device=where)
    near = torch.as_tensor(neighbours, device=where)
    fit = torch.as_tensor(surface, dtype=torch.float32, device=where)
    frame = torch.as_tensor(frames, dtype=torch.float32, device=where)
    points = torch.as_tensor(axes, dtype=torch.float32, device=where)
    limit = float(np.cos(np.radians(separation)))
    out = np.zeros((len(coefficients), count, 3), dtype=np.float32)
    for part in blocks(len(coefficients), block):
        amplitude = torch.as_tensor(coefficients[part], device=where) @ evaluate
        around = amplitude[:, near[:, 1:7]].amax(-1)
        top = amplitude.amax(1, keepdim=True)
        floor = torch.clamp(relative * top, min=max(absolute, 1e-12))
        is_peak = (amplitude >= around) & (amplitude >= floor)
        score = torch.where(is_peak, amplitude, torch.zeros_like(amplitude))
        chosen: list[torch.Tensor] = []
        for _ in range(count):
            value, index = score.max(1)
            patch = amplitude.gather(1, near[index])
            vector, height = _refined(patch, fit[index], frame[index], points[index])
            good = value > 0
            chosen.append(torch.where(good[:, None], vector * height[:, None], 0.0))
            close = (vector @ points.T).abs() > limit
            score = torch.where(close, 0.0, score)
        out[part] = torch.stack(chosen, 1).cpu().numpy()
    return out


def _refined(
    patch: torch.Tensor, fit: torch.Tensor, frame: torch.Tensor, centre: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The top of a paraboloid a + b.x + x.C.x in the tangent plane, at most one grid step away."""
    a, bx, by, cxx, cxy, cyy = torch.einsum("vij,vj->iv", fit, patch)
    det = 4 * cxx * cyy - cxy**2
    concave = (det > 1e-12) & (cxx < 0)
    safe = torch.where(concave, det, torch.ones_like(det))
    x = torch.where(concave, (cxy * by - 2 * cyy * bx) / safe, 0.0).clamp(-0.08, 0.08)
    y = torch.where(concave, (cxy * bx - 2 * cxx * by) / safe, 0.0).clamp(-0.08, 0.08)
    height = a + bx * x + by * y + cxx * x * x + cxy * x * y + cyy * y * y
    vector = centre + x[:, None] * frame[:, 0] + y[:, None] * frame[:, 1]
    return torch.nn.functional.normalize(vector, dim=1), height


@lru_cache(maxsize=4)
def _sphere(lmax: int) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
    """Axes, their nearest axes (themselves first), the basis, the paraboloid fits and the frames."""
    axes = fibonacci(1000)
    both = np.concatenate([axes, -axes])
    near = np.asarray(cKDTree(both).query(axes, k=13)[1])
    frames = np.empty((len(axes), 2, 3))
    surface = np.empty((len(axes), 6, near.shape[1]))
    for i, axis in enumerate(axes):
        helper = np.eye(3)[np.argmin(np.abs(axis))]
        e1 = np.cross(axis, helper)
        e1 /= np.linalg.norm(e1)
        e2 = np.cross(axis, e1)
        offsets = both[near[i]] / (both[near[i]] @ axis)[:, None] - axis
        x, y = offsets @ e1, offsets @ e2
        design = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
        surface[i] = np.linalg.pinv(design)
        frames[i] = e1, e2
    return axes, near % len(axes), harmonics.evaluate(lmax, axes), surface, frames
