"""One head onto another: rigid, affine or deformable, on tissues and fibres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fornix.core.errors import FornixError
from fornix.register.affine import KINDS, AffineMatch, match_affine
from fornix.register.deformable import LEVELS, Level, match_deformable
from fornix.register.features import Features
from fornix.register.warp import Warp

#: Kinds of registration.
REGISTER_KINDS = ("rigid", "similarity", "affine", "deformable")
#: Mean squared difference of features after the affine map: heads have 0.06 to 0.1, other images more.
_UNLIKE = 0.2
#: Sizes (cube root of the change of volume) that human heads have against each other.
_SMALLEST, _LARGEST = 0.72, 1.35


def register(
    moving: Features,
    fixed: Features,
    *,
    kind: str = "deformable",
    levels: tuple[Level, ...] = LEVELS,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Warp:
    """Find where each point of a fixed head lies in a moving one.

    The middles of tissues on both sides give the start, an affine map follows, then the flow of a
    velocity; all match the tissue network's probabilities, the side of the head and the tensors, which
    are turned along.

    Args:
        moving: From `scan_features`; its images are what the warp brings over.
        fixed: From `scan_features` or `Template.features`.
        kind: One of REGISTER_KINDS.
        levels: Of the deformable registration, from coarse to fine.
        threads: Of torch; as it is if absent.
        progress: Told steps done and all.

    Raises:
        FornixError: No such kind; one of the heads has no brain.
    """
    if kind not in REGISTER_KINDS:
        raise FornixError(
            f"no kind of registration {kind!r}; choose one of: {', '.join(REGISTER_KINDS)}"
        )
    for name, head in (("moving", moving), ("fixed", fixed)):
        if float(head.brain.max()) < 0.5:
            raise FornixError(
                f"the tissue network finds no brain in the {name} image; nothing can be registered to it"
            )
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        found = match_affine(moving, fixed, kind=kind if kind in KINDS else "affine")
        notes = _doubts(found)
        if kind != "deformable":
            return Warp(found.matrix, fixed.lattice, moving.lattice, notes=notes)
        velocity, grid = match_deformable(
            moving, fixed, found.matrix, levels=levels, progress=progress
        )
        return Warp(found.matrix, fixed.lattice, moving.lattice, velocity, grid, notes)
    finally:
        torch.set_num_threads(before)


def _doubts(found: AffineMatch) -> tuple[str, ...]:
    notes = []
    size = float(np.cbrt(np.linalg.det(found.matrix[:3, :3])))
    if not _SMALLEST < size < _LARGEST:
        notes.append(
            f"the heads differ in size by a factor of {size:.2f}: is one of them a child's, an animal's, or "
            "cut off?"
        )
    if found.difference > _UNLIKE:
        notes.append(
            f"the heads do not look alike after registration (difference {found.difference:.2f}; heads of "
            "adults have 0.06 to 0.1): look at the pictures before using what was carried over"
        )
    return tuple(notes)
