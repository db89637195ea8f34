"""Random warps for tests of registration."""

from __future__ import annotations

import numpy as np
import torch

from fornix.register.grids import Lattice, blurred
from fornix.register.warp import Warp


def random_warp(seed: int = 0, size: float = 12.0) -> Warp:
    """An oblique affine map and a strong smooth flow."""
    rng = np.random.default_rng(seed)
    fixed = Lattice(np.diag([4.0, 4.0, 4.0, 1.0]), (24, 26, 22))
    affine = np.diag([-2.5, 3.0, 2.8, 1.0])
    affine[:3, 3] = (60, -5, 4)
    moving = Lattice(affine, (30, 32, 28))
    matrix = np.eye(4)
    matrix[:3, :3] += 0.1 * rng.standard_normal((3, 3))
    matrix[:3, 3] = rng.uniform(-5, 5, 3)
    control = fixed.with_spacing(8.0)
    noise = torch.randn((3, *control.shape), generator=torch.Generator().manual_seed(seed))
    velocity = blurred(noise, 1.5)
    return Warp(matrix, fixed, moving, velocity / velocity.std() * size / 3, control)
