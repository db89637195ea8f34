"""What a fibre orientation network is to say: the truth of simulated tissue, band-limited.

A population is its Watson density times its share of the voxel that is not free water, in harmonics
up to order 8. Cut there, a bundle of parallel fibres rings: negative at 25° from its axis, with
false lobes beyond. The least dispersion below costs 2° of resolution (two equal fibres part at 32°,
not 30°) and takes the ringing from 14% and 8% of the peak to 4% and 3%.
"""

from __future__ import annotations

import math

import torch

from fornix.numerics import harmonics
from fornix.physics import watson
from fornix.physics.tissue import Tissue

LMAX = 8
COEFFICIENTS = harmonics.n_coefficients(LMAX)
#: Populations less dispersed than this are shown with this dispersion.
LEAST_ODI = 0.04
#: A population has a direction to be found where it is at most this dispersed, and holds at least
#: this share of the voxel.
MOST_ODI, LEAST_SHARE = 0.45, 0.1
#: How near to a fibre counts: nearness falls as a Gaussian of this standard deviation, degrees.
NEARNESS = 7.0


def true_fod(tissue: Tissue) -> torch.Tensor:
    """(n, 45) harmonics in the tissue's frame; the integral over the sphere is the neural share."""
    ells = torch.as_tensor(harmonics.orders(LMAX)[0] // 2)
    moments = watson.moments(tissue.odi.clamp(min=LEAST_ODI), LMAX)
    weight = moments * (tissue.fraction * tissue.neural[:, None])[..., None]
    basis = harmonics.evaluate_torch(LMAX, tissue.mu)
    return (basis * weight[..., ells]).sum(1)


def true_axes(tissue: Tissue) -> tuple[torch.Tensor, torch.Tensor]:
    """Axes (n, P, 3) and which of them (n, P) can be asked for: not too dispersed, not too small."""
    share = tissue.fraction * tissue.neural[:, None]
    return tissue.mu, (share >= LEAST_SHARE) & (tissue.odi <= MOST_ODI)


def nearness(tissue: Tissue, points: torch.Tensor) -> torch.Tensor:
    """(n, P) from 0 to 1: how near each of the axes `points` (P, 3) is to the nearest fibre.

    What is expected of it, given the measurements, is the probability of a fibre there, blurred by
    `NEARNESS`: a proper score (cross-entropy) of it needs no other truth.
    """
    axes, real = true_axes(tissue)
    sine2 = 1 - (axes @ points.T).square()
    width = math.radians(NEARNESS)
    near = torch.exp(-sine2 / (2 * width**2)) * real[..., None]
    return near.amax(1)
