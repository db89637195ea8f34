"""A whole-brain tractogram whose thin tracts are filled up by tracking them one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.tracts.label import label_streamlines
from fornix.tracts.segment import TractMaps
from fornix.tracts.tracking import track_tracts

#: Share of all streamlines that is tracked tract by tract.
SHARE = 0.5


def balance(
    whole: Tractogram,
    tracts: TractMaps,
    fod: NDArray[np.float32],
    brain: NDArray[np.bool_],
    *,
    share: float = SHARE,
    seed: int = 0,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tractogram:
    """As many streamlines as before, a share of them tracked in the tracts that had fewest.

    The first streamlines of the tractogram stay; the others make room for new ones, which go to the tracts
    in which fewest of those that stay run, until all have the same number or the room is full.

    Args:
        whole: Of the whole brain, in random order as a tracker leaves it.
        tracts: From `segment_tracts`.
        fod: (X, Y, Z, coefficients) on the tracts' grid.
        brain: (X, Y, Z) what was scanned of the brain.
        share: Of the streamlines that are to be new, 0 to 1.
        seed: Of all random numbers.
        threads: Threads in use; all cores if not given.
        progress: Told streamlines found and asked for.

    Returns:
        The streamlines with `tract_tracked` (0 or 1) of each; fewer than before where tracts gave fewer.

    Raises:
        FornixError: The share is impossible, or the tractogram is of another head.
    """
    if not 0 <= share <= 1:
        raise FornixError(
            f"the share of streamlines tracked by tract lies in [0, 1], not {share:g}"
        )
    room = round(share * len(whole))
    kept = whole.subset(np.arange(len(whole) - room))
    # The callosum's parts are tracts of their own.
    found = {
        n: f
        for n, f in tracts.found.items()
        if f.state != "absent" and not (n == "CC" and len(tracts.found) > 1)
    }  # fmt: skip
    if not room or not found:
        return whole
    chosen = replace(tracts, found=found)
    held = dict.fromkeys(found, 0)
    if len(kept):
        labels = label_streamlines(kept, chosen)
        held = {n: len(labels.of(n)) if n in labels.names else 0 for n in found}
    wanted = filled_up(held, room)
    made = track_tracts(
        fod, chosen, brain, count=wanted, seed=seed, threads=threads, progress=progress
    ).tractogram
    return _joined(kept, made)


def filled_up(held: Mapping[str, int], room: int) -> dict[str, int]:
    """How many to add to each so that the fewest are filled up first, all together `room`."""
    names = sorted(held, key=lambda n: held[n])
    counts = np.array([held[n] for n in names])
    # The level at which the lowest k hold all: raised from one to the next.
    for k in range(len(names), 0, -1):
        level = (room + counts[:k].sum()) / k
        if level >= counts[k - 1]:
            break
    add = np.floor(np.maximum(level - counts, 0) * (np.arange(len(names)) < k)).astype(int)
    add[: room - add.sum()] += 1
    return {n: int(add[names.index(n)]) for n in held}


def _joined(kept: Tractogram, made: Tractogram) -> Tractogram:
    sizes = np.concatenate([np.diff(kept.offsets), np.diff(made.offsets)])
    origin = np.r_[np.zeros(len(kept)), np.ones(len(made))].astype(np.float32)
    return Tractogram(
        np.concatenate([kept.points, made.points]), np.concatenate([[0], np.cumsum(sizes)]),
        kept.affine, kept.grid, {"tract_tracked": origin},
    )  # fmt: skip
