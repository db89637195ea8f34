"""Whether a peak is a fibre, and how far from it the fibre may lie: told from held-out voxels.

The maxima of the network's field are fibres more or less surely. Two small regressions on what is seen
of one say how surely: a logistic one for the probability that a true axis lies within `NEAR`, and one
for the logarithm of the angle to it, whose 95% quantile in bins of the predicted angle makes the cone
(Mondrian conformal prediction: Vovk et al., 2005; cones of uncertainty: Jones, MRM 2003).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

#: A peak is a fibre where a true axis lies this near, degrees.
NEAR = 25.0
#: Share of true axes that the cone is to hold.
LEVEL = 0.95
_BINS = 12


@dataclass(frozen=True, eq=False)
class PeakCalibration:
    """Tables of the two regressions.

    Attributes:
        middle: (F,) of the peak's numbers.
        scale: See `middle`.
        exists: (G,) weights of their quadratic expansion.
        angle: See `exists`.
        at: (B,) predicted log-angles and the factor of the cone there.
        cone: See `at`.
    """

    middle: NDArray[np.float64]
    scale: NDArray[np.float64]
    exists: NDArray[np.float64]
    angle: NDArray[np.float64]
    at: NDArray[np.float64]
    cone: NDArray[np.float64]

    def probability(self, numbers: NDArray[np.floating]) -> NDArray[np.float32]:
        """That a fibre lies near: (…) from the numbers (…, F) of `describe`."""
        return _sigmoid(self._expanded(numbers) @ self.exists).astype(np.float32)

    def cone95(self, numbers: NDArray[np.floating]) -> NDArray[np.float32]:
        """Angle in degrees, (…), that holds the fibre in 95 of 100, if there is one near."""
        log_angle = self._expanded(numbers) @ self.angle
        factor = np.interp(log_angle, self.at, self.cone)
        return np.clip(np.exp(log_angle) * factor, 0, 90).astype(np.float32)

    def _expanded(self, numbers: NDArray[np.floating]) -> NDArray[np.float64]:
        return _expand((numbers - self.middle) / self.scale)

    def state(self) -> dict[str, torch.Tensor]:
        """As tensors, to be kept with the weights."""
        return {k: torch.as_tensor(np.asarray(v)) for k, v in self.__dict__.items()}

    @staticmethod
    def from_state(state: dict[str, torch.Tensor]) -> PeakCalibration:
        """The inverse of `state`."""
        return PeakCalibration(**{k: v.numpy().astype(np.float64) for k, v in state.items()})

    @staticmethod
    def fit(
        numbers: NDArray[np.floating], angle: NDArray[np.floating], seed: int = 0
    ) -> PeakCalibration:
        """From the numbers (n, F) of peaks and the angle (n,) to their true axis, NaN without one.

        One half of the peaks fits the angle, the other sets the cone.
        """
        middle, scale = numbers.mean(0), numbers.std(0) + 1e-6
        x = _expand((numbers - middle) / scale)
        true = np.isfinite(angle)
        exists = _logistic(x, true)
        half = np.random.default_rng(seed).random(len(x)) < 0.5
        first, second = true & half, true & ~half
        log_angle = np.log(np.maximum(angle, 0.1))
        ridge = 1e-3 * len(x) * np.eye(x.shape[1])
        weights = np.linalg.solve(x[first].T @ x[first] + ridge, x[first].T @ log_angle[first])
        expected = x[second] @ weights
        ratio = angle[second] / np.exp(expected)
        edges = np.quantile(expected, np.linspace(0, 1, _BINS + 1))
        bins = np.clip(np.searchsorted(edges, expected) - 1, 0, _BINS - 1)
        at = np.array([np.median(expected[bins == b]) for b in range(_BINS)])
        cone = np.array([np.quantile(ratio[bins == b], LEVEL) for b in range(_BINS)])
        return PeakCalibration(middle, scale, exists, weights, at, cone)


def describe(
    raised: NDArray[np.floating],
    height: NDArray[np.floating],
    curvature: NDArray[np.floating],
    amplitude: NDArray[np.floating],
    std: NDArray[np.floating],
) -> NDArray[np.float64]:
    """What is seen of maxima of the raised field, (n, K, 8), all given as (n, K), highest first: raised
    log-odds, their distance to the voxel's highest and to the next higher, the width in degrees of the
    bell that they curve like, as a logarithm, the logarithms of the FOD's amplitude there, of that over
    its standard deviation and over the voxel's first, and the field's own log-odds.
    """
    before = np.concatenate([raised[:, :1], raised[:, :-1]], axis=1)
    safe = np.maximum(amplitude, 1e-3).astype(np.float64)
    numbers = [
        raised,
        raised - raised[:, :1],
        raised - before,
        -0.5 * np.log(np.maximum(curvature, 1e-3)) - np.log(np.radians(8)),
        np.log(safe),
        np.log(safe / np.maximum(std, 1e-3)),
        np.log(safe / safe[:, :1]),
        height,
    ]
    return np.stack(numbers, axis=-1)


def _expand(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """(…, F) -> (…, 1 + F + F (F + 1)/2): a constant, the numbers and their products."""
    x = np.clip(x, -4, 4)
    rows, columns = np.triu_indices(x.shape[-1])
    return np.concatenate([np.ones((*x.shape[:-1], 1)), x, x[..., rows] * x[..., columns]], -1)


def _logistic(x: NDArray[np.float64], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights of a logistic regression by Newton's method, a little ridge."""
    weights = np.zeros(x.shape[1])
    for _ in range(30):
        p = _sigmoid(x @ weights)
        slope = x.T @ (true - p) - 1e-2 * weights
        curve = (x * (p * (1 - p))[:, None]).T @ x + (1e-2 + 1e-6 * len(x)) * np.eye(x.shape[1])
        weights = weights + np.linalg.solve(curve, slope)
    return weights


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
