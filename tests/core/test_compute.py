"""Threads: in order, alone, and nothing left changed."""

from __future__ import annotations

import threading

import numba
import numpy as np
import pytest
import torch

from fornix.core.compute import in_parallel, use_threads


@numba.njit(parallel=True, cache=False)
def _doubled(values: np.ndarray, out: np.ndarray) -> None:
    for i in numba.prange(len(values)):
        out[i] = 2 * values[i]


def _work(item: int) -> tuple[int, int, int]:
    values = np.full(50_000, float(item))
    out = np.empty_like(values)
    _doubled(values, out)
    assert (out == 2 * item).all()
    return item, torch.get_num_threads(), threading.get_ident()


def test_in_order_and_each_alone() -> None:
    _work(0)  # numba's threads are there
    with use_threads(2):
        found = list(in_parallel(_work, range(12)))
        assert torch.get_num_threads() == 2 and numba.get_num_threads() <= 2
    assert [f[0] for f in found] == list(range(12))
    if numba.threading_layer() in ("omp", "tbb"):
        assert {f[1] for f in found} == {1}
        assert threading.get_ident() not in {f[2] for f in found}


def test_one_thread_needs_no_pool() -> None:
    with use_threads(1):
        assert {f[2] for f in in_parallel(_work, range(3))} == {threading.get_ident()}


def test_what_fails_is_told_and_threads_are_restored() -> None:
    def fails(item: int) -> int:
        if item == 2:
            raise ValueError("the third")
        return item

    before = torch.get_num_threads()
    _work(0)
    with use_threads(2), pytest.raises(ValueError, match="the third"):
        list(in_parallel(fails, range(5)))
    assert torch.get_num_threads() == before
