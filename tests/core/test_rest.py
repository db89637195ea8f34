"""Directions, scans, maps, tractograms, methods, compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.core.compute import block_size, blocks, parse_memory, pick_device, use_threads
from fornix.core.dwi import DWI, check_mask
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.core.maps import Map, Maps
from fornix.core.methods import Method, MethodTable
from fornix.core.tractogram import Tractogram
from fornix.numerics.directions import best_subset, condition, largest_gap, spread


def scan(shape=(3, 3, 3), volumes=7) -> DWI:
    rng = np.random.default_rng(0)
    b = np.r_[0, np.full(volumes - 1, 1000.0)]
    directions = np.r_[[[0, 0, 0]], spread(volumes - 1)]
    return DWI(rng.random((*shape, volumes), np.float32), Gradients(b, directions), np.eye(4))


@pytest.mark.parametrize("count", [6, 12, 30, 64])
def test_spread_directions_are_well_conditioned(count):
    directions = spread(count)
    assert condition(directions) < (1.7 if count < 12 else 1.15)
    assert largest_gap(directions) < 75 / np.sqrt(count / 6)


def test_best_subset_beats_the_first_directions():
    directions = spread(32)
    chosen = best_subset(directions, 6)
    assert len(set(chosen)) == 6
    assert condition(directions[chosen]) < condition(directions[:6])


def test_scan_refuses_what_does_not_fit():
    good = scan()
    with pytest.raises(FornixError, match="4 dimensions"):
        DWI(good.data[..., 0], good.gradients, np.eye(4))
    with pytest.raises(FornixError, match="7 b-values"):
        DWI(good.data[..., :5], good.gradients, np.eye(4))
    with pytest.raises(FornixError, match="singular"):
        DWI(good.data, good.gradients, np.zeros((4, 4)))
    with pytest.raises(FornixError, match="another grid"):
        good.with_(mask=np.ones((2, 2, 2), bool))
    with pytest.raises(FornixError, match="empty"):
        good.with_(mask=np.zeros((3, 3, 3), bool))


def test_signals_and_unmask_are_inverse():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 2] = mask[0, 0, 0] = True
    dwi = scan().with_(mask=mask)
    back = dwi.unmask(dwi.signals())
    np.testing.assert_array_equal(back[mask], dwi.data[mask])
    assert not back[~mask].any()


def test_mask_with_a_fourth_axis_of_one():
    assert check_mask(np.ones((2, 2, 2, 1)), (2, 2, 2)).shape == (2, 2, 2)


def test_maps_by_full_and_short_name():
    fa = Map("dti", "fa", np.zeros((2, 2, 2), np.float32), np.eye(4))
    maps = Maps({"dti_fa": fa})
    assert maps["fa"] is maps["dti_fa"] is fa
    with pytest.raises(KeyError, match="there are: dti_fa"):
        maps["mk"]
    with pytest.raises(FornixError, match="differ in shape"):
        Map("dti", "fa", np.zeros((2, 2, 2)), np.eye(4), std=np.zeros((1, 1, 1)))


def test_method_table_lists_its_methods():
    table = MethodTable(
        "mask", [Method("a", print, "first"), Method("b", print, "second", "X 2000")]
    )
    assert table.default == "a"
    assert "(default)" in table.help().splitlines()[0]
    with pytest.raises(FornixError, match="choose one of: a, b"):
        table["c"]


def test_tractogram():
    lines = [
        np.c_[np.arange(5.0), np.zeros(5), np.zeros(5)],
        np.c_[np.zeros(3), np.arange(3) * 2.0, np.zeros(3)],
    ]
    made = Tractogram.from_list(lines, np.eye(4), (10, 10, 10))
    np.testing.assert_allclose(made.lengths(), [4, 4])
    np.testing.assert_array_equal(made[1], lines[1])
    assert len(made.subset([1])) == 1
    far = Tractogram.from_list([*lines, lines[0] + 20], np.eye(4), (10, 10, 10))
    np.testing.assert_array_equal(far.outside(), [False, False, True])
    with pytest.raises(FornixError, match="not finite"):
        Tractogram.from_list([np.full((2, 3), np.nan)], np.eye(4), (1, 1, 1))
    assert len(Tractogram.from_list([], np.eye(4), (1, 1, 1)).lengths()) == 0


def test_threads_are_restored():
    before = torch.get_num_threads()
    with use_threads(1) as used:
        assert used == torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(FornixError, match="1 or more"), use_threads(0):
        pass


def test_memory_and_blocks():
    assert parse_memory("2G") == parse_memory("2GiB") == 2 * 1024**3
    assert parse_memory("500M") == 500 * 1024**2
    with pytest.raises(FornixError, match="not understood"):
        parse_memory("lots")
    assert [s.stop - s.start for s in blocks(10, 4)] == [4, 4, 2]
    assert block_size(1024, "1M") == 256
    with pytest.raises(FornixError, match="unknown device"):
        pick_device("abacus")
