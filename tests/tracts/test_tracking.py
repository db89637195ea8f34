"""Tracts are tracked one by one, on straight tracts whose fibres are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.tracts.atlas import Tract
from fornix.tracts.segment import FoundTract
from fornix.tracts.tracking import track_tracts
from fornix.tracts.tracking_runs import evenly
from fornix.tracts.tractogram_files import load_tract_tractogram, save_tract_tractogram
from helpers.tubes import AFFINE, BRAIN, GRID, POINTS, fod, maps, tube


def test_streamlines_run_from_the_beginning_to_the_end_and_fill_the_tract() -> None:
    made = track_tracts(fod(0), maps(tube("x", 0)), BRAIN, count=60)
    assert [t.count for t in made.tracts] == [60]
    assert made.tracts[0].reason == ""
    assert made.tracts[0].covered > 0.8
    for line in made.tractogram:
        assert line[0, 0] < -18 and line[-1, 0] > 18  # in this order
        assert np.hypot(line[:, 1], line[:, 2]).max() < 8
    assert made.tracts[0].mean_length == pytest.approx(made.tractogram.lengths().mean())


def test_a_crossing_of_stronger_fibres_is_passed_straight() -> None:
    data = 0.25 * fod(0)
    data[np.abs(POINTS[..., 0]) < 6] += fod(1)[0, 0, 0]  # fibres across, four times as strong
    made = track_tracts(data, maps(tube("x", 0)), BRAIN, count=40)
    assert made.tracts[0].count == 40
    assert all(line[0, 0] < -18 and line[-1, 0] > 18 for line in made.tractogram)


def test_neither_threads_nor_other_tracts_in_the_same_field_change_streamlines() -> None:
    field = fod(0, 2)
    alone = track_tracts(field, maps(tube("z", 2)), BRAIN, count=30, threads=1)
    both = track_tracts(field, maps(tube("x", 0), tube("z", 2)), BRAIN, count=30, threads=2)
    again = both.tractogram.subset(both.tractogram.groups["z"])
    assert np.array_equal(alone.tractogram.points, again.points)
    assert set(again.per_streamline["tract"]) == {1}
    other = track_tracts(field, maps(tube("z", 2)), BRAIN, count=30, seed=1)
    assert len(other.tractogram.points) != len(alone.tractogram.points)


def test_a_tract_that_is_cut_keeps_its_streamlines_and_says_so() -> None:
    slab = POINTS[..., 0] < 10
    shown = slab.reshape(-1)[tube("x", 0).tract.voxels]

    def within(found: FoundTract) -> FoundTract:
        t = found.tract
        tract = Tract(
            t.name, t.voxels[shown], t.share[shown], t.ends[shown], t.direction[shown], t.along[shown]
        )  # fmt: skip
        return replace(found, tract=tract, probability=found.probability[shown])

    reason = "cut off: 70% of its usual place was scanned"
    made = track_tracts(fod(0), maps(within(tube("x", 0, reason))), slab, count=20)
    (about,) = made.tracts
    assert (about.count, about.cut) == (20, 20)
    assert reason in about.reason
    assert (made.tractogram.per_streamline["cut"] == 1).all()
    # A tract that is taken for whole ends nowhere but in its end regions.
    made = track_tracts(fod(0), maps(within(tube("x", 0))), slab, count=20)
    (about,) = made.tracts
    assert (about.count, len(made.tractogram)) == (0, 0)
    assert "left the scan short of an end" in about.reason


def test_fibres_across_give_no_streamlines_and_the_reason() -> None:
    found = tube("x", 0)
    turned = np.roll(found.tract.direction, 1, axis=1)  # the map says: across
    made = track_tracts(
        fod(1), maps(replace(found, tract=replace(found.tract, direction=turned))), BRAIN, count=5
    )
    assert made.tracts[0].count == 0
    assert "left the tract short of an end" in made.tracts[0].reason


def test_an_absent_tract_is_a_row_without_a_group(tmp_path: Path) -> None:
    gone = tube("gone", 1, "outside of what was scanned", presence=0.0)
    made = track_tracts(fod(0), maps(gone, tube("x", 0)), BRAIN, count=5)
    assert [(t.name, t.count) for t in made.tracts] == [("gone", 0), ("x", 5)]
    assert made.tracts[0].reason == "outside of what was scanned"
    assert list(made.tractogram.groups) == ["x"]
    save_tract_tractogram(made, tmp_path, "s", {})
    again = load_tract_tractogram(tmp_path, "s")
    assert np.array_equal(again.tractogram.points, made.tractogram.points)
    assert list(again.tractogram.groups["x"]) == [0, 1, 2, 3, 4]
    assert [(t.name, t.count, t.reason) for t in again.tracts] == [
        ("gone", 0, "outside of what was scanned"),
        ("x", 5, ""),
    ]
    none = track_tracts(fod(0), maps(gone), BRAIN, count=5)
    assert len(none.tractogram) == 0


def test_those_are_kept_that_cover_most() -> None:
    mask = tube("x", 0).tract.voxels
    middle = [np.linspace([-20, 0, 0], [20, 0, 0], 60)] * 8
    apart = [np.linspace([-20, y, 0], [20, y, 0], 60) for y in (-4.0, 4.0)]
    outside = [np.linspace([-20, 12, 0], [20, 12, 0], 60)]
    lines = Tractogram.from_list([*outside, *middle, *apart], AFFINE, GRID)
    kept = evenly(lines, mask, 3)
    assert {9, 10} < set(kept)
    assert 0 not in kept
    assert list(evenly(lines, mask, 20)) == list(range(len(lines)))


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(FornixError, match="must be 1 or more, not 0"):
        track_tracts(fod(0), maps(tube("x", 0)), BRAIN, count=0)
    with pytest.raises(FornixError, match="another grid"):
        track_tracts(fod(0)[1:], maps(tube("x", 0)), BRAIN)
