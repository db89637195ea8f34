"""The half-way space favours no session, and a person's sessions lie on each other in it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg

from fornix.core.errors import FornixError
from fornix.register.affine import AffineMatch
from fornix.register.features import Features
from fornix.register.grids import Affine, Lattice, moved, sample
from fornix.register.halfway import halfway, middle, turn_between
from fornix.register.mean_head import carried_head, mean_head, reach
from fornix.register.template import mni_template

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def rigid(seed: int, degrees: float = 12.0, mm: float = 15.0) -> Affine:
    rng = np.random.default_rng(seed)
    x, y, z = np.radians(degrees) * rng.uniform(-1, 1, 3)
    made = np.eye(4)
    made[:3, :3] = linalg.expm(np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]))
    made[:3, 3] = rng.uniform(-mm, mm, 3)
    return made


def maps_between(poses: list[Affine]) -> dict[tuple[int, int], Affine]:
    """From world i to world j, where poses lead from a common head to each world."""
    return {
        (i, j): poses[j] @ np.linalg.inv(poses[i])
        for i, j in itertools.permutations(range(len(poses)), 2)
    }


@pytest.mark.parametrize("count", [2, 3, 4])
def test_sessions_that_agree_meet_in_one_place(count: int) -> None:
    poses = [rigid(i) for i in range(count)]
    made = middle(maps_between(poses), count)
    for i, j in itertools.permutations(range(count), 2):
        assert np.allclose(
            made[j] @ np.linalg.inv(made[i]), poses[j] @ np.linalg.inv(poses[i]), atol=1e-6
        )
    # None is favoured: each is as far from the middle as the others say, on the whole.
    assert np.allclose(sum(linalg.logm(m).real for m in made), 0, atol=0.05 * count * 15)


@pytest.mark.parametrize("count", [2, 3])
def test_their_order_makes_no_difference(count: int) -> None:
    rng = np.random.default_rng(0)
    between = maps_between([rigid(i) for i in range(count)])
    # Registrations do not agree exactly, neither both ways nor around a circle.
    between = {k: m @ rigid(int(rng.integers(1e6)), 1.0, 1.0) for k, m in between.items()}
    made = middle(between, count)
    for order in itertools.permutations(range(count)):
        other = middle(
            {(order.index(i), order.index(j)): m for (i, j), m in between.items()}, count
        )
        for i in range(count):
            assert np.allclose(other[order.index(i)], made[i], atol=1e-9)


def seen_from(pose: Affine) -> Features:
    """The template's head in another pose, on a grid of 5 mm that turns with it half of the way."""
    template = mni_template().features()
    grid = np.diag([5.0, 5, 5, 1])
    grid[:3, 3] = [-85, -120, -75]
    lattice = Lattice(grid, (35, 42, 34))
    there = moved(np.linalg.inv(pose), lattice.points())
    images = torch.cat([template.tissue, template.left[None], template.shape])
    found = sample(images, template.lattice, there)
    return Features(lattice, found[:6], found[6], found[7:])


@pytest.fixture(scope="module")
def two() -> tuple[Features, Features]:
    return seen_from(rigid(1, 3.0, 6.0)), seen_from(rigid(2, 3.0, 6.0))


def test_swapped_sessions_give_the_same_half_way_head(
    two: tuple[Features, Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fornix.register.affine._SPACINGS", (12.0,))  # quick

    def met(heads: tuple[Features, ...]) -> tuple[Features, list[Affine]]:
        made = halfway(heads)
        carried = [carried_head(h, made.lattice, w.to_moving) for h, w in zip(heads, made.warps)]
        seen = [reach(h.lattice, made.lattice, w.to_moving) for h, w in zip(heads, made.warps)]
        return mean_head(carried, seen), [w.matrix for w in made.warps]

    one, there = met(two)
    other, back = met(two[::-1])
    assert one.lattice.shape == other.lattice.shape
    assert np.allclose(there, back[::-1], atol=1e-9)
    for name in ("tissue", "left", "shape"):
        assert float((getattr(one, name) - getattr(other, name)).abs().max()) < 1e-5
    # Both are the same head: where they meet they lie on each other.
    points = torch.tensor([[0.0, -20, 10], [40, 0, 20], [-40, -50, 0], [0, 50, 30]])
    first, second = (moved(rigid(s, 3.0, 6.0), points) for s in (1, 2))
    first, second = (moved(np.linalg.inv(m), p) for m, p in zip(there, (first, second)))
    assert float((first - second).norm(dim=-1).max()) < 2.5  # mm, of voxels of 5 mm


def test_where_one_scan_ends_the_mean_is_the_others(two: tuple[Features, Features]) -> None:
    head = two[0]
    empty = replace(head, tissue=torch.zeros_like(head.tissue), shape=torch.zeros_like(head.shape))
    seen = torch.ones(head.lattice.shape)
    mean = mean_head([head, empty], [seen, torch.zeros_like(seen)])
    assert torch.allclose(mean.tissue, head.tissue, atol=1e-5)
    half = mean_head([head, empty], [seen, seen])
    assert torch.allclose(half.tissue, head.tissue / 2, atol=1e-5)


def test_wrong_words_are_refused(two: tuple[Features, Features]) -> None:
    with pytest.raises(FornixError, match="choose one of: rigid, similarity"):
        halfway(two, kind="affine")
    with pytest.raises(FornixError, match="two sessions or more"):
        halfway(two[:1])
    empty = replace(two[0], tissue=torch.zeros_like(two[0].tissue))
    with pytest.raises(FornixError, match="no brain in session 2"):
        halfway((two[0], empty))


@pytest.mark.parametrize("degrees", [0.0, 7.0, 25.0])
def test_the_turn_of_slices_does_not_hang_on_storage_order(degrees: float) -> None:
    turn = linalg.expm(np.radians(degrees) * np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 0]]))
    one = Lattice(np.diag([2.0, 2, 3, 1]), (10, 10, 10))
    stored = np.eye(4)
    stored[:3, :3] = turn @ np.array([[0, 0, -2.0], [-2, 0, 0], [0, 3, 0]])
    pose = rigid(5)  # the head lies elsewhere the second time, and the slices with it
    two = Lattice(pose @ stored, (10, 10, 10))
    found = turn_between(one, two, lambda p: p, lambda p: moved(pose, p))
    assert found == pytest.approx(degrees, abs=0.1)


@pytest.mark.parametrize(("difference", "count"), [(0.03, 0), (0.07, 1)])
def test_heads_that_do_not_fit_each_other_are_told(
    two: tuple[Features, Features], monkeypatch: pytest.MonkeyPatch, difference: float, count: int
) -> None:
    found = AffineMatch(np.eye(4), difference)
    monkeypatch.setattr("fornix.register.halfway.match_affine", lambda *a, **k: found)
    notes = halfway(two).notes
    assert len(notes) == count
    assert all("do not look like one person's" in note for note in notes)
