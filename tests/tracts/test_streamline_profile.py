"""Profiles along streamlines: right values, whichever way round and however many, with honest errors."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.maps import Map
from fornix.core.tractogram import Tractogram
from fornix.register.grids import Lattice
from fornix.tracts.atlas import Tract
from fornix.tracts.profile import Profile, tract_profiles
from fornix.tracts.segment import FoundTract, TractMaps
from fornix.tracts.streamline_profile import LEAST, streamline_profiles

GRID = (40, 30, 30)
AFFINE = np.diag([-2.0, 2, 2, 1])
AFFINE[:3, 3] = [40, -30, -30]
LATTICE = Lattice(AFFINE, GRID)
POINTS = LATTICE.points().reshape(-1, 3).numpy()


def _tube(name: str, y: float) -> FoundTract:
    """A straight tract of 6 mm radius along x."""
    voxels = np.flatnonzero(np.hypot(POINTS[:, 1] - y, POINTS[:, 2]) < 6)
    along = (POINTS[voxels, 0] + 40) / 80
    direction = np.tile(np.float32([1, 0, 0]), (len(voxels), 1))
    share = np.ones(len(voxels), np.float32)
    ends = np.stack([along < 0.2, along > 0.8], 1).astype(np.float32)
    tract = Tract(name, voxels, share, ends, direction, along.astype(np.float32))
    return FoundTract(tract, share, 0.5, 1.0, 1.0, 1.0, 0.1)


@pytest.fixture
def tracts() -> TractMaps:
    return TractMaps(LATTICE, {f.tract.name: f for f in (_tube("a", -14), _tube("b", 14))}, "made")


def _lines(count: int, rng: np.random.Generator, y: float = -14) -> list[np.ndarray]:
    made = []
    for _ in range(count):
        side = rng.normal(0, 1.5, 2)
        x = np.linspace(-37, 37, int(rng.integers(20, 60)))
        one = np.stack([x, y + side[0] + 0 * x, side[1] + 0 * x], 1)
        made.append(one[:: rng.choice([-1, 1])])
    return made


def _map(noise: float = 0.0, seed: int = 0) -> Map:
    truth = 0.4 + 0.2 * np.sin(POINTS[:, 0] / 15)
    rng = np.random.default_rng(seed)
    data = (truth + rng.normal(0, noise, len(truth))).reshape(GRID).astype(np.float32)
    std = np.full(GRID, noise, np.float32) if noise else None
    return Map("dti", "fa", data, AFFINE, std=std)


def _one(made: list[Profile], tract: str = "a") -> Profile:
    return next(p for p in made if p.tract == tract)


def test_values_are_those_of_the_map_from_beginning_to_end(tracts: TractMaps) -> None:
    lines = Tractogram.from_list(_lines(40, np.random.default_rng(0)), AFFINE, GRID)
    made = _one(streamline_profiles(lines, tracts, {"dti_fa": _map()}, nodes=50))
    x = np.linspace(-37, 37, 50)
    assert np.abs(made.value - (0.4 + 0.2 * np.sin(x / 15))).max() < 0.01
    other = _one(tract_profiles(tracts, {"dti_fa": _map()}, nodes=50))
    assert np.corrcoef(made.value, other.value)[0, 1] > 0.98


def test_neither_order_nor_sense_of_the_streamlines_matters(tracts: TractMaps) -> None:
    lines = _lines(30, np.random.default_rng(1))
    turned = [line[::-1] for line in lines[::-1]]
    one, two = (
        _one(streamline_profiles(Tractogram.from_list(x, AFFINE, GRID), tracts, {"dti_fa": _map()}))
        for x in (lines, turned)
    )
    assert np.allclose(one.value, two.value, atol=1e-5)


def test_stray_streamlines_move_the_profile_little(tracts: TractMaps) -> None:
    rng = np.random.default_rng(2)
    lines = _lines(40, rng)
    image = _map()
    outside = np.abs(POINTS[:, 1].reshape(GRID) + 14) > 4
    image = Map("dti", "fa", np.where(outside, 0.0, image.data).astype(np.float32), AFFINE)
    strays = [line + [0, 5.5, 0] for line in _lines(3, rng)]
    groups = {"a": np.arange(43)}
    made = Tractogram.from_list(lines + strays, AFFINE, GRID)
    made = Tractogram(made.points, made.offsets, AFFINE, GRID, {}, groups)
    found = _one(streamline_profiles(made, tracts, {"dti_fa": image}, nodes=50))
    x = np.linspace(-37, 37, 50)
    assert np.abs(found.value - (0.4 + 0.2 * np.sin(x / 15))).max() < 0.02


def test_intervals_hold_the_noise(tracts: TractMaps) -> None:
    rng = np.random.default_rng(3)
    x = np.linspace(-37, 37, 30)
    held = []
    for seed in range(20):
        lines = Tractogram.from_list(_lines(25, rng), AFFINE, GRID)
        made = _one(
            streamline_profiles(lines, tracts, {"dti_fa": _map(0.05, seed)}, nodes=30, seed=seed)
        )
        held.append(np.abs(made.value - (0.4 + 0.2 * np.sin(x / 15))) < 1.645 * made.std)
    # White noise of voxels, of which the estimate takes four to go together: on the safe side.
    assert 0.85 < np.mean(held) <= 1.0


def test_a_tract_without_streamlines_is_a_row_with_its_reason(tracts: TractMaps) -> None:
    rng = np.random.default_rng(4)
    few = _lines(10, rng) + _lines(LEAST - 1, rng, y=14)
    made = streamline_profiles(Tractogram.from_list(few, AFFINE, GRID), tracts, {"dti_fa": _map()})
    lost = _one(made, "b")
    assert np.isnan(lost.value).all()
    assert lost.reason == f"only {LEAST - 1} streamlines are of this tract ({LEAST} are needed)"
    assert not _one(made).reason
    alone = Tractogram.from_list(_lines(10, rng), AFFINE, GRID)
    assert (
        "no streamline is"
        in _one(streamline_profiles(alone, tracts, {"dti_fa": _map()}), "b").reason
    )


def test_streamlines_of_a_part_of_the_tract_are_told(tracts: TractMaps) -> None:
    lines = [line[np.abs(line[:, 0]) < 15] for line in _lines(20, np.random.default_rng(6))]
    made = Tractogram.from_list(lines, AFFINE, GRID)
    made = Tractogram(made.points, made.offsets, AFFINE, GRID, {}, {"a": np.arange(20)})
    found = _one(streamline_profiles(made, tracts, {"dti_fa": _map()}))
    assert found.reason.startswith("the streamlines run along 3")
    assert np.isfinite(found.value).all()


def test_one_node_and_no_streamlines_are_refused(tracts: TractMaps) -> None:
    lines = Tractogram.from_list(_lines(10, np.random.default_rng(5)), AFFINE, GRID)
    with pytest.raises(FornixError, match="2 nodes or more"):
        streamline_profiles(lines, tracts, {"dti_fa": _map()}, nodes=1)
    with pytest.raises(FornixError, match="no streamlines"):
        streamline_profiles(Tractogram.from_list([], AFFINE, GRID), tracts, {"dti_fa": _map()})
