"""What the section `tracking` of the segmentation suite counts."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.tractogram import Tractogram
from fornix.physics.anatomy.model import Bundle
from fornix_bench.suites.tract_tracking import tract_score

GRID = (30, 20, 20)


def _bundle() -> Bundle:
    mask, begin, end = (np.zeros(GRID, bool) for _ in range(3))
    mask[5:25, 8:12, 8:12] = True
    begin[5:8, 8:12, 8:12] = end[22:25, 8:12, 8:12] = True
    return Bundle(
        "b", lambda: (mask, np.zeros((*GRID, 3), np.float32)), lambda: [], lambda: (begin, end)
    )


def _line(start: list[float], stop: list[float]) -> np.ndarray:
    return np.linspace(start, stop, 100)


def test_streamlines_are_valid_where_ends_and_course_are_right() -> None:
    good, back = _line([6, 9, 9], [23, 9, 9]), _line([23, 10, 10], [6, 10, 10])
    short, outside = _line([6, 9, 9], [15, 9, 9]), _line([6, 15, 9], [23, 15, 9])
    lines = Tractogram.from_list([good, back, short, outside], np.eye(4), GRID)
    found = tract_score(lines, _bundle())
    assert (found.count, found.valid) == (4, 0.5)
    # Two rows of 18 voxels of the mask's 320, and as many outside of it.
    assert found.overlap == pytest.approx(36 / 320)
    assert found.overreach == pytest.approx(18 / 54)
    nothing = tract_score(Tractogram.from_list([], np.eye(4), GRID), _bundle())
    assert (nothing.count, nothing.valid, nothing.overlap, nothing.overreach) == (0, 0, 0, 0)
