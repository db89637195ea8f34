"""The enhancement network is made again from nothing, in little."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.enhance.space import NAME
from fornix.nets import weights
from fornix.training.data.fine_heads import fine_head, read_head, sharpened, store_head
from fornix.training.data.fine_stream import FineStream
from fornix.training.tasks import enhance


@pytest.fixture(scope="module")
def head():
    return fine_head(None, 1, voxel_size=4.0, lesions=2)


def test_a_tiny_training_run_makes_weights_and_card(tmp_path, head):
    told = []
    path = enhance.make(
        tmp_path,
        None,
        3,
        "cpu",
        tmp_path / "w",
        heads=2,
        voxel_size=5.0,
        pieces=3,
        tell=told.append,
    )
    made = weights.load(NAME, tmp_path / "w")
    assert made.about["steps"] == 3 and (made.groups["calibration"]["scale"] > 0).all()
    assert f"sha256 `{made.sha256}`" in path.with_suffix(".md").read_text()
    assert any("step 3/3" in line for line in told)


def test_sharpened_tissue_keeps_its_sum_and_has_harder_edges(head):
    hard = sharpened(head, 3.0)
    np.testing.assert_allclose((hard.wm + hard.gm + hard.csf)[head.mask], 1, atol=1e-3)
    most = [np.maximum(np.maximum(h.wm, h.gm), h.csf)[head.mask].mean() for h in (head, hard)]
    assert most[1] > most[0]
    np.testing.assert_allclose(sharpened(head, 1.0).s0, head.s0, rtol=1e-3, atol=1)


def test_a_head_comes_back_from_its_file(tmp_path, head):
    store_head(head, tmp_path / "head.npz")
    again, _ = read_head(tmp_path / "head.npz")
    assert again.mask.sum() == head.mask.sum()
    np.testing.assert_allclose(again.wm[again.mask], head.wm[head.mask], atol=1e-3)
    place = [h.affine @ np.r_[np.argwhere(h.mask)[0], 1] for h in (head, again)]
    np.testing.assert_allclose(*place, atol=1e-6)


def test_pieces_are_those_of_the_seed(head):
    one, two = (FineStream([head], 1, 5).new() for _ in range(2))
    assert np.array_equal(one.channels.numpy(), two.channels.numpy())
    assert all(np.isfinite(v.numpy()).all() for v in (*one.base, *one.truth, one.channels))
    assert (np.abs(one.place.numpy()) <= 0.5 + 1e-6).all()
