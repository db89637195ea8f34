"""The suite runs on tiny sizes and writes its files; repeated scans are scored as they should be."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fornix.bench.estimates import Estimate
from fornix.bench.microstructure import SECTIONS, Size, run_microstructure
from fornix.bench.repeat import agreement

TINY = Size(
    block=(8, 10, 4), small=(8, 8, 4), voxel_size=5.0, loose=60, peers=0, force=0, protocols=2,
    covering=0, snrs=(20.0,), told=(1.0,), speed=0, pairs=0,
)  # fmt: skip


def test_suite_writes_its_files(tmp_path: Path) -> None:
    rows = run_microstructure(tmp_path, threads=1, size=TINY)
    with (tmp_path / "microstructure.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    page = (tmp_path / "microstructure.md").read_text()
    for title in ("Tensor from few", "Never worse", "Kurtosis and NODDI", "per cell", "Coverage"):
        assert title in page
    for figure in ("tensor", "random", "cells", "coverage"):
        assert f"microstructure_{figure}.png" in page
        assert (tmp_path / f"microstructure_{figure}.png").stat().st_size > 5000
    wls = [r for r in rows if r["section"] == "tensor" and r["method"] == "wls"]
    assert all(r["ratio"] == 1 for r in wls)
    assert all(np.isfinite(r["rmse"]) for r in wls if r["param"] != "v1")


def test_same_seed_same_rows(tmp_path: Path) -> None:
    first, second = (
        run_microstructure(tmp_path / name, 1, size=TINY, sections=("random",)) for name in "ab"
    )
    assert first == second
    assert set(SECTIONS) >= {"tensor", "speed", "repeat"}


def test_intervals_come_from_quantiles_where_there_are_any() -> None:
    value, std = np.zeros(3), np.ones(3)
    low, high = np.full(3, -0.1), np.full(3, 7.0)
    found = Estimate({"dti_fa": value}, {"dti_fa": std}, {"dti_fa": {0.05: low, 0.95: high}})
    np.testing.assert_array_equal(found.interval("dti_fa", 0.9), (low, high))
    np.testing.assert_allclose(found.interval("dti_fa", 0.5)[1], 0.67449, rtol=1e-4)


def test_agreement_of_two_noisy_copies() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0.2, 0.8, (4, 4, 4))
    base = np.kron(coarse, np.ones((8, 8, 8)))
    noise = 0.1
    a, b = (base + noise * rng.standard_normal(base.shape) for _ in range(2))
    row = agreement(a, b, np.ones(base.shape, bool))
    assert row["regions"] == 64
    assert row["cv_voxel"] == pytest.approx(noise / base.mean(), rel=0.02)
    variance = base.var()
    assert row["icc_voxel"] == pytest.approx(variance / (variance + noise**2), abs=0.02)
    assert row["icc_region"] > 0.99
    assert row["spread"] == pytest.approx(coarse.std(), rel=0.02)
    same = agreement(a, a, np.ones(base.shape, bool))
    assert same["cv_voxel"] == 0 and same["icc_voxel"] == 1
