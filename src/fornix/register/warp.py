"""A registration's result: where a point of one head lies in the other, both ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from fornix.register.deformation import flow, jacobians
from fornix.register.grids import Affine, Lattice, moved, sample

#: World points (..., 3) of one head to those of another, mm.
PointMap = Callable[[torch.Tensor], torch.Tensor]


class HeadMap(Protocol):
    """Where points of one head lie in another, both ways."""

    def to_moving(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 3) of the fixed head in the moving one."""
        ...

    def to_fixed(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 3) of the moving head in the fixed one."""
        ...


@dataclass(frozen=True, eq=False)
class Warp:
    """How a moving head lies on a fixed one: x in the fixed head is `matrix @ (x + flow(x))` in the moving.

    Attributes:
        matrix: (4, 4) fixed world to moving world, mm.
        fixed: Grid of the fixed head.
        moving: Grid of the moving head.
        velocity: (3, X, Y, Z) mm in fixed space; None for rigid and affine maps.
        control: Where the velocity's voxels lie.
        notes: What is to be looked at, a line each.
    """

    matrix: Affine
    fixed: Lattice
    moving: Lattice
    velocity: torch.Tensor | None = None
    control: Lattice | None = None
    notes: tuple[str, ...] = ()

    def to_moving(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 3) of the fixed head, where they lie in the moving one."""
        if self._forward is not None and self.control is not None:
            points = points + sample(self._forward, self.control, points).movedim(0, -1)
        return moved(self.matrix, points)

    def to_fixed(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 3) of the moving head, where they lie in the fixed one: the exact way back.

        The backward flow is the start; a few rounds of fixed-point iteration remove what scaling and
        squaring on a coarse grid leave.
        """
        bare = moved(np.asarray(np.linalg.inv(self.matrix), np.float64), points)
        if self._forward is None or self._backward is None or self.control is None:
            return bare
        found = bare + sample(self._backward, self.control, bare).movedim(0, -1)
        best = torch.full(found.shape[:-1], torch.inf)
        kept = found
        for _ in range(14):
            off = found + sample(self._forward, self.control, found).movedim(0, -1) - bare
            size = off.norm(dim=-1)
            kept = torch.where((size < best)[..., None], found, kept)
            best = torch.minimum(size, best)
            # Half steps: whole ones run away where the tissue is stretched to more than twice.
            found = found - 0.5 * off
        return kept

    def volume_change(self) -> torch.Tensor:
        """Determinant of the whole map's derivative on the control grid; (1, 1, 1) for affine maps."""
        linear = float(np.linalg.det(self.matrix[:3, :3]))
        if self._forward is None or self.control is None:
            return torch.full((1, 1, 1), linear)
        return linear * torch.linalg.det(jacobians(self._forward, self.control))

    @cached_property
    def _forward(self) -> torch.Tensor | None:
        return self._flowed(1.0)

    @cached_property
    def _backward(self) -> torch.Tensor | None:
        return self._flowed(-1.0)

    def _flowed(self, sign: float) -> torch.Tensor | None:
        if self.velocity is None or self.control is None:
            return None
        with torch.no_grad():
            return flow(sign * self.velocity, self.control)


@dataclass(frozen=True, eq=False)
class DisplacementMap:
    """A map of points read from a file: a displacement in mm on a grid, linear between voxels.

    Attributes:
        displacement: (3, X, Y, Z) mm, world RAS.
        lattice: Where its voxels lie.
    """

    displacement: torch.Tensor
    lattice: Lattice

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Points (..., 3) on the other side."""
        return points + sample(self.displacement, self.lattice, points).movedim(0, -1)


def local_linear(point_map: PointMap, points: torch.Tensor, step: float = 1.0) -> torch.Tensor:
    """Derivative (..., 3, 3) of a map at points (..., 3), by differences of `step` mm each way."""
    columns = []
    for axis in range(3):
        away = torch.zeros(3)
        away[axis] = step
        columns.append((point_map(points + away) - point_map(points - away)) / (2 * step))
    return torch.stack(columns, -1)
