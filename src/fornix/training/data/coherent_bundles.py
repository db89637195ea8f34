"""White matter whose fibres run on from voxel to voxel: what a network that reads neighbours trains on.

A head's own orientations are as rough as the fit they came from. Bundles are not: their axes turn
slowly, about their curvature, and they end at faces, sharp or gradual, where others go on.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fornix.physics.tissue import Tissue
from fornix.training.data.crossings import crossings
from fornix.training.data.tissue import join_tissue

#: Sharpest bend of a bundle, radians per mm: a radius of 25 mm.
_SHARPEST = 1 / 25
#: How much single voxels differ from their neighbours, as a share of how much scans do.
_ROUGH = 0.15


def coherent(place: NDArray[np.floating], rng: np.random.Generator) -> Tissue:
    """Crossing bundles at the places (n, 3) in mm about the middle of a patch.

    Up to three populations. Each axis turns evenly in space; the second and third reach as far as a
    face of their own, which is sharp or fades over up to a centimetre.
    """
    count = len(place)
    one = crossings(1, rng)
    base = join_tissue([one] * count) if count else one
    mu = np.empty((count, 3, 3))
    share = np.empty((count, 3))
    shared = rng.normal(0, _SHARPEST / 2, (3, 3)) * rng.random()
    for k in range(3):
        bend = shared + rng.normal(0, _SHARPEST / 2, (3, 3)) * rng.random()
        turn = Rotation.from_rotvec(place @ bend.T)
        mu[:, k] = turn.apply(one.mu[0, k].double().numpy())
        normal = rng.standard_normal(3)
        depth = place @ (normal / np.linalg.norm(normal)) + rng.uniform(-5, 15)
        face = 1 / (1 + np.exp(-np.clip(depth / rng.uniform(0.3, 5), -30, 30)))
        share[:, k] = float(one.fraction[0, k]) * (1 if k == 0 else face)
    share *= np.exp(rng.normal(0, _ROUGH, share.shape))
    share /= share.sum(1, keepdims=True)

    def rough(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
        noise = torch.as_tensor(np.exp(rng.normal(0, _ROUGH, (count, 1)))).to(values)
        return (values * noise).clamp(low, high)

    return base.with_(
        mu=torch.as_tensor(mu).float(),
        fraction=torch.as_tensor(share).float(),
        odi=rough(base.odi, 0.01, 0.95),
        ndi=rough(base.ndi, 0.1, 0.95),
        s0=None,
    )
