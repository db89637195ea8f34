"""Tracking criteria hold: regions, lengths, ends; and errors count the rejected seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.tractography.criteria import TrackingCriteria


def voxels(line: np.ndarray) -> np.ndarray:
    return np.floor(line / 2 + 0.5).astype(int)


def test_include_exclude_and_stop(corridor):
    half = corridor.mask(slice(None), slice(0, 6))
    gate = corridor.mask(12, slice(0, 7))
    wall = corridor.mask(18)
    tractogram = corridor.track(
        "deterministic", criteria={"include": [gate], "exclude": [half], "stop": [wall]}
    )
    assert len(tractogram) == 200
    for line in tractogram:
        x, y, _ = voxels(line).T
        assert (y >= 6).all()  # never in the excluded half
        assert ((x == 12) & (y < 7)).any()  # through the gate
        assert x.max() == 18 and x.min() <= 3  # from the stop to the grey matter


def test_several_includes_are_all_needed(corridor):
    gates = [corridor.mask(8, slice(0, 6)), corridor.mask(16, slice(6, None))]
    for line in corridor.track(criteria={"include": gates}, count=20):
        x, y, _ = voxels(line).T
        assert ((x == 8) & (y < 6)).any() and ((x == 16) & (y >= 6)).any()


def test_rejections_are_counted_by_criterion(corridor):
    everywhere = corridor.mask(slice(9, 12))
    with pytest.raises(FornixError, match=r"accepted of \d+ seeds: \d+ entered an excluded region"):
        corridor.track("deterministic", criteria={"exclude": [everywhere]})
    outside = corridor.mask(12, 0, 0)
    with pytest.raises(FornixError, match=r"\d+ missed an included region"):
        corridor.track("deterministic", criteria={"include": [outside]}, count=5)
    with pytest.raises(FornixError, match=r"\d+ too short"):
        corridor.track("deterministic", criteria={"min_length": 90}, count=5)
    with pytest.raises(FornixError, match=r"\d+ too long"):
        corridor.track("deterministic", criteria={"max_length": 20}, count=5)


def test_ends_may_lie_anywhere_without_act(corridor):
    """Half of the corridor's FOD is missing: streamlines end in white matter."""
    half = corridor.fod * (np.arange(24) < 14)[:, None, None, None].astype(np.float32)
    no_gm = replace(corridor.tissue, gm=np.zeros_like(corridor.tissue.gm))
    broken = {"fod": half, "tissue": no_gm}
    with pytest.raises(FornixError, match="ended inside white matter"):
        corridor.track("deterministic", criteria={"min_length": 5}, count=5, **broken)
    anywhere = {"min_length": 5, "act_ends": False}
    tractogram = corridor.track("deterministic", criteria=anywhere, count=50, **broken)
    assert len(tractogram) == 50
    last = np.array([line[:, 0].max() for line in tractogram])
    assert ((last > 26) & (last < 30)).all()  # where the FOD ends


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"step": 0}, "step must be above 0"),
        ({"angle": 120}, "angle must lie"),
        ({"threshold": 2}, "threshold must lie"),
        ({"min_length": 50, "max_length": 20}, "lengths must be"),
    ],
)
def test_impossible_values(changed, message):
    with pytest.raises(FornixError, match=message):
        TrackingCriteria(**{"step": 1.0, **changed})


def test_masks_off_the_grid_or_empty(corridor):
    with pytest.raises(FornixError, match="exclude mask is on another grid"):
        corridor.track("deterministic", criteria={"exclude": [np.ones((2, 2, 2), bool)]})
    with pytest.raises(FornixError, match="include mask is empty"):
        corridor.track("deterministic", criteria={"include": [np.zeros(corridor.grid, bool)]})


def test_the_largest_curvature():
    criteria = TrackingCriteria(step=1.0, angle=60.0)
    assert criteria.max_curvature == pytest.approx(
        1.0
    )  # a hexagon of side 1 fits a circle of radius 1
