"""Heads, scans and protocols made ahead by processes are those that are made when needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fornix.training.data import head_stream
from fornix.training.data.farm import Farm
from fornix.training.data.fod_patches import FodPatchStream
from fornix.training.data.voxels import protocol_lot
from fornix.training.recipes import RECIPES, recipe


def test_processes_give_what_one_would() -> None:
    ahead, plain = Farm(protocol_lot, 7, workers=2), Farm(protocol_lot, 7)
    try:
        for _ in range(3):
            for a, b in zip(ahead.next(), plain.next(), strict=True):
                np.testing.assert_array_equal(a.bvals, b.bvals)
                np.testing.assert_array_equal(a.directions, b.directions)
    finally:
        ahead.close()


def test_patches_do_not_depend_on_who_makes_the_heads() -> None:
    streams = [FodPatchStream(None, 1, 8, seed=3, device="cpu", workers=w) for w in (0, 1)]
    try:
        plain, ahead = (s.batch(2) for s in streams)
        torch.testing.assert_close(plain.seen.projected, ahead.seen.projected)
        torch.testing.assert_close(plain.voxels.fod, ahead.voxels.fod)
    finally:
        for stream in streams:
            stream.close()


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_other_batches_renew_after_as_many_voxels(name: str) -> None:
    plain = recipe(name)
    assert plain.changed() == plain
    more = plain.changed(steps=5, batch=4 * plain.batch)
    assert more.steps == 5
    assert more.batch == 4 * plain.batch
    assert more.renew == max(1, plain.renew // 4)


def test_each_waiting_scan_is_shown_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans that processes made are all shown, each as often as is said."""
    made: list[int] = []

    class Lots:
        def ready(self) -> bool:
            return True

        def next(self) -> list[head_stream.HeadSample]:
            start = len(made)
            made.extend(range(start, start + head_stream._LOT))
            return [
                head_stream.HeadSample(*(torch.full((1,), float(k)) for _ in range(3)))
                for k in range(start, start + head_stream._LOT)
            ]

    monkeypatch.setattr(head_stream, "head_template", lambda _: None)
    stream = head_stream.HeadStream(Path("none"), 2, 0, torch.device("cpu"))
    stream._farm, stream._ahead = Lots(), True  # type: ignore[assignment]
    shown = np.bincount([int(stream.sample().left[0]) for _ in range(2000)])
    assert shown.max() == head_stream._SHOWN
    assert (shown == head_stream._SHOWN).sum() > 0.7 * len(made)
