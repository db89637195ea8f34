"""Swapped sides are told by the asymmetry of the brain, and nothing is said where they cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fornix.register import side
from fornix.register.features import Features
from fornix.register.grids import Lattice
from fornix.register.mean_head import carried_head
from fornix.register.side import asymmetry_match, mirrored, side_doubt, with_side_doubt
from fornix.register.template import mni_template
from fornix.register.warp import Warp

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

GRID = np.diag([4.0, 4.0, 4.0, 1.0])
GRID[:3, 3] = [-90, -124, -80]
LATTICE = Lattice(GRID, (46, 56, 44))  # symmetric about x = 0


@pytest.fixture(scope="module")
def head() -> Features:
    """The template's head on voxels of 4 mm, a little larger, with noise in its tensors."""
    template = mni_template().features()
    made = carried_head(template, LATTICE, lambda p: 0.96 * p)
    noise = torch.randn(made.shape.shape, generator=torch.Generator().manual_seed(0))
    return replace(made, shape=made.shape + 0.05 * noise * made.brain)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fornix.register.affine._SPACINGS", (12.0,))
    monkeypatch.setattr(side, "LEVELS", side.LEVELS[:1])


def test_the_mirror_image_of_a_mirror_image_is_the_head(head: Features) -> None:
    again = mirrored(mirrored(head))
    for name in ("tissue", "left", "shape"):
        assert float((getattr(again, name) - getattr(head, name)).abs().max()) < 1e-3


def test_a_head_and_its_mirror_image_are_told_apart(head: Features) -> None:
    start = np.eye(4)
    straight, swapped = asymmetry_match(head, start), asymmetry_match(mirrored(head), start)
    assert straight is not None and swapped is not None
    assert straight > 0.2 and swapped < -0.2
    assert straight == pytest.approx(-swapped, abs=0.1)


def test_of_half_a_head_nothing_is_said(head: Features) -> None:
    half = head.brain * (head.lattice.points()[..., 0] < 10)
    cut = replace(head, tissue=head.tissue * half, shape=head.shape * half)
    assert asymmetry_match(cut, np.eye(4)) is None


def test_the_doubt_stands_among_the_notes(head: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    warp = Warp(np.eye(4), LATTICE, LATTICE, notes=("before",))
    for match, count in ((-0.5, 2), (0.5, 1), (None, 1)):
        monkeypatch.setattr(side, "asymmetry_match", lambda h, s, found=match: found)
        assert len(with_side_doubt(warp, head).notes) == count
        assert ("left and right may be swapped" in side_doubt(head)) == (count == 2)
