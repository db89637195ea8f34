"""Processes that simulate ahead: heads and protocols take a CPU longer than a GPU takes to learn of them."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Generic, TypeVar

import torch

from fornix.core.compute import available_threads

T = TypeVar("T")


class Farm(Generic[T]):
    """What `make(seed)` gives, for one seed after the other, in their order.

    Args:
        make: Picklable; takes a seed.
        first: The first seed.
        workers: Processes; 0 makes each when it is asked for.
    """

    def __init__(self, make: Callable[[int], T], first: int, workers: int = 0) -> None:
        self._make, self._seed = make, first
        self._pool: ProcessPoolExecutor | None = None
        self._queue: deque[Future[bytes]] = deque()
        if workers:
            # Spawned: a forked process cannot use what the parent opened on a GPU.
            context = get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, context, initializer=_one_thread)
            for _ in range(2 * workers):
                self._order()

    def ready(self) -> bool:
        """Whether `next` does not wait for another process."""
        return not self._queue or self._queue[0].done()

    def next(self) -> T:
        """The next one; waits until it is made."""
        if self._pool is None:
            self._seed += 1
            return self._make(self._seed - 1)
        self._order()
        made: T = pickle.loads(self._queue.popleft().result())
        return made

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _order(self) -> None:
        assert self._pool is not None
        self._queue.append(self._pool.submit(_packed, self._make, self._seed))
        self._seed += 1


def simulators(device: torch.device) -> int:
    """Processes that simulate ahead, none beside a CPU that trains."""
    return 0 if device.type == "cpu" else max(1, available_threads() - 4)


def _packed(make: Callable[[int], T], seed: int) -> bytes:
    """As bytes: tensors that travel as such need shared memory, which is scarce in containers."""
    return pickle.dumps(make(seed), protocol=pickle.HIGHEST_PROTOCOL)


def _one_thread() -> None:
    torch.set_num_threads(1)
