"""Thin tracts of a tractogram are filled up."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.tracts.balance import balance, filled_up
from helpers.tubes import AFFINE, BRAIN, GRID, fod, maps, tube


@pytest.mark.parametrize("room", [0, 1, 7, 50, 1000])
def test_the_fewest_are_filled_up_first_and_the_room_is_used(room: int) -> None:
    held = {"a": 40, "b": 0, "c": 13, "d": 13}
    add = filled_up(held, room)
    assert list(add) == list(held)
    assert sum(add.values()) == room
    assert min(add.values()) >= 0
    after = {n: held[n] + add[n] for n in held}
    # Whatever was added to ends about as low as all others that were added to, and nothing is lower.
    raised = [after[n] for n in held if add[n]]
    if raised:
        assert max(raised) - min(raised) <= 1
        assert min(after.values()) >= min(raised) - 1


def test_streamlines_go_where_there_were_none() -> None:
    rng = np.random.default_rng(0)
    lines = [
        np.linspace([-24, *at], [24, *at], 50) for at in rng.uniform(-3, 3, (60, 2))
    ]  # all along x
    whole = Tractogram.from_list(lines, AFFINE, GRID)
    tracts = maps(tube("x", 0), tube("z", 2))
    made = balance(whole, tracts, fod(0, 2), BRAIN, share=0.5)
    assert len(made) == len(whole)
    assert np.array_equal(made.points[: made.offsets[30]], whole.points[: whole.offsets[30]])
    new = np.flatnonzero(made.per_streamline["tract_tracked"])
    assert list(new) == list(range(30, 60))
    assert all(np.ptp(made[int(i)][:, 2]) > 40 for i in new)  # along z
    assert balance(whole, tracts, fod(0, 2), BRAIN, share=0) is whole
    with pytest.raises(FornixError, match=r"lies in \[0, 1\], not 2"):
        balance(whole, tracts, fod(0, 2), BRAIN, share=2)
