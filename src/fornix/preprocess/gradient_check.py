"""Does the gradient table fit the data? Flips and swapped axes tried against the fibres' coherence."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import fsl_to_world

_MARGIN = 1.03  # a wrong table is reported only where another is better by more than this


@dataclass(frozen=True)
class GradientCheck:
    """The outcome. scores: coherence of each change, by its name; best: the name that wins."""

    scores: dict[str, float]
    best: str
    voxels: int

    @property
    def right(self) -> bool:
        """True where no other table fits clearly better."""
        return self.scores[self.best] <= _MARGIN * self.scores["as given"]

    def __str__(self) -> str:
        given = self.scores["as given"]
        if self.voxels < 200 or len(self.scores) == 1:
            return "not tried: too few coherent voxels"
        if self.right:
            second = max(v for k, v in self.scores.items() if k != "as given")
            return f"the table fits the data (coherence {given:.3f}; next best {second:.3f})"
        return (
            f"the table fits better with {self.best} (coherence {self.scores[self.best]:.3f} against "
            f"{given:.3f}): correct the bvec file so, it was not changed here"
        )


def check_gradients(
    v1: NDArray[np.float32], fa: NDArray[np.float32], affine: NDArray, threshold: float = 0.3
) -> GradientCheck:
    """Try the 24 changes of the FSL table (signs and order of its rows) on fitted directions.

    v1: (X, Y, Z, 3) first eigenvectors, world axes; fa: (X, Y, Z).
    A change of the table's axes changes the fitted directions in the same way, so nothing is fitted
    again. Right directions point from voxel to voxel along fibres: the score is how well the
    direction of the neighbour that lies ahead agrees (after Schilling et al., NeuroImage 2019).
    """
    inside = (fa > threshold) & (fa < 0.95)
    if inside.sum() < 200 or min(fa.shape) < 3:
        return GradientCheck({"as given": 1.0}, "as given", int(inside.sum()))
    to_fsl = fsl_to_world(affine).T
    voxels = np.argwhere(inside)
    if len(voxels) > 60_000:
        voxels = voxels[:: len(voxels) // 60_000 + 1]
    scores = {}
    for order, signs in product(
        permutations(range(3)), ((1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1))
    ):
        change = np.zeros((3, 3))
        change[range(3), order] = signs
        turned = v1 @ (to_fsl.T @ change @ to_fsl).T
        scores[_name(order, signs)] = _coherence(turned, fa, voxels, affine)
    best = max(scores, key=lambda name: scores[name])
    return GradientCheck(scores, best, len(voxels))


def _coherence(v1: NDArray, fa: NDArray, voxels: NDArray, affine: NDArray) -> float:
    """Mean agreement of each direction with the one a step ahead, weighted by FA."""
    here = v1[tuple(voxels.T)]
    step = here @ np.linalg.inv(affine[:3, :3]).T
    # One voxel ahead along the largest component, rounded on the others.
    step = step / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-9)
    total, weight = 0.0, 0.0
    for side in (1, -1):
        ahead = voxels + side * np.rint(step).astype(int)
        ok = ((ahead >= 0) & (ahead < fa.shape)).all(axis=1)
        there = tuple(ahead[ok].T)
        # Squared, about its mean of 1/3 for random directions: 0 is chance, 1 perfect.
        agreement = 1.5 * (here[ok] * v1[there]).sum(axis=1) ** 2 - 0.5
        total += float((fa[there] * fa[tuple(voxels[ok].T)] * agreement).sum())
        weight += float((fa[tuple(voxels[ok].T)] ** 2).sum())
    return total / max(weight, 1e-9)


def _name(order: tuple[int, ...], signs: tuple[int, ...]) -> str:
    axes = "xyz"
    flips = [axes[i] for i in range(3) if signs[i] < 0]
    parts = []
    if order != (0, 1, 2):
        parts.append("rows in the order " + "".join(axes[i] for i in order))
    if flips:
        parts.append(f"{flips[0]} negated" + (" after that" if parts else ""))
    return " and ".join(parts) or "as given"
