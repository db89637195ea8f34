"""White matter for fibre orientations: coherent crossings, alike within a scan, unlike between scans.

A deconvolution knows what one fibre's signal is because a scan's fibres are alike; a network can know
it too (`population.ScanEncoder`), but learns to look only where scans differ from one another and hold
together in themselves. So the middle and the spread of every property are drawn once for each scan,
from tightly shared to as broad as anything (hierarchical priors: Gelman et al., Bayesian Data
Analysis, 2013).
"""

from __future__ import annotations

import numpy as np
import torch

from fornix.physics.tissue import Tissue

#: Least angle between two fibres, degrees.
LEAST_ANGLE = 15.0


def crossings(count: int, rng: np.random.Generator) -> Tissue:
    """White matter of one to three coherent populations that meet at any angle, of one scan.

    The second axis stands at 15 to 90° from the first, evenly (axes at random are mostly far
    apart); the third anywhere at 15° or more from both. Microstructure is shared by the populations
    or, in some scans, each its own.
    """
    mu = _axes(count, rng)
    number = rng.choice([1, 2, 3], size=(count, 1), p=rng.dirichlet([3.0, 4.5, 2.0]))
    share = rng.uniform(rng.uniform(0.15, 0.6), 1.0, (count, 3)) * (np.arange(3) < number)
    share /= share.sum(1, keepdims=True)
    low, high = np.sort(np.exp(rng.uniform(np.log(0.01), np.log(0.3), 2)))
    odi = np.exp(rng.uniform(np.log(low), np.log(max(high, 1.3 * low)), (count, 3)))

    def property_of(middle: float, most: float) -> np.ndarray:
        """(n, 3) about the scan's middle; voxels, and in some scans populations, differ by a spread."""
        spread = float(np.exp(rng.uniform(np.log(0.1 * most), np.log(most))))
        own = 0.6 * spread if rng.random() < 0.4 else 0.0
        return np.asarray(
            middle
            + spread * rng.standard_normal((count, 1))
            + own * rng.standard_normal((count, 3))
        )

    ndi = np.clip(property_of(rng.normal(0.62, 0.1), 0.15), 0.15, 0.95)
    d_par = np.clip(property_of(rng.uniform(1.4, 2.3), 0.3)[:, :1], 0.9, 2.8).repeat(3, 1)
    if rng.random() < 0.4:
        ratio = (1 - ndi) * property_of(1.0, 0.1)
    else:
        ratio = property_of(rng.uniform(0.15, 0.6), 0.15)
    d_perp = d_par * np.clip(ratio, 0.05, 0.9)
    water = rng.uniform(0, 1, count) ** 3 * rng.uniform(0.02, 0.7)
    dot = rng.uniform(0, 1, count) * max(0.0, rng.uniform(-0.1, 0.1)) * (1 - water)
    given = {"mu": mu, "fraction": share, "odi": odi, "ndi": ndi, "fwf": water}
    given |= {"d_par": d_par, "d_perp": d_perp, "restricted": dot, "d_restricted": np.zeros(count)}
    made = Tissue(**{k: torch.as_tensor(np.array(v)) for k, v in given.items()})
    return made.to(dtype=torch.float32)


def _axes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Axes (n, 3, 3)."""
    mu = np.zeros((count, 3, 3))
    mu[:, 0] = _unit(rng.standard_normal((count, 3)))
    mu[:, 1] = _turned_from(mu[:, 0], np.radians(rng.uniform(LEAST_ANGLE, 90, count)), rng)
    mu[:, 2] = _unit(rng.standard_normal((count, 3)))
    apart = np.abs((mu[:, :2] * mu[:, 2:]).sum(2)).max(1)
    close = apart > np.cos(np.radians(LEAST_ANGLE))
    mu[close, 2] = _unit(np.cross(mu[close, 0], mu[close, 1]))
    return mu


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _turned_from(axis: np.ndarray, angle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Axes (n, 3) at the angles (n,) from `axis` (n, 3), on a random side."""
    side = _unit(np.cross(axis, rng.standard_normal(axis.shape)))
    return np.asarray(np.cos(angle)[:, None] * axis + np.sin(angle)[:, None] * side)
