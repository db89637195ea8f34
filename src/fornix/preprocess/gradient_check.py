"""Does the gradient table fit the data? Flips and swapped axes tried against the fibres' coherence."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations, product

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from fornix.core.gradients import fsl_to_world

#: A table is called wrong where another's coherence is higher by so many standard errors. 23 others are
#: tried, and neighbouring blocks share noise: the false alarms of this level are measured by
#: `fornix bench checks`.
_LEVEL = 5.0
#: ... and by so much, at a coherence that fibres have: what noise and interpolation can give is less.
_LEAST_GAIN, _LEAST_COHERENCE = 0.02, 0.06
#: A table is called right where it wins by so many standard errors.
_SURE = 3.0


@dataclass(frozen=True)
class GradientCheck:
    """The outcome.

    Attributes:
        scores: Coherence of each change of the table, by its name; 0 is chance, 1 perfect.
        best: The name of the highest.
        voxels: How many were asked.
        errors: Standard error of each score's difference to that of the table as given.
    """

    scores: dict[str, float]
    best: str
    voxels: int
    errors: dict[str, float] = field(default_factory=dict)

    @property
    def right(self) -> bool:
        """True where no other table fits better by more than chance allows; see `verdict`."""
        return self.verdict != "wrong"

    @property
    def verdict(self) -> str:
        """`fits`, `wrong`, or `open` where the data cannot tell (noise, too few voxels)."""
        given = self.scores["as given"]
        others = {k: v for k, v in self.scores.items() if k != "as given"}
        if self.voxels < 200 or not others or not self.errors:
            return "open"
        gain = self.scores[self.best] - given
        if (
            gain > max(_LEAST_GAIN, _LEVEL * self.errors[self.best])
            and self.scores[self.best] > _LEAST_COHERENCE
        ):
            return "wrong"
        second = max(others, key=lambda name: others[name])
        sure = given - others[second] > _SURE * self.errors[second]
        return "fits" if sure and given > _LEAST_COHERENCE else "open"

    def __str__(self) -> str:
        given = self.scores["as given"]
        if self.voxels < 200 or len(self.scores) == 1:
            return "not tried: too few coherent voxels"
        second = max(v for k, v in self.scores.items() if k != "as given")
        if self.verdict == "fits":
            return f"the table fits the data (coherence {given:.3f}; next best {second:.3f})"
        if self.verdict == "open":
            return (
                f"cannot be told from this scan (coherence {given:.3f}; next best {second:.3f}): too much "
                "noise or too few voxels of clear direction"
            )
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
    block, count = _blocks(voxels)
    sums = _coherence(v1, fa, voxels, block, count, np.array(turns), to_voxel)
    found, errors = _jackknife(sums, names.index("as given"))
    scores = dict(zip(names, found.tolist()))
    best = max(scores, key=lambda name: scores[name])
    return GradientCheck(scores, best, len(voxels), dict(zip(names, errors.tolist())))


def _blocks(voxels: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """The cube that each voxel lies in, numbered from 0, and how many there are: about a hundred."""
    low, high = voxels.min(0), voxels.max(0) + 1
    edge = int(np.clip(np.cbrt(np.prod(high - low) / 100.0), 2, 12))
    cube = (voxels - low) // edge
    _, number = np.unique(cube, axis=0, return_inverse=True)
    number = number.reshape(-1)
    return number, int(number.max()) + 1


def _jackknife(
    sums: NDArray[np.float64], given: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores (n,), and standard errors of their differences to the given one, blocks left out in turn.

    Args:
        sums: (n, blocks, 2) agreement and weight.
        given: Which of the n is the table as given.
    """
    total = sums.sum(1)
    scores = total[:, 0] / np.maximum(total[:, 1], 1e-9)
    left = total[:, None] - sums
    without = left[..., 0] / np.maximum(left[..., 1], 1e-9)
    change = without - without[given]
    blocks = sums.shape[1]
    if blocks < 8:  # too few to know the error by
        return scores, np.full(len(scores), np.inf)
    spread = ((change - change.mean(1, keepdims=True)) ** 2).sum(1)
    return scores, np.sqrt((blocks - 1) / blocks * spread)


@njit(cache=True, nogil=True, parallel=True)
def _coherence(
    v1: np.ndarray,
    fa: np.ndarray,
    voxels: np.ndarray,
    block: np.ndarray,
    blocks: int,
    turns: np.ndarray,
    to_voxel: np.ndarray,
) -> np.ndarray:
    """For each of `turns` (n, 3, 3) and each block of voxels: agreement of each direction, turned by it,
    with the one a step ahead, weighted by FA, and the sum of weights: (n, blocks, 2).

    to_voxel: (3, 3) world to voxel axes.
    """
    grid = fa.shape
    sums = np.zeros((len(turns), blocks, 2))
    for n in prange(len(turns)):
        here, there, step = np.empty(3), np.empty(3), np.empty(3)
        ahead = np.empty(3, np.int64)
        for m in range(len(voxels)):
            x, y, z = voxels[m]
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
                sums[n, block[m], 0] += fa[a, b, c] * fa[x, y, z] * (1.5 * along * along - 0.5)
                sums[n, block[m], 1] += fa[x, y, z] ** 2
    return sums


def _name(order: tuple[int, ...], signs: tuple[int, ...]) -> str:
    axes = "xyz"
    flips = [axes[i] for i in range(3) if signs[i] < 0]
    parts = []
    if order != (0, 1, 2):
        parts.append("rows in the order " + "".join(axes[i] for i in order))
    if flips:
        parts.append(f"{flips[0]} negated" + (" after that" if parts else ""))
    return " and ".join(parts) or "as given"
