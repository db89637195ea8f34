"""A space half-way between the sessions of one person, which favours none of them.

Every session is registered to every other, both ways, and the maps' logarithms are averaged: the order of the
sessions makes no difference, and each one's images are resampled alike (Reuter et al., NeuroImage 2012).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg, optimize

from fornix.core.errors import FornixError
from fornix.register.affine import match_affine
from fornix.register.features import Features
from fornix.register.grids import Affine, Lattice
from fornix.register.warp import PointMap, Warp, local_linear

#: Kinds of map between sessions: a head is stiff; `similarity` also lets the scanner's size differ.
HALFWAY_KINDS = ("rigid", "similarity")
#: Rounds in which more than two sessions settle.
_ROUNDS = 5
#: mm: voxels of the half-way grid, and what it holds around the brains.
_FINEST, _COARSEST, _MARGIN = 1.25, 2.0, 8.0
#: Probability of brain that counts for the grid's extent.
_BRAIN = 0.5
#: Mean squared difference of features after a rigid map: four pairs of scans of one head have 0.01 to 0.03
#: (a fifth 0.07, distorted by EPI in opposite directions), 21 pairs of different heads 0.07 to 0.12.
_OTHER_HEAD = 0.05


@dataclass(frozen=True, eq=False)
class Halfway:
    """Where sessions meet.

    Attributes:
        lattice: Grid of the half-way space, axes RAS.
        warps: Of each session: its head moving, the half-way space fixed.
        difference: Worst mean squared difference of features between two sessions after registration.
        notes: What is to be looked at, a line each.
    """

    lattice: Lattice
    warps: tuple[Warp, ...]
    difference: float
    notes: tuple[str, ...] = ()


def halfway(
    sessions: Sequence[Features],
    *,
    kind: str = "rigid",
    progress: Callable[[int, int], None] | None = None,
) -> Halfway:
    """The space half-way between sessions of one person.

    Args:
        sessions: Features of two scans or more.
        kind: One of HALFWAY_KINDS.
        progress: Told registrations done and all.

    Raises:
        FornixError: No such kind; fewer than two sessions; one without a brain.
    """
    if kind not in HALFWAY_KINDS:
        raise FornixError(
            f"no kind of registration {kind!r} between sessions; choose one of: {', '.join(HALFWAY_KINDS)}"
        )
    n = len(sessions)
    if n < 2:
        raise FornixError("a half-way space needs two sessions or more")
    for i, head in enumerate(sessions):
        if float(head.brain.max()) < _BRAIN:
            raise FornixError(f"the tissue network finds no brain in session {i + 1}")
    between: dict[tuple[int, int], Affine] = {}
    worst = 0.0
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    for done, (i, j) in enumerate(pairs):
        found = match_affine(sessions[j], sessions[i], kind=kind)
        between[i, j] = found.matrix
        worst = max(worst, found.difference)
        if progress is not None:
            progress(done + 1, len(pairs))
    matrices = middle(between, n)
    lattice = common_grid(sessions, matrices)
    warps = tuple(Warp(m, lattice, s.lattice) for m, s in zip(matrices, sessions))
    notes = []
    if worst > _OTHER_HEAD:
        notes.append(
            f"the sessions do not look like one person's (difference {worst:.3f} after registration; scans "
            "of one head have 0.01 to 0.03, different people 0.07 to 0.12): are they of one person, and "
            "undistorted?"
        )
    return Halfway(lattice, warps, worst, tuple(notes))


def middle(between: dict[tuple[int, int], Affine], count: int) -> list[Affine]:
    """Maps from the half-way space to each of some spaces.

    Args:
        between: (4, 4) from world i to world j, for every i and j that differ.
        count: Of the spaces.

    Returns:
        (4, 4) half-way world to each world; of two spaces, the roots of the map between them.
    """
    # log of both ways' mean: exactly the opposite for the pair the other way round.
    logs = {(i, j): (_log(between[i, j]) - _log(between[j, i])) / 2 for i, j in between}
    steps = {pair: linalg.expm(log) for pair, log in logs.items()}
    others = [[j for j in range(count) if j != i] for i in range(count)]
    made = [linalg.expm(_sum(logs[j, i] for j in others[i]) / count) for i in range(count)]
    for _ in range(_ROUNDS if count > 2 else 0):
        back = [np.linalg.inv(m) for m in made]
        made = [
            made[i]
            @ linalg.expm(
                _sum(_log(back[i] @ steps[j, i] @ made[j]) for j in others[i]) / count
            )
            for i in range(count)
        ]  # fmt: skip
    return [np.asarray(m, np.float64) for m in made]


def turn_between(one: Lattice, two: Lattice, to_one: PointMap, to_two: PointMap) -> float:
    """Degrees between the slices of two scans as they lie in the head, whatever their storage order.

    Args:
        one: The first scan's grid.
        two: The second's.
        to_one: From the half-way space's world points to the first's.
        to_two: To the second's.
    """
    middle = torch.zeros(3)
    axes = []
    for lattice, point_map in ((one, to_one), (two, to_two)):
        linear = local_linear(point_map, middle, 20.0).numpy().astype(np.float64)
        columns = np.linalg.solve(linear, lattice.affine[:3, :3] / lattice.spacing)
        axes.append(columns / np.linalg.norm(columns, axis=0))
    cosines = axes[0].T @ axes[1]
    rows, chosen = optimize.linear_sum_assignment(-np.abs(cosines))
    signs = np.sign(cosines[rows, chosen])
    # The trace of the turn that is left once axes are named and signed alike.
    trace = float((cosines[rows, chosen] * signs).sum())
    return float(np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))))


def _log(matrix: Affine) -> NDArray[np.float64]:
    return np.asarray(np.real(linalg.logm(matrix)), np.float64)


def _sum(parts: object) -> NDArray[np.float64]:
    """Sum whose rounding does not hang on the order of the sessions."""
    stack = np.stack(list(parts))  # type: ignore[call-overload]
    return np.asarray(np.sort(stack, axis=0).sum(0), np.float64)


def common_grid(
    heads: Sequence[Features], matrices: Sequence[Affine], spacing: float | None = None
) -> Lattice:
    """A grid, axes RAS, that holds the brains of several heads.

    Args:
        heads: On their own grids.
        matrices: (4, 4) of each, from the common world to the head's.
        spacing: Mm of its voxels; the finest head's, from 1.25 to 2, if absent.
    """
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for head, matrix in zip(heads, matrices):
        voxels = np.argwhere(head.brain.numpy() > _BRAIN)
        whole = np.linalg.inv(matrix) @ head.lattice.affine
        points = voxels @ whole[:3, :3].T + whole[:3, 3]
        low, high = np.minimum(low, points.min(0)), np.maximum(high, points.max(0))
    size = spacing
    if size is None:
        finest = min(float(h.lattice.spacing.min()) for h in heads)
        size = float(np.clip(finest, _FINEST, _COARSEST))
    x, y, z = (int(n) for n in np.ceil((high - low + 2 * _MARGIN) / size) + 1)
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = low - _MARGIN
    return Lattice(affine, (x, y, z))
