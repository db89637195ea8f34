"""A tract that one side's warp pushes is told; what moves both sides alike is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.register.warp import PointMap
from fornix.tracts.atlas import ATLASES, load_atlas
from fornix.tracts.displacement import displacements

NAMES = ("CST_left", "CST_right", "AF_left", "AF_right", "CC_4")


class Pushed:
    """World maps that push away from centres, after an affine map."""

    def __init__(self, *centres: tuple[float, float, float], size: float = 8.0) -> None:
        self.centres, self.size = centres, size
        turn = np.array([[0.98, 0.17, 0.02], [-0.16, 0.95, 0.1], [0.0, -0.1, 1.05]])
        self.turn = torch.tensor(turn, dtype=torch.float32)

    def to_moving(self, points: torch.Tensor) -> torch.Tensor:
        out = points.clone()
        for centre in self.centres:
            away = points - torch.tensor(centre)
            distance = away.norm(dim=-1, keepdim=True).clamp_min(1e-3)
            out = out + away / distance * self.size * torch.exp(
                -(((distance - 12).abs() / 12) ** 2)
            )
        return out @ self.turn.T + torch.tensor([3.0, -7.0, 12.0])

    to_fixed: PointMap


@pytest.fixture(scope="module")
def atlas():
    return load_atlas(ATLASES["tracts72"])


def test_an_affine_map_displaces_nothing(atlas) -> None:
    found = displacements(atlas, NAMES, Pushed())
    assert max(d.distance for d in found.values()) < 0.05


def test_what_is_pushed_on_one_side_is_told_where_it_is(atlas) -> None:
    found = displacements(atlas, NAMES, Pushed((-26.0, -20.0, 20.0)))
    assert found["CST_left"].distance > 4
    assert 0 <= found["CST_left"].low < found["CST_left"].high <= 1
    assert found["CST_right"].distance < 1  # it is where it was


def test_what_moves_both_sides_alike_is_not(atlas) -> None:
    both = displacements(atlas, NAMES, Pushed((-26.0, -20.0, 20.0), (26.0, -20.0, 20.0)))
    assert max(d.distance for d in both.values()) < 1.0
