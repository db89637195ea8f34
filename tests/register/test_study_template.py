"""A template of heads whose mean shape is known is that shape, and heads come together round by round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fornix.core.errors import FornixError
from fornix.register.deformable import Level
from fornix.register.features import Features
from fornix.register.grids import Lattice, blurred
from fornix.register.mean_head import carried_head
from fornix.register.study_template import Round, as_template, study_template
from fornix.register.template import load_template, mni_template, save_template
from fornix.register.warp import Warp

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

COARSE = (Level(12.0, 15.0, 20), Level(8.0, 12.0, 15))
GRID = np.diag([5.0, 5.0, 5.0, 1.0])
GRID[:3, 3] = [-92, -128, -82]
LATTICE = Lattice(GRID, (38, 45, 36))


@pytest.fixture(scope="module")
def heads() -> list[Features]:
    """The template's head, bent one way and the other way: its own shape is their mean."""
    template = mni_template().features()
    control = template.lattice.with_spacing(15.0)
    noise = blurred(
        torch.randn((3, *control.shape), generator=torch.Generator().manual_seed(3)), 1.5
    )
    velocity = noise / noise.std() * 5.0
    bent = [Warp(np.eye(4), template.lattice, LATTICE, s * velocity, control) for s in (1, -1)]
    return [carried_head(template, LATTICE, w.to_moving) for w in bent]


@pytest.fixture(scope="module")
def rounds(heads: list[Features]) -> list[Round]:
    patch = pytest.MonkeyPatch()
    patch.setattr("fornix.register.affine._SPACINGS", (12.0, 8.0))
    made = study_template(heads, rounds=2, spacing=5.0, levels=COARSE)
    patch.undo()
    return made


def white(head: Features, lattice: Lattice, maps: object) -> np.ndarray:
    return carried_head(head, lattice, maps).tissue[2].numpy() > 0.5  # type: ignore[arg-type]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def test_the_heads_white_matter_comes_together(heads: list[Features], rounds: list[Round]) -> None:
    dice = []
    for r in rounds:
        one, two = (white(h, r.mean.lattice, m) for h, m in zip(heads, r.maps))
        dice.append(overlap(one, two))
    assert dice[2] > dice[0] + 0.02
    differences = [r.difference for r in rounds]
    assert differences[-1] < 0.8 * differences[0]


def test_its_shape_is_their_mean_shape(heads: list[Features], rounds: list[Round]) -> None:
    lattice = rounds[-1].mean.lattice
    mean = rounds[-1].mean.tissue[2].numpy() > 0.5
    truth = white(mni_template().features(), lattice, lambda p: p)
    # Nearer to the shape between them than either of them is.
    to_truth = overlap(mean, truth)
    assert all(overlap(white(h, lattice, lambda p: p), truth) < to_truth for h in heads)


def test_it_is_stored_as_templates_are(rounds: list[Round], tmp_path: Path) -> None:
    mean = rounds[-1].mean
    path = save_template(as_template(mean), tmp_path / "t.npz")
    again = load_template(path).features()
    assert np.allclose(again.lattice.affine, mean.lattice.affine)
    assert float((again.tissue - mean.tissue).abs().max()) < 0.01
    there = mean.brain > 0.5
    assert float((again.shape - mean.shape)[:, there].abs().max()) < 0.03
    (tmp_path / "other.npz").write_bytes(b"PK\x03\x04 nothing")
    for bad in (tmp_path / "other.npz", tmp_path / "nothere.npz"):
        with pytest.raises(FornixError, match="is no template as fornix template writes them"):
            load_template(bad)


def test_one_head_or_none_is_refused(heads: list[Features]) -> None:
    with pytest.raises(FornixError, match="two scans or more"):
        study_template(heads[:1])
    empty = replace(heads[0], tissue=torch.zeros_like(heads[0].tissue))
    with pytest.raises(FornixError, match="no brain in the moving image"):
        study_template([empty, heads[1]])
