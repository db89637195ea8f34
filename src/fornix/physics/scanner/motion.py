"""Head motion between volumes: rigid, about a point in the head, in world axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation


def random_motion(
    volumes: int, mm: float, degrees: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(N, 6): translation x y z in mm, rotation vector x y z in degrees; the first volume at rest.

    Slow drift with occasional jumps, scaled so that the standard deviation over the scan, pooled
    over axes, is `mm` and `degrees`.
    """
    steps = rng.standard_normal((volumes, 6))
    jumps = rng.random(volumes) < 2.0 / max(volumes, 2)
    steps[jumps] *= 5.0
    walk = np.zeros((volumes, 6))
    for v in range(1, volumes):
        walk[v] = 0.98 * walk[v - 1] + steps[v]
    made = np.zeros_like(walk)
    for part, amount in ((slice(0, 3), mm), (slice(3, 6), degrees)):
        spread = walk[:, part].std(0).mean()
        if spread > 0:
            made[:, part] = walk[:, part] * amount / spread
    return made


def rotations(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3, 3) rotation matrices of motion parameters (N, 6)."""
    return Rotation.from_rotvec(np.radians(parameters[:, 3:])).as_matrix()


def scanner_to_head(
    parameters: NDArray[np.float64], centre: NDArray[np.float64], affine: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(4, 4) voxel to voxel: where in the resting head a voxel of the scanner lies.

    Args:
        parameters: (6,) of one volume. The head moved as x' = R (x - centre) + centre + t.
        centre: (3,) world mm, about which the head turns.
        affine: (4, 4) voxel to world, mm.
    """
    matrix = rotations(parameters[None])[0]
    forward = np.eye(4)
    forward[:3, :3] = matrix
    forward[:3, 3] = centre - matrix @ centre + parameters[:3]
    return np.linalg.inv(affine) @ np.linalg.inv(forward) @ affine
