"""Connectomes against the truth: weights, regions and scores on fibres that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.core.tractogram import Tractogram
from fornix_bench.metrics.connections import (
    connectome_score,
    cross_sections,
    regions_of_ends,
    true_edges,
    upper,
)
from fornix_bench.suites.tractography.connections import run_connectome

GRID, AFFINE = (40, 40, 10), np.diag([2.0, 2, 2, 1])


def _fibres() -> Tractogram:
    """Two bundles along x, of 30 and of 10 streamlines."""
    rng = np.random.default_rng(0)
    lines = []
    for count, y in ((30, 20.0), (10, 60.0)):
        for _ in range(count):
            shift = np.r_[0, rng.uniform(-1, 1, 2)]
            lines.append(np.linspace([10, y, 10], [70, y, 10], 121) + shift)
    return Tractogram.from_list(lines, AFFINE, GRID)


def test_cross_sections_add_up_to_the_volume_of_the_fibres() -> None:
    fibres = _fibres()
    filled = np.zeros(GRID)
    voxel = np.rint(fibres.points / 2).astype(int)
    filled[tuple(voxel.T)] = 0.6
    volume = 0.6 * 8 * len(np.unique(voxel, axis=0))
    areas = cross_sections(fibres, filled)
    assert (areas * fibres.lengths()).sum() == pytest.approx(volume, rel=1e-3)
    # Both bundles fill as many voxels: the thinner bundle's streamlines are the thicker ones.
    assert areas[30:].mean() == pytest.approx(3 * areas[:30].mean(), rel=0.2)


def test_a_perfect_connectome_has_r_1_and_a_false_edge_is_counted() -> None:
    fibres = _fibres()
    regions = regions_of_ends(fibres, np.ones(GRID, bool), 4)
    assert list(regions.nodes) == [1, 2, 3, 4]
    areas = np.r_[np.full(30, 1.0), np.full(10, 2.0)]
    true, counts = true_edges(fibres, areas, regions, 4.0)
    assert sorted(true[counts]) == [20, 30]
    perfect = connectome_score(7 * true, true, counts)
    assert (perfect.found, perfect.false_edges, perfect.false_share) == (1, 0, 0)
    many = np.array([0.0, 1, 2, 4, 8, 16])
    assert connectome_score(7 * many, many, many > 0).r == pytest.approx(1)
    assert connectome_score(1 / np.maximum(many, 0.1), many, many > 0).r == pytest.approx(-1)
    wrong = np.where(counts, true, 0)
    wrong[np.flatnonzero(true == 0)[0]] = 50.0
    scored = connectome_score(wrong, true, counts)
    assert (scored.false_edges, scored.false_share) == (1, 0.5)
    missed = np.where(true == true.max(), true, 0)
    assert connectome_score(missed, true, counts).found == 0.5


def test_upper_is_above_the_diagonal() -> None:
    assert list(upper(np.arange(9).reshape(3, 3))) == [1, 2, 5]


@pytest.mark.slow
def test_a_quick_run_writes_its_tables(shared_data: Path, tmp_path: Path) -> None:
    rows = run_connectome(tmp_path, threads=1, quick=True)
    assert {r["weights"] for r in rows} >= {"count", "fornix filter, weight"}
    assert (tmp_path / "connectome.md").read_text().count("|") > 50
    assert all(r["false edges"] >= 0 and 0 <= r["found"] <= 1 for r in rows)
