"""Heads brought onto one grid, and their mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fornix.register.apply import warp_image, warp_tensor
from fornix.register.features import Features
from fornix.register.grids import Lattice, inside
from fornix.register.warp import PointMap


def carried_head(head: Features, onto: Lattice, point_map: PointMap) -> Features:
    """A head's features on another grid, its tensors turned as the tissue turns.

    Args:
        head: On its own grid.
        onto: The grid it shall come to.
        point_map: From that grid's world points to the head's.
    """
    scalars = torch.cat([head.tissue, head.left[None]]).movedim(0, -1).numpy()
    found = torch.from_numpy(warp_image(scalars, head.lattice, onto, point_map)).movedim(-1, 0)
    six = head.shape.movedim(0, -1).numpy()
    shape = torch.from_numpy(warp_tensor(six, head.lattice, onto, point_map)).movedim(-1, 0)
    return Features(
        onto, found[:6].contiguous(), found[6].contiguous(), shape.contiguous(), head.notes
    )


def mean_head(heads: Sequence[Features], seen: Sequence[torch.Tensor]) -> Features:
    """The mean of heads on one grid; where a scan does not reach, that of the others.

    Args:
        heads: On the same grid.
        seen: (X, Y, Z) of each, 1 where its scan reaches, else 0; see `reach`.
    """
    weight = torch.stack(list(seen))
    total = weight.sum(0).clamp(min=1e-6)

    def mean(images: list[torch.Tensor]) -> torch.Tensor:
        return _ordered([i * w for i, w in zip(images, weight)]) / total

    tissue = mean([h.tissue for h in heads])
    # The side is told by the brain alone.
    brains = [h.brain * w for h, w in zip(heads, weight)]
    sides = _ordered([h.left * b for h, b in zip(heads, brains)])
    left = sides / _ordered(brains).clamp(min=1e-6)
    notes = tuple(dict.fromkeys(note for h in heads for note in h.notes))
    return Features(heads[0].lattice, tissue, left, mean([h.shape for h in heads]), notes)


def reach(source: Lattice, onto: Lattice, point_map: PointMap) -> torch.Tensor:
    """(X, Y, Z) 1 where a grid's points lie on another grid, else 0."""
    return inside(source, point_map(onto.points()))


def _ordered(images: list[torch.Tensor]) -> torch.Tensor:
    """Sum whose rounding does not hang on the order of the images."""
    stack = np.sort(torch.stack(images).numpy().astype(np.float64), axis=0)
    return torch.from_numpy(stack.sum(0).astype(np.float32))
