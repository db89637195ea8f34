"""Evidence for a tract: it turns with the head, does not depend on the order of voxels, and is local."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fornix.register.features import Features, elements, matrices
from fornix.register.grids import Lattice
from fornix.tracts.atlas import Tract
from fornix.tracts.evidence import (
    FEATURES,
    STATIONS,
    course_of,
    evidence,
    left_of,
    support_of,
    surroundings,
)

GRID = (12, 20, 10)
ALONG_Y = 5  # voxels in x, z that the tract passes


def head(seed: int = 0) -> Features:
    """Random smooth tensors and tissues on 2.5 mm."""
    rng = np.random.default_rng(seed)
    tissue = torch.from_numpy(
        rng.dirichlet(np.ones(6), GRID).astype(np.float32).transpose(3, 0, 1, 2)
    )
    shape = torch.from_numpy(0.2 * rng.standard_normal((6, *GRID)).astype(np.float32))
    shape[2] = -shape[0] - shape[1]
    return Features(Lattice(np.diag([2.5, 2.5, 2.5, 1]), GRID), tissue, tissue[0], shape)


def tract(seed: int = 1) -> Tract:
    """A straight tract along y, with scattered directions."""
    rng = np.random.default_rng(seed)
    index = np.stack(
        np.meshgrid(np.arange(4, 8), np.arange(20), np.arange(3, 7), indexing="ij"), -1
    )
    index = index.reshape(-1, 3)
    voxels = np.ravel_multi_index(tuple(index.T), GRID)
    direction = rng.standard_normal((len(voxels), 3)) + [0, 3, 0]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    along = (index[:, 1] + 0.5) / 20
    share = rng.uniform(0.3, 1, len(voxels))
    ends = np.stack([along < 0.1, along > 0.9], 1)
    return Tract(
        "T", voxels, share.astype(np.float32), ends.astype(np.float32),
        direction.astype(np.float32), along.astype(np.float32),
    )  # fmt: skip


def column(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, FEATURES.index(name)]


def test_it_turns_with_the_head() -> None:
    one, own = head(), tract()
    turn = torch.from_numpy(Rotation.random(random_state=3).as_matrix().astype(np.float32))
    turned = elements(turn @ matrices(one.shape) @ turn.T)
    other = replace(one, shape=turned)
    moved = replace(own, direction=own.direction @ turn.numpy().T)
    np.testing.assert_allclose(
        evidence(surroundings(other), moved), evidence(surroundings(one), own), atol=2e-4
    )


def test_order_and_sign_do_not_matter() -> None:
    around, own = surroundings(head()), tract()
    found = evidence(around, own)
    order = np.random.default_rng(0).permutation(len(own.voxels))
    shuffled = Tract(
        "T", own.voxels[order], own.share[order], own.ends[order], -own.direction[order],
        own.along[order],
    )  # fmt: skip
    np.testing.assert_allclose(evidence(around, shuffled), found[order], atol=2e-5)
    # From its other end, the tract reads the same but for the place along it.
    back = replace(own, along=1 - own.along, ends=own.ends[:, ::-1])
    same = [i for i, name in enumerate(FEATURES) if name != "place along the tract"]
    np.testing.assert_allclose(evidence(around, back)[:, same], found[:, same], atol=2e-4)


def test_fluid_across_a_tract_shows_at_its_station_and_around() -> None:
    one, own = head(), tract()
    tissue, shape = one.tissue.clone(), one.shape.clone()
    tissue[:, :, 8:12], shape[:, :, 8:12] = 0, 0
    tissue[3, :, 8:12] = 1
    filled = evidence(surroundings(replace(one, tissue=tissue, shape=shape)), own)
    before = evidence(surroundings(one), own)
    inside = (own.along > 0.41) & (own.along < 0.59)
    assert (column(filled, "fluid, 0 mm")[inside] == 1).all()
    assert (column(filled, "fluid, 5 mm")[inside] > 0.5).all()
    assert (
        column(filled, "fluid at this station")[inside]
        > column(before, "fluid at this station")[inside]
    ).all()
    weakest = "the same at its weakest station"
    assert column(filled, weakest)[0] <= min(column(before, weakest)[0], 0.05)
    far = own.along < 0.1
    for name in ("fluid, 0 mm", "FA, 0 mm", "usual place"):
        np.testing.assert_array_equal(column(filled, name)[far], column(before, name)[far])


def test_what_is_left_is_a_share_of_the_expected_at_each_station() -> None:
    own = tract()
    assert np.allclose(left_of(own.along, own.share, own.share), 1)
    gone = np.where(own.along > 0.5, 0, own.share)
    left = left_of(own.along, own.share, gone)
    assert np.allclose(left[: STATIONS // 2], 1) and np.allclose(left[STATIONS // 2 :], 0)
    part = own.along < 0.3
    some = left_of(own.along[part], own.share[part], own.share[part])
    assert np.isnan(some[-1]) and some[0] == 1


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_support_is_high_where_fibres_run_along_and_negative_where_they_run_across(
    sign: float,
) -> None:
    one, own = head(), replace(tract(), direction=np.tile([0, 1, 0], (320, 1)).astype(np.float32))
    shape = torch.zeros_like(one.shape)
    shape[1], shape[0], shape[2] = sign * 0.4, -sign * 0.2, -sign * 0.2
    around = surroundings(replace(one, shape=shape))
    assert np.isclose(support_of(around, own), sign * 0.4, atol=1e-5)
    assert np.allclose(course_of(around, own).means[:, 0], sign * 0.4, atol=1e-5)


def test_a_tract_without_voxels_has_no_rows() -> None:
    none = Tract(
        "T", np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 2), np.float32),
        np.zeros((0, 3), np.float32), np.zeros(0, np.float32),
    )  # fmt: skip
    assert evidence(surroundings(head()), none).shape == (0, len(FEATURES))
