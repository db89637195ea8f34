"""Streamlines of tracts are made once, and again where tracts or their number change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.core.maps import Map, Maps
from fornix.tracts.tracking import TractStreamlines, TractTractogram
from fornix.workflow.job import Job, Silent
from fornix.workflow.options import Options
from fornix.workflow.stages.tract_streamlines import few, tract_streamlines_stage
from fornix.workflow.state import State
from helpers.tubes import AFFINE, BRAIN, GRID, fod, maps, tube


class Recording(Silent):
    def __init__(self) -> None:
        self.reused: list[bool] = []

    def end(self, step: str, seconds: float, summary: str, reused: bool) -> None:
        self.reused.append(reused)


@pytest.fixture
def state() -> State:
    gradients = Gradients(np.array([0.0]), np.zeros((1, 3)))
    dwi = DWI(np.ones((*GRID, 1), np.float32), gradients, AFFINE, mask=BRAIN)
    made = State(dwi)
    made.maps = Maps({"fod": Map("", "fod", fod(0), AFFINE)})
    return made


def test_a_step_is_reused_until_something_changes(state: State, tmp_path: Path) -> None:
    tracts, show = maps(tube("x", 0)), Recording()
    made = []
    for key, count in (("a", 5), ("a", 5), ("a", 6), ("b", 6)):
        job = Job(tmp_path, "s", {}, show)
        made.append(tract_streamlines_stage(job, state, tracts, key, count, Options(threads=1)))
    assert show.reused == [False, True, False, False]
    assert [len(m.tractogram) for m in made] == [5, 5, 6, 6]
    assert np.array_equal(made[0].tractogram.points, made[1].tractogram.points)
    assert (tmp_path / "s_desc-tracts_tractogram.trx").exists()
    assert (tmp_path / "s_desc-tracking_streamlines.tsv").exists()


def test_tracts_with_few_streamlines_are_named(state: State, tmp_path: Path) -> None:
    rows = (
        TractStreamlines("whole", 10, 0, 30, 50.0, 1.0),
        TractStreamlines("poor", 4, 0, 900, 50.0, 1.0, "4 of 10 after 900 seeds"),
        TractStreamlines("gone", 0, 0, 0, 0.0, 0.0, "outside of what was scanned"),
    )
    tracts = maps(tube("x", 0))
    job = Job(tmp_path, "s", {}, Silent())
    whole = tract_streamlines_stage(job, state, tracts, "a", 3, Options(threads=1))
    (note,) = few(TractTractogram(whole.tractogram, rows), 10)
    assert "poor" in note and "gone" not in note and "whole" not in note
    assert few(whole, 3) == []
