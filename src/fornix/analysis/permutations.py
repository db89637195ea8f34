"""Which orders of the subjects are as likely as the one seen, if nothing differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError, tell


def permutations(
    classes: NDArray[np.int64], blocks: NDArray[np.int64], count: int, seed: int
) -> tuple[NDArray[np.int32], bool]:
    """Orders of the rows, exchanged within blocks only; the first one is the order seen.

    Args:
        classes: (S,) rows of one class have the same design, so exchanging them changes nothing.
        blocks: (S,) rows are exchanged within a block.
        count: How many are asked for, the one seen included.
        seed: Of the draws.

    Returns:
        (K, S) int32, and whether they are all that there are (each once).
    """
    parts = [np.flatnonzero(blocks == b) for b in np.unique(blocks)]
    possible = math.prod(_number(classes[p]) for p in parts)
    if possible < 2:
        raise FornixError("no two subjects can be exchanged (the design is constant within blocks)")
    size = len(classes)
    if possible <= count:
        if possible < count:
            tell(
                f"only {possible} different permutations are possible, {count} were asked for: all are "
                f"taken, the smallest p is {1 / possible:.2g}"
            )
        made = np.empty((possible, size), np.int32)
        for row, orders in zip(made, product(*(list(_arrangements(classes[p])) for p in parts))):
            for part, order in zip(parts, orders):
                row[part] = part[list(order)]
        # The one seen first, as in drawn ones.
        seen = np.flatnonzero((classes[made] == classes).all(1))[0]
        made[[0, seen]] = made[[seen, 0]]
        made[0] = np.arange(size)
        return made, True
    rng = np.random.default_rng(seed)
    made = np.tile(np.arange(size, dtype=np.int32), (count, 1))
    for part in parts:
        made[1:, part] = rng.permuted(np.tile(part.astype(np.int32), (count - 1, 1)), axis=1)
    return made, False


def within(
    orders: NDArray[np.int32], blocks: NDArray[np.int64], rows: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """The same orders among some of the rows: those left out are passed over, block by block.

    A random order with some left out is a random order of the rest, so tracts that some subjects lack
    are tested by the same permutations as the others, and maxima over tracts stay joint.
    """
    place = np.cumsum(rows) - 1
    out = np.empty((len(orders), int(rows.sum())), np.int32)
    for b in np.unique(blocks):
        inside = blocks == b
        kept = inside & rows
        if not kept.any():
            continue
        part = orders[:, inside]
        chosen = part[rows[part]].reshape(len(orders), int(kept.sum()))
        out[:, place[kept]] = place[chosen]
    return out


def _number(classes: Sequence[int] | NDArray[np.int64]) -> int:
    counts = np.unique(classes, return_counts=True)[1]
    return math.factorial(len(classes)) // math.prod(math.factorial(int(c)) for c in counts)


def _arrangements(classes: NDArray[np.int64]) -> Iterator[tuple[int, ...]]:
    """Every different arrangement of the classes, as an order of the rows."""
    members = [list(np.flatnonzero(classes == c)) for c in np.unique(classes)]

    def deal(left: list[int], before: list[int]) -> Iterator[list[int]]:
        if not any(left):
            yield before
        for c, n in enumerate(left):
            if n:
                fewer = [*left[:c], n - 1, *left[c + 1 :]]
                yield from deal(fewer, [*before, c])

    for pattern in deal([len(m) for m in members], []):
        used = [0] * len(members)
        order = []
        for c in pattern:
            order.append(int(members[c][used[c]]))
            used[c] += 1
        yield tuple(order)
