"""Known deformations of the template's head are found again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fornix.core.errors import FornixError
from fornix.register.affine import match_affine
from fornix.register.features import Features, elements, matrices
from fornix.register.grids import Affine, Lattice, blurred, inside, moved, sample
from fornix.register.register import register
from fornix.register.template import mni_template
from fornix.register.warp import PointMap, Warp, local_linear

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def head_under(point_map: PointMap, lattice: Lattice) -> Features:
    """The template's head as a grid sees it whose points lie at `point_map` in MNI space."""
    template = mni_template().features()
    points = lattice.points()
    there = point_map(points)
    seen = inside(template.lattice, there)
    images = torch.cat([template.tissue, template.left[None], template.shape])
    found = sample(images, template.lattice, there) * seen
    turn = torch.linalg.svd(local_linear(point_map, points))
    rotation = (turn.U @ turn.Vh).transpose(-1, -2)
    shape = elements(rotation @ matrices(found[7:]) @ rotation.transpose(-1, -2))
    return Features(lattice, found[:6], found[6], shape)


def posed(
    turn: tuple[float, float, float], scale: float, shift: tuple[float, float, float]
) -> Affine:
    x, y, z = turn
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    made = np.eye(4)
    made[:3, :3] = scale * torch.linalg.matrix_exp(skew).numpy()
    made[:3, 3] = shift
    return made


GRID = Lattice(
    np.array([[-4.0, 0, 0, 90], [0, 4, 0, -126], [0, 0, 4, -80], [0, 0, 0, 1]]), (46, 56, 46)
)


@pytest.mark.parametrize(
    ("turn", "scale", "shift"),
    [
        ((0.1, 0.0, 0.05), 1.0, (0, 0, 0)),
        ((-0.5, 0.2, 0.3), 0.9, (15, -20, 10)),
        ((0.2, 0.6, -0.4), 1.1, (-30, 5, 8)),
    ],
)
def test_poses_and_sizes_are_found_again(
    turn: tuple[float, float, float], scale: float, shift: tuple[float, float, float]
) -> None:
    pose = posed(turn, scale, shift)  # from the scan's world to MNI
    affine = np.linalg.inv(pose) @ GRID.affine  # a grid that holds the whole head
    head = head_under(lambda p: moved(pose, p), Lattice(affine, GRID.shape))
    found = match_affine(head, mni_template().features()).matrix
    points = torch.tensor([[0.0, -20, 10], [50, 0, 20], [-50, -60, 0], [0, 50, 40], [0, -60, -40]])
    away = (moved(found, points) - moved(np.linalg.inv(pose), points)).norm(dim=-1)
    assert float(away.max()) < 1.5  # mm, of voxels of 4 mm


def test_a_deformed_head_is_followed() -> None:
    lattice = mni_template().features().lattice
    control = lattice.with_spacing(12.0)
    noise = blurred(
        torch.randn((3, *control.shape), generator=torch.Generator().manual_seed(1)), 1.5
    )
    true = Warp(np.eye(4), lattice, lattice, noise / noise.std() * 5.0, control)
    head = head_under(true.to_fixed, GRID)
    found = register(head, mni_template().features())
    white = mni_template().tissue[2] > 0.8
    points = lattice.points()[torch.from_numpy(white)][::50]
    before = (true.to_moving(points) - points).norm(dim=-1)
    after = (found.to_moving(points) - true.to_moving(points)).norm(dim=-1)
    assert float(before.mean()) > 4
    assert float(after.mean()) < 0.3 * float(before.mean())
    assert float(found.volume_change().min()) > 0


def test_a_slab_is_placed_where_it_belongs() -> None:
    lattice = Lattice(GRID.affine @ np.diag([1, 1, 1, 1.0]), GRID.shape)
    affine = lattice.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([0, 0, 20])
    slab = Lattice(affine, (46, 56, 12))
    head = head_under(lambda p: p, slab)
    found = register(head, mni_template().features(), kind="rigid")
    points = torch.tensor([[0.0, -20, 10], [40, 0, 20], [-40, -60, 25]])
    assert float((found.to_moving(points) - points).norm(dim=-1).max()) < 4


def test_no_brain_and_no_such_kind_are_refused() -> None:
    template = mni_template().features()
    empty = replace(template, tissue=torch.zeros_like(template.tissue))
    with pytest.raises(FornixError, match="no brain in the moving image"):
        register(empty, template)
    with pytest.raises(FornixError, match="choose one of: rigid, similarity, affine, deformable"):
        register(template, template, kind="elastic")


def test_rigid_maps_change_no_volume() -> None:
    pose = posed((0.2, 0.1, -0.1), 0.9, (5, 0, 0))  # a head of another size
    head = head_under(
        lambda p: moved(pose, p), Lattice(np.linalg.inv(pose) @ GRID.affine, GRID.shape)
    )
    found = register(head, mni_template().features(), kind="rigid").matrix[:3, :3]
    assert np.allclose(found @ found.T, np.eye(3), atol=1e-4)
