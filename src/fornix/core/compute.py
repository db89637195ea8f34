"""Where the work runs: threads, device, memory and blocks. No global settings are left changed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from threadpoolctl import threadpool_limits

from fornix.core.errors import FornixError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def use_threads(threads: int | None) -> Iterator[int]:
    """Run the body with this many threads in torch, numba and numpy's BLAS; restore all afterwards.

    `None` leaves the settings as they are. Yields the number of threads in use. torch takes a second to
    load, so it is not loaded here: see `settle_threads`.
    """
    global _asked
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    if threads is None:
        try:
            yield before or available_threads()
        finally:
            # numba's first parallel loop may set OpenMP's number for torch as well.
            if torch is not None and torch.get_num_threads() != before:
                torch.set_num_threads(before)
        return
    if threads < 1:
        raise FornixError(f"threads must be 1 or more, not {threads}")
    import numba

    numba_before, asked_before = numba.get_num_threads(), _asked
    if torch is not None:
        torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    _asked = threads
    try:
        with threadpool_limits(threads, "blas"):
            yield threads
    finally:
        _asked = asked_before
        before = before or asked_before or _torch_default
        if before is not None and "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(before)
        numba.set_num_threads(numba_before)


#: What `use_threads` asked for, and torch's own number where it was loaded while that was so.
_asked: int | None = None
_torch_default: int | None = None


def settle_threads(loads: Callable[[], R]) -> R:
    """What loads() returns. If it was this that loaded torch, torch gets the threads now asked for."""
    global _torch_default
    there = "torch" in sys.modules
    made = loads()
    torch = sys.modules.get("torch")
    if not there and torch is not None and _asked is not None:
        _torch_default = torch.get_num_threads()
        torch.set_num_threads(_asked)
    return made


def in_parallel(work: Callable[[T], R], items: Sequence[T], compiled: bool = True) -> Iterator[R]:
    """work(item) of each item, in order, on as many threads at once as torch may use now.

    Each thread runs torch, numba and BLAS alone: many small operations one after another gain little from
    two cores each, and the results are those of one thread, however many there are. BLAS's own threads
    would also keep the cores busy with waiting after every product.

    Args:
        work: Function of one item.
        items: What to work on.
        compiled: Whether work enters numba's parallel loops, which not every threading layer allows.
    """
    import torch

    threads = torch.get_num_threads()
    if threads < 2 or len(items) < 2 or not (_kernels_run_together() or not compiled):
        yield from map(work, items)
        return
    try:
        with (
            threadpool_limits(1, "blas"),
            ThreadPoolExecutor(min(threads, len(items)), initializer=_alone) as pool,
        ):
            yield from pool.map(work, items)
    finally:
        torch.set_num_threads(threads)  # MKL's number is one for all threads


def _alone() -> None:
    import numba
    import torch

    torch.set_num_threads(1)
    numba.set_num_threads(1)


def _kernels_run_together() -> bool:
    """Whether numba's loops may be entered from several threads; not known before the first loop ran."""
    import numba

    try:
        return numba.threading_layer() in ("omp", "tbb")
    except ValueError:
        return False


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """`auto` is the GPU where torch sees one, the CPU otherwise."""
    import torch

    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise FornixError(f"unknown device {device!r}; use auto, cpu or cuda") from None
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise FornixError("device cuda was asked for, but torch sees no GPU; use --device cpu")
    return picked


def available_threads() -> int:
    """Cores this process may use (its CPU affinity, not the machine's count)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices that cover `range(count)` in pieces of at most `size`."""
    if size < 1:
        raise FornixError(f"block size must be 1 or more, not {size}")
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def block_size(bytes_per_item: float, max_memory: str | int | None, default: int = 16384) -> int:
    """How many items fit in a quarter of `max_memory` (bytes, or text such as `2G`)."""
    if max_memory is None:
        return default
    budget = parse_memory(max_memory) / 4
    return max(1, min(default, int(budget // max(bytes_per_item, 1))))


def parse_memory(text: str | int) -> int:
    """Bytes from `500M`, `2G`, `2GB`, `2GiB` or a plain number."""
    if isinstance(text, int):
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?\s*", text.lower())
    if not match:
        raise FornixError(f"memory {text!r} is not understood; write for example 2G or 500M")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " "))
