"""The tissue segmentation: does not depend on storage, scale or protocol; finds brains."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.nets import weights
from fornix.nets.tissue_channels import channels, scan_maps
from fornix.nets.tissue_classes import CLASSES
from fornix.nets.tissue_net import TissueNet
from fornix.nets.tissue_segmentation import NAME, _from_step, _mask, _to_step, segment
from fornix.physics import simulate

shipped = pytest.mark.skipif(not weights.available(NAME), reason="no weights of it ship")


@pytest.fixture(scope="module")
def head():
    """A simulated head of thick voxels, and its brain."""
    return simulate(protocol="dti12", snr=25, voxel_size=4.0, artefacts="mild", seed=21)


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TissueNet(width=4, depth=2).eval()


def stored(dwi: DWI, axes: tuple[int, ...], flips: tuple[int, ...]) -> DWI:
    """The same scan with its axes in another order and direction."""
    data = np.transpose(np.asarray(dwi.data), (*axes, 3))
    affine = dwi.affine.copy()
    affine[:3, :3] = dwi.affine[:3, :3][:, axes]
    for axis, flip in enumerate(flips):
        if flip < 0:
            affine[:3, 3] += affine[:3, axis] * (data.shape[axis] - 1)
            affine[:3, axis] *= -1
            data = np.flip(data, axis)
    return replace(dwi, data=np.ascontiguousarray(data), affine=affine)


def test_all_48_storage_orders_give_the_same(network):
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((8, 3))
    table = Gradients(
        np.r_[0.0, np.full(7, 1000.0)],
        np.r_[[[0, 0, 0]], axes[:7] / np.linalg.norm(axes[:7], axis=1)[:, None]],
    )
    data = rng.uniform(10, 1000, (9, 12, 7, 8)).astype(np.float32)
    tilt = np.array([[0.96, -0.2, 0.1], [0.2, 0.97, 0.0], [-0.1, 0.02, 0.99]])
    affine = np.eye(4)
    affine[:3, :3] = tilt * np.array([2.0, 2.5, 4.0])
    dwi = DWI(data, table, affine)
    first = segment(dwi, network)
    for order, flips in product(permutations(range(3)), product((1, -1), repeat=3)):
        again = segment(stored(dwi, order, flips), network)
        for mine, theirs in ((again.probabilities, first.probabilities), (again.left, first.left)):
            turned = np.transpose(theirs, (*order, *range(3, theirs.ndim)))
            turned = np.flip(turned, [i for i in range(3) if flips[i] < 0])
            np.testing.assert_allclose(mine, turned, atol=2e-5)


def test_probabilities_sum_to_one_on_the_scans_own_grid(head, network):
    made = segment(head.dwi, network)
    assert made.probabilities.shape == (*head.dwi.grid, len(CLASSES))
    np.testing.assert_allclose(made.probabilities.sum(-1), 1, atol=1e-5)
    assert made.mask.shape == made.left.shape == head.dwi.grid
    assert set(np.unique(made.labels[~made.mask])) <= {0}
    assert made.labels[made.mask].min(initial=1) > 0
    np.testing.assert_array_equal(made["white"], made.probabilities[..., 3])


@pytest.mark.parametrize("size", [1.2, 2.0, 2.5, 3.1, 6.0])
def test_grids_keep_what_is_constant_and_what_rises_evenly(size):
    n = 40
    there = _to_step(n, size)
    back = _from_step(n, len(there), size)
    np.testing.assert_allclose(there.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(back.sum(1), 1, atol=1e-6)
    inner = slice(6, -6)
    ramp = np.arange(n, dtype=float)
    np.testing.assert_allclose((back @ (there @ ramp))[inner], ramp[inner], atol=0.1)


def test_voxels_of_the_networks_own_size_are_left_as_they_are():
    np.testing.assert_allclose(_to_step(31, 2.5), np.eye(31), atol=1e-6)
    np.testing.assert_allclose(_from_step(31, 31, 2.5), np.eye(31), atol=1e-6)


def test_what_is_seen_does_not_depend_on_the_scanners_units(head):
    maps = scan_maps(head.dwi)
    louder = scan_maps(replace(head.dwi, data=np.asarray(head.dwi.data) * 37))
    seen = [
        channels(
            torch.from_numpy(m.b0), torch.from_numpy(m.weighted), m.b,
            torch.from_numpy(m.anisotropy), torch.ones(head.dwi.grid),
        )
        for m in (maps, louder)
    ]  # fmt: skip
    torch.testing.assert_close(seen[0], seen[1], atol=1e-3, rtol=1e-3)


def test_anisotropy_is_that_of_fibres_and_not_of_noise(head):
    maps = scan_maps(head.dwi)
    assert maps.anisotropy is not None
    white = head.anatomy.wm > 0.8
    water = head.anatomy.csf > 0.8
    assert np.median(maps.anisotropy[white]) > 0.12
    assert np.median(maps.anisotropy[water]) < 0.06


def test_any_protocol_can_be_read(head, network):
    few = head.dwi.subset([0])
    maps = scan_maps(few)
    assert maps.weighted is None and maps.anisotropy is None
    for volumes in ([0], [0, 1, 2], range(1, 8)):
        assert np.isfinite(segment(head.dwi.subset(list(volumes)), network).probabilities).all()


def test_the_mask_is_one_part_without_holes():
    likely = np.zeros((20, 20, 20), bool)
    likely[3:12, 3:12, 3:12] = True
    likely[6, 6, 6] = False
    likely[16:18, 16:18, 16:18] = True
    made = _mask(likely)
    assert made[6, 6, 6] and not made[17, 17, 17]


@shipped
def test_the_brain_of_a_simulated_head_is_found(head):
    made = segment(head.dwi)
    overlap = 2 * (made.mask & head.mask).sum() / (made.mask.sum() + head.mask.sum())
    assert overlap > 0.95
    x = np.arange(head.dwi.grid[0]) * head.dwi.affine[0, 0] + head.dwi.affine[0, 3]
    right, left = x > 12, x < -12
    assert made.left[right][made.mask[right]].mean() < 0.1
    assert made.left[left][made.mask[left]].mean() > 0.9


@shipped
def test_noise_alone_is_doubted():
    rng = np.random.default_rng(3)
    data = np.abs(rng.standard_normal((48, 48, 48, 7))).astype(np.float32)
    axes = rng.standard_normal((6, 3))
    table = Gradients(
        np.r_[0.0, np.full(6, 1000.0)],
        np.r_[[[0, 0, 0]], axes / np.linalg.norm(axes, axis=1)[:, None]],
    )
    made = segment(DWI(data, table, np.diag([3.0, 3.0, 3.0, 1.0])))
    assert made.notes
