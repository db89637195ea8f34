"""The suite runs on tiny sizes and writes its files; repeated scans are scored as they should be."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from fornix.core.dwi import DWI
from fornix.core.maps import Map, Maps
from fornix_bench.suites.microstructure import estimates
from fornix_bench.suites.microstructure.estimates import Estimate
from fornix_bench.suites.microstructure.goals import glance
from fornix_bench.suites.microstructure.repeat import agreement, half_way
from fornix_bench.suites.microstructure.suite import (
    SECTIONS,
    MicrostructureConfig,
    run_microstructure,
)

TINY = MicrostructureConfig(
    block=(8, 10, 4), small=(8, 8, 4), voxel_size=5.0, single=60, peers=0, force=0, protocols=2,
    covering=0, snrs=(20.0,), sigma_factors=(1.0,), speed=0, pairs=0,
)  # fmt: skip


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """No learned method runs: the classical ones alone."""
    monkeypatch.setattr(estimates, "why_not", lambda name: "left out of this test")


def test_suite_writes_its_files(tmp_path: Path, untrained: None) -> None:
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
    assert "Skipped: learned: left out of this test" in page
    assert all(r["ratio"] == 1 for r in wls)
    assert all(np.isfinite(r["rmse"]) for r in wls if r["param"] != "v1")


@pytest.fixture
def pretender(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method `learned` that is WLS and its like, with quantiles and an `ood` score."""
    real = estimates.microstructure

    def fake(dwi: DWI, *, models: Any, method: str, sigma: Any, **more: Any) -> Maps:
        levels = more.pop("quantiles", None)
        found = real(
            dwi, models=models, method="wls" if method == "learned" else method, sigma=sigma, **more
        )
        if levels is None:
            return found
        made = dict(found.maps)
        for one in made.values():
            if one.std is not None and one.data.ndim == 3:
                table = {q: one.data + norm.ppf(q) * one.std for q in levels}
                object.__setattr__(one, "quantiles", table)
        score = np.abs(dwi.data).max(3) - np.abs(dwi.data[..., 0])
        made["ood"] = Map("", "ood", score, dwi.affine)
        return Maps(made, found.trust)

    monkeypatch.setattr(estimates, "microstructure", fake)
    monkeypatch.setattr(estimates, "why_not", lambda name: "" if name == "learned" else "no")


def test_a_learned_method_is_measured_as_soon_as_there_is_one(
    tmp_path: Path, pretender: None
) -> None:
    rows = run_microstructure(tmp_path, threads=1, size=TINY)
    assert estimates.learned() == ["learned"]
    mine = [r for r in rows if r["method"] == "learned"]
    # WLS, which it is, gives no neurites.
    left = {"speed", "repeat", "neurites"}
    assert {r["section"] for r in mine} == (set(SECTIONS) | {"rank"}) - left
    same = [r["ratio"] for r in mine if r["section"] == "tensor"]
    np.testing.assert_allclose(same, 1, rtol=1e-5)
    kinds = {r["kind"]: r["auroc"] for r in mine if r["section"] == "ood"}
    assert kinds["rising with b"] > 0.9
    glanced = glance(rows)
    assert {r["met"] for r in glanced} == {"yes", "no"}
    assert any(r["what"].startswith("FA RMSE / WLS, anatomy, 6") for r in glanced)
    page = (tmp_path / "microstructure.md").read_text()
    assert "## Goals at a glance" in page and "## Voxels outside the training population" in page


def test_same_seed_same_rows(tmp_path: Path, untrained: None) -> None:
    first, second = (
        run_microstructure(tmp_path / name, 1, size=TINY, sections=("random",)) for name in "ab"
    )
    assert first == second
    # Another part made later keeps the first in table and page.
    both = run_microstructure(tmp_path / "a", 1, size=TINY, sections=("cells",))
    kept = [r for r in both if r["section"] == "random"]
    assert len(kept) == len(first) and any(r["section"] == "cells" for r in both)
    assert kept[0]["fa_ratio"] == pytest.approx(first[0]["fa_ratio"], rel=1e-5)
    assert "## Never worse than WLS" in (tmp_path / "a" / "microstructure.md").read_text()


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


def test_half_way_is_the_same_way_from_both() -> None:
    from scipy.spatial.transform import Rotation

    whole = np.eye(4)
    whole[:3, :3] = Rotation.from_euler("xyz", [20, -10, 5], degrees=True).as_matrix()
    whole[:3, 3] = [4, -3, 10]
    first, second = half_way(whole)
    np.testing.assert_allclose(second @ np.linalg.inv(first), whole, atol=1e-9)
    np.testing.assert_allclose(first @ second, np.eye(4), atol=1e-9)
