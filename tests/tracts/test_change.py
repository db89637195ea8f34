"""A change in one tract is found there, and what both sessions share leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fornix.core.maps import Map
from fornix.register.grids import Lattice, moved
from fornix.tracts.atlas import Tract
from fornix.tracts.change import VOLUME, Change, carried_map, tract_changes, volume_changes
from fornix.tracts.change_files import save_changes
from fornix.tracts.segment import FoundTract, TractMaps

GRID = (12, 14, 10)
LATTICE = Lattice(np.diag([2.0, 2.0, 2.0, 1.0]), GRID)


def column(name: str, x: int, probability: float = 0.9) -> FoundTract:
    """A straight tract along y, three voxels wide."""
    block = np.zeros(GRID, bool)
    block[x : x + 3, :, 3:6] = True
    voxels = np.flatnonzero(block)
    y = np.unravel_index(voxels, GRID)[1]
    n = len(voxels)
    tract = Tract(
        name, voxels, np.full(n, 0.9, np.float32), np.zeros((n, 2), np.float32),
        np.tile(np.float32([0, 1, 0]), (n, 1)), (y / (GRID[1] - 1)).astype(np.float32),
    )  # fmt: skip
    p = np.full(n, probability, np.float32)
    return FoundTract(tract, p, 0.45, 1.0, 1.0, float(p.sum()) * 0.008, 0.1)


TRACTS = TractMaps(LATTICE, {n: column(n, x) for n, x in (("one", 1), ("two", 7))}, "test")


def fa(values: np.ndarray, std: float | None = 0.02, **details: float) -> Map:
    spread = None if std is None else np.full(GRID, std, np.float32)
    return Map("dti", "fa", values.astype(np.float32), LATTICE.affine, spread, details=details)


def over_tracts(first: Map, second: Map, **options: object) -> Mapping[str, Change]:
    found = tract_changes(TRACTS, [{"dti_fa": first}, {"dti_fa": second}], nodes=1, **options)
    return {c.tract: c for c in found.changes}


def test_a_change_of_one_tract_is_found_in_it_alone() -> None:
    rng = np.random.default_rng(0)
    base = 0.5 + 0.1 * rng.standard_normal(GRID)
    later = base + 0.02 * rng.standard_normal(GRID)
    later[:5] -= 0.06
    found = over_tracts(fa(base), fa(later))
    assert found["one"].high[0] < 0 and abs(found["one"].change[0] + 0.06) < 0.01
    assert found["two"].low[0] < 0 < found["two"].high[0]
    assert found["one"].percent[0] == pytest.approx(-12.8, abs=2)


def test_what_all_sessions_show_alike_makes_a_change_no_less_sure() -> None:
    flat, rough = np.full(GRID, 0.5), 0.5 + 0.2 * np.random.default_rng(1).random(GRID)
    # The tract's place matters where values differ from voxel to voxel, but not for their change.
    a, b = (over_tracts(fa(v), fa(v + 0.01))["one"].std[0] for v in (flat, rough))
    assert b == pytest.approx(a, rel=0.35)


def test_what_a_network_errs_in_all_voxels_counts_between_protocols_only() -> None:
    base = fa(np.full(GRID, 0.5), SharedStd=0.03)
    same = over_tracts(base, base)["one"].std[0]
    other = over_tracts(base, base, alike=[True, False])["one"].std[0]
    assert other**2 - same**2 == pytest.approx(2 * 0.03**2, rel=1e-6)


def test_swapped_sessions_change_the_sign_alone() -> None:
    rng = np.random.default_rng(2)
    a, b = fa(0.5 + 0.1 * rng.random(GRID)), fa(0.5 + 0.1 * rng.random(GRID))
    for name, one in over_tracts(a, b).items():
        other = over_tracts(b, a)[name]
        assert one.change[0] == pytest.approx(-other.change[0])
        assert one.std[0] == pytest.approx(other.std[0])


def test_chance_stays_within_its_interval_as_often_as_said() -> None:
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        # Noise of neighbours goes together, as estimators and interpolation leave it.
        noise = rng.standard_normal((2, *GRID)) * 0.04
        first, second = (fa(0.5 + n, std=0.02) for n in noise)
        held += [c.low[0] < 0 < c.high[0] for c in over_tracts(first, second).values()]
    assert 0.8 < np.mean(held) <= 1


def test_volumes_change_too_and_lost_tracts_have_none() -> None:
    smaller = {n: replace(f, volume=0.8 * f.volume) for n, f in TRACTS.found.items()}
    smaller["two"] = replace(smaller["two"], presence=0.1, reason="outside of what was scanned")
    one, two = volume_changes(TRACTS, TractMaps(LATTICE, smaller, "test"))
    assert one.map == VOLUME and one.high[0] < 0
    assert one.percent[0] == pytest.approx(-22.2, abs=0.1)
    assert np.isnan(two.change[0]) and "outside" in two.reason


def test_a_map_is_carried_as_it_lies_and_ends_with_its_brain() -> None:
    brain = np.zeros(GRID, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    x = LATTICE.points()[..., 0].numpy()
    own = replace(fa(np.where(brain, x + 1, 0)), std=np.full(GRID, 0.02, np.float32))
    shift = np.eye(4)
    shift[:3, 3] = 1.0
    fine = Lattice(np.diag([1.0, 1.0, 1.0, 1.0]), (20, 24, 16))
    made = carried_map(own, brain, LATTICE, fine, lambda p: moved(shift, p))
    there = np.isfinite(made.data)
    expected = fine.points()[..., 0].numpy() + 2
    inner = there & (expected > 6) & (expected < 17)
    assert inner.sum() > 500 and np.abs(made.data - expected)[inner].max() < 1e-4
    seen = torch.from_numpy(there).float().mean()
    assert 0.2 < float(seen) < 0.6
    # Eight voxels of 1 mm hold the noise of one of 2 mm.
    assert made.std is not None
    assert float(made.std[there].mean()) == pytest.approx(0.02 * np.sqrt(8), rel=1e-3)


def test_tables_hold_what_was_found(tmp_path: Path) -> None:
    nan = np.array([np.nan])
    changes = [
        Change("one", "dti_fa", np.array([0.5]), np.array([0.4]), np.array([0.01])),
        Change("two", "dti_fa", nan, nan, nan, "outside", 2),
    ]
    path = save_changes(changes, tmp_path / "c.tsv", ("a", "b", "c"), along=False)
    head, first, second = (line.split("\t") for line in path.read_text().splitlines())
    row = dict(zip(head, first))
    assert (row["from"], row["to"], row["change"]) == ("a", "b", "-0.1")
    assert float(row["low"]) == pytest.approx(-0.1 - 1.645 * 0.01)
    assert dict(zip(head, second)) | {"to": "c", "change": "n/a", "reason": "outside"} == dict(
        zip(head, second)
    )
