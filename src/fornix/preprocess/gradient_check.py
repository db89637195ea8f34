"""Does the gradient table fit the data? Flips and swapped axes tried against the fibres' coherence."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numba import njit, prange
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

    Args:
        v1: (X, Y, Z, 3) first eigenvectors, world axes
        fa: (X, Y, Z). A change of the table's axes changes the fitted directions in the same way, so
            nothing is fitted again. Right directions point from voxel to voxel along fibres: the score
            is how well the direction of the neighbour that lies ahead agrees (after Schilling et al.,
            NeuroImage 2019).
        affine: (4, 4) voxel to world, mm.
        threshold: Least FA of a voxel that counts.
    """
    inside = (fa > threshold) & (fa < 0.95)
    if inside.sum() < 200 or min(fa.shape) < 3:
        return GradientCheck({"as given": 1.0}, "as given", int(inside.sum()))
    to_fsl = fsl_to_world(affine).T
    voxels = np.argwhere(inside)
    if len(voxels) > 60_000:
        voxels = voxels[:: len(voxels) // 60_000 + 1]
    names, turns = [], []
    for order, signs in product(
        permutations(range(3)), ((1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1))
    ):
        change = np.zeros((3, 3))
        change[range(3), order] = signs
        names.append(_name(order, signs))
        turns.append(to_fsl.T @ change @ to_fsl)
    to_voxel = np.linalg.inv(affine[:3, :3])
    found = _coherence(v1, fa, voxels, np.array(turns), to_voxel)
    scores = dict(zip(names, found.tolist()))
    best = max(scores, key=lambda name: scores[name])
    return GradientCheck(scores, best, len(voxels))


@njit(cache=True, nogil=True, parallel=True)
def _coherence(
    v1: np.ndarray, fa: np.ndarray, voxels: np.ndarray, turns: np.ndarray, to_voxel: np.ndarray
) -> np.ndarray:
    """For each of `turns` (n, 3, 3): mean agreement of each direction, turned by it, with the one a step
    ahead, weighted by FA. to_voxel: (3, 3) world to voxel axes.
    """
    grid = fa.shape
    scores = np.empty(len(turns))
    for n in prange(len(turns)):
        total, weight = 0.0, 0.0
        here, there, step = np.empty(3), np.empty(3), np.empty(3)
        ahead = np.empty(3, np.int64)
        for x, y, z in voxels:
            here[:] = 0
            for i in range(3):
                for k in range(3):
                    here[i] += turns[n, i, k] * v1[x, y, z, k]
            # One voxel ahead along the largest component, rounded on the others.
            longest = 1e-9
            for i in range(3):
                step[i] = 0
                for k in range(3):
                    step[i] += to_voxel[i, k] * here[k]
                longest = max(longest, abs(step[i]))
            for side in (1, -1):
                ahead[0], ahead[1], ahead[2] = x, y, z
                inside = True
                for i in range(3):
                    ahead[i] += side * int(np.rint(step[i] / longest))
                    inside = inside and 0 <= ahead[i] < grid[i]
                if not inside:
                    continue
                a, b, c = ahead
                along = 0.0
                for i in range(3):
                    there[i] = 0
                    for k in range(3):
                        there[i] += turns[n, i, k] * v1[a, b, c, k]
                    along += here[i] * there[i]
                # Squared, about its mean of 1/3 for random directions: 0 is chance, 1 perfect.
                total += fa[a, b, c] * fa[x, y, z] * (1.5 * along * along - 0.5)
                weight += fa[x, y, z] ** 2
        scores[n] = total / max(weight, 1e-9)
    return scores


def _name(order: tuple[int, ...], signs: tuple[int, ...]) -> str:
    axes = "xyz"
    flips = [axes[i] for i in range(3) if signs[i] < 0]
    parts = []
    if order != (0, 1, 2):
        parts.append("rows in the order " + "".join(axes[i] for i in order))
    if flips:
        parts.append(f"{flips[0]} negated" + (" after that" if parts else ""))
    return " and ".join(parts) or "as given"
