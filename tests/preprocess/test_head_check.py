"""Destroyed volumes are named, whichever and however many, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.estimators.mask import brain_mask
from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.preprocess import estimate_noise
from fornix.preprocess.head_check import check_heads, volumes_without_head
from fornix.preprocess.volume_check import check_volumes


@pytest.fixture(scope="module", params=[(20.0, 1000), (8.0, 3000)], ids=["b1000", "b3000 in noise"])
def head(request):
    snr, b = request.param
    made = simulate(protocol=shells(2, (b, 16)), snr=snr, voxel_size=5.0, seed=2, threads=1)
    return made.dwi.with_(mask=made.mask)


@pytest.mark.parametrize("how", ["noise", "constant"])
@pytest.mark.parametrize("count", [0, 1, 5, 8])
def test_destroyed_volumes_and_no_others(head, count, how):
    rng = np.random.default_rng(count)
    lost = np.sort(rng.choice(np.arange(2, 18), count, replace=False))
    data = np.array(head.data)
    level = float(data[..., 5][~head.mask].mean())
    for v in lost:
        noise = np.abs(rng.normal(0, level, head.grid))
        data[..., v] = noise if how == "noise" else level
    found = volumes_without_head(head.with_(data=data))
    np.testing.assert_array_equal(found, lost)


def test_volumes_are_named_by_their_number_in_the_file(head):
    data = np.array(head.data)
    data[..., 7] = 1.0
    rest = head.with_(data=data).subset(range(3, 18))
    (finding,) = check_heads(rest)
    assert finding.volumes == (7,)
    assert "--exclude 7;" in finding.text


def test_a_stripped_head_has_no_background_to_tell(head):
    data = np.where(head.mask[..., None], head.data, 0).astype(np.float32)
    assert not len(volumes_without_head(head.with_(data=data)))


def test_half_the_volumes_destroyed_is_said_first_and_once():
    made = simulate(protocol=shells(1, (1000, 20)), snr=20, voxel_size=5.0, seed=3, threads=1)
    data, rng = np.array(made.dwi.data), np.random.default_rng(0)
    lost = np.sort(rng.choice(np.arange(1, 21), 10, replace=False))
    for v in lost:
        data[..., v] = np.abs(rng.normal(0, 30, data.shape[:3]))
    dwi = estimate_noise(brain_mask(made.dwi.with_(data=data)))
    found = check_volumes(dwi)
    assert found[0].volumes == tuple(int(v) for v in lost)
    assert "11 volumes are left" in found[0].text
    assert sum(f.kind == "no-head" for f in found) == 1
