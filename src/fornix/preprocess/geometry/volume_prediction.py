"""What all other volumes say of each one: a linear prediction, from the physics of q-space.

The prior of `qspace.prior` makes the signals of a voxel a Gaussian process over b and direction. Without
a noise-free S0 at hand its size is unknown too: it is one more feature, the mean decay, of wide prior.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import Gradients
from fornix.qspace.prior import default_prior

#: Standard deviation of S0 over the brain, relative to its median.
_S0_SPREAD = 1.0


def prediction_weights(gradients: Gradients, noise: float) -> NDArray[np.float64]:
    """(N, N) with a zero diagonal: row v times the volumes' signals predicts volume v.

    b0s and weighted volumes each predict their own kind: what water adds to a b0 shows nowhere else.
    A volume alone of its kind has a row of zeros.

    Args:
        gradients: As the head at rest feels them.
        noise: Standard deviation of the signals over the median S0.
    """
    prior = default_prior()
    design = prior.design(gradients.b, gradients.directions)
    decay = _S0_SPREAD * prior.mean_at(gradients.b)
    covariance = np.outer(decay, decay) + design @ design.T
    weights = np.zeros_like(covariance)
    for kind in (gradients.b0_mask, ~gradients.b0_mask):
        here = np.ix_(kind, kind)
        if kind.sum() > 1:
            inverse = np.linalg.inv(covariance[here] + noise**2 * np.eye(int(kind.sum())))
            weights[here] = -inverse / np.diag(inverse)[:, None]
    np.fill_diagonal(weights, 0.0)
    return weights
