"""Does the gradient table fit the data? Flips and swapped axes tried by how far fibres run on.

With the right table the directions of neighbouring voxels follow each other along fibres, with another
they do not, and paths through them end early: as MRtrix3's `dwigradcheck` (Jeurissen et al., Med. Image
Anal. 2014) tells them apart. The differences are judged against their own chance: see `verdict`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import permutations, product

import numpy as np
from numba import prange
from numpy.typing import NDArray

from fornix.core.gradients import fsl_to_world
from fornix.numerics.algebra import compiled_parallel

#: A table is called wrong where paths run on further with another by so many standard errors, and by this
#: share at least. 23 others are tried, and blocks share noise: `fornix bench checks` measures the false
#: alarms.
_LEVEL, _LEAST_GAIN = 4.5, 0.05
#: A table is called right where it wins by so many standard errors.
_SURE = 2.0
#: Paths that start, steps of half a voxel to each side, the least FA, and an FA that no fibre has.
_SEEDS, _STEPS, _FA, _NO_FIBRE = 5_000, 50, 0.2, 0.98
#: Largest turn of a step, degrees, and how well the voxels around must agree on where to go.
_TURN, _AGREEMENT = 50.0, 0.75


@dataclass(frozen=True)
class GradientCheck:
    """The outcome.

    Attributes:
        scores: How far paths run on with each change of the table, by its name; mm, the mean.
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
        if gain > max(_LEAST_GAIN * given, _LEVEL * self.errors[self.best]):
            return "wrong"
        second = max(others, key=lambda name: others[name])
        return "fits" if given - others[second] > _SURE * self.errors[second] else "open"

    def __str__(self) -> str:
        given = self.scores["as given"]
        if self.voxels < 200 or len(self.scores) == 1:
            return "not tried: too few coherent voxels"
        second = max(v for k, v in self.scores.items() if k != "as given")
        if self.verdict == "fits":
            return f"the table fits the data (paths of {given:.0f} mm; next best {second:.0f} mm)"
        if self.verdict == "open":
            return (
                f"cannot be told from this scan (paths of {given:.1f} mm; next best {second:.1f} mm): "
                "too much noise or too few clear voxels"
            )
        return (
            f"the table fits better with {self.best} (paths of {self.scores[self.best]:.0f} mm against "
            f"{given:.0f} mm): correct the bvec file so, it was not changed here"
        )


def check_gradients(
    v1: NDArray[np.float32], fa: NDArray[np.float32], affine: NDArray
) -> GradientCheck:
    """Try the 24 changes of the FSL table (signs and order of its rows) on fitted directions.

    A change of the table's axes changes the fitted directions in the same way, so nothing is fitted again.

    Args:
        v1: (X, Y, Z, 3) first eigenvectors, world axes.
        fa: (X, Y, Z) 0 outside the brain.
        affine: (4, 4) voxel to world, mm.
    """
    inside = (fa > _FA) & (fa < _NO_FIBRE)
    if inside.sum() < 200 or min(fa.shape) < 3:
        return GradientCheck({"as given": 1.0}, "as given", int(inside.sum()))
    to_fsl = fsl_to_world(affine).T
    seeds = np.argwhere(inside)
    seeds = seeds[:: len(seeds) // _SEEDS + 1]
    changes = table_changes()
    names = [name for name, _ in changes]
    turns = np.array([to_fsl.T @ change @ to_fsl for _, change in changes])
    step = 0.5 * float(np.linalg.norm(affine[:3, :3], axis=0).min())
    field = np.ascontiguousarray(v1, dtype=np.float32), np.where(inside, fa, 0).astype(np.float32)
    to_voxel, cosine = np.linalg.inv(affine[:3, :3]), math.cos(math.radians(_TURN))
    for every in (4, 1):  # a fourth of the paths is enough for most scans
        chosen = seeds[::every]
        block, count = _blocks(chosen)
        sums = _path_lengths(*field, chosen, block, count, turns, to_voxel, step, cosine)
        found, errors = _jackknife(sums, names.index("as given"))
        scores = dict(zip(names, found.tolist()))
        best = max(scores, key=lambda name: scores[name])
        check = GradientCheck(scores, best, int(inside.sum()), dict(zip(names, errors.tolist())))
        if check.verdict != "open":
            break
    return check


def table_changes() -> list[tuple[str, NDArray[np.float64]]]:
    """The 24 changes of an FSL table's rows (order and one sign): name and (3, 3) matrix.

    Two signs changed are the third one changed: a direction and its opposite are the same.
    """
    out = []
    for order, signs in product(
        permutations(range(3)), ((1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1))
    ):
        change = np.zeros((3, 3))
        change[range(3), order] = signs
        out.append((_name(order, signs), change))
    return out


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
        sums: (n, blocks, 2) length of the paths that start in a block, mm, and their number.
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


@compiled_parallel
def _path_lengths(
    v1: np.ndarray,
    fa: np.ndarray,
    seeds: np.ndarray,
    block: np.ndarray,
    blocks: int,
    turns: np.ndarray,
    to_voxel: np.ndarray,
    step: float,
    least_cosine: float,
) -> np.ndarray:
    """For each of `turns` (n, 3, 3), by which directions are turned, and each block of seeds: the length of
    the paths along them in mm, and their number: (n, blocks, 2).

    Args:
        v1: (X, Y, Z, 3) world axes.
        fa: (X, Y, Z) 0 where a path ends.
        seeds: (s, 3) voxels.
        block: (s,) number of the block of each.
        blocks: How many.
        turns: (n, 3, 3).
        to_voxel: (3, 3) world to voxel axes.
        step: mm.
        least_cosine: Of the turn from step to step.
    """
    width, height, depth = fa.shape
    sums = np.zeros((len(turns), blocks, 2))
    for n in prange(len(turns)):
        # Turned directions agree with each other as unturned ones do: only the way through the voxels turns.
        onward = step * (to_voxel @ turns[n])
        place, way, ahead = np.empty(3), np.empty(3), np.empty(3)
        for m in range(len(seeds)):
            steps = 0
            for side in (1.0, -1.0):
                for i in range(3):
                    place[i] = seeds[m, i]
                    way[i] = side * v1[seeds[m, 0], seeds[m, 1], seeds[m, 2], i]
                for _ in range(_STEPS):
                    for i in range(3):
                        place[i] += (
                            onward[i, 0] * way[0] + onward[i, 1] * way[1] + onward[i, 2] * way[2]
                        )
                    x, y, z = math.floor(place[0]), math.floor(place[1]), math.floor(place[2])
                    if x < 0 or y < 0 or z < 0 or x > width - 2 or y > height - 2 or z > depth - 2:
                        break
                    # The directions around, weighted by nearness and FA, each turned to the path's sense.
                    ahead[:] = 0.0
                    weight = 0.0
                    for corner in range(8):
                        a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
                        near = (
                            abs(1 - a - (place[0] - x)) * abs(1 - b - (place[1] - y))
                            * abs(1 - c - (place[2] - z)) * fa[x + a, y + b, z + c]
                        )  # fmt: skip
                        if near <= 0.0:
                            continue
                        u = v1[x + a, y + b, z + c]
                        if u[0] * way[0] + u[1] * way[1] + u[2] * way[2] < 0.0:
                            near = -near
                        ahead[0] += near * u[0]
                        ahead[1] += near * u[1]
                        ahead[2] += near * u[2]
                        weight += abs(near)
                    size = math.sqrt(ahead[0] ** 2 + ahead[1] ** 2 + ahead[2] ** 2)
                    if weight < _FA or size < _AGREEMENT * weight:
                        break
                    cosine = (ahead[0] * way[0] + ahead[1] * way[1] + ahead[2] * way[2]) / size
                    if cosine < least_cosine:
                        break
                    steps += 1
                    for i in range(3):
                        way[i] = ahead[i] / size
            sums[n, block[m], 0] += steps * step
            sums[n, block[m], 1] += 1.0
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
