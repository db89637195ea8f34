"""The simulated cohorts are what their page says, and the suite writes its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix_bench.suites.cohorts import suite
from fornix_bench.suites.cohorts.simulation import STRETCHES, TRACTS, CohortSpec, affected, cohort


def test_the_spread_is_that_of_the_specification():
    spec = CohortSpec(each=200, noise=0.0, known=0.0)
    made, table = cohort(spec, 1)
    design = np.column_stack([np.ones(len(table)), table["age"]])
    rest = made.values - design @ np.linalg.lstsq(design, made.values, rcond=None)[0]
    expected = np.hypot(spec.between, 0.01)
    assert rest.std() == pytest.approx(expected, rel=0.05)
    noisy, _ = cohort(CohortSpec(each=200, between=0.0, known=0.0), 1)
    assert np.median(noisy.std[:, 25]) == pytest.approx(0.025, rel=0.15)


def test_the_effect_lies_in_the_named_stretches():
    whole, _ = cohort(CohortSpec(), 2)
    less, table = cohort(CohortSpec(effect=0.05), 2)
    change = (whole.values - less.values)[table["group"] == 1]
    assert np.array_equal((change > 1e-9).all(0), affected(50))
    assert not (whole.values - less.values)[table["group"] == 0].any()
    at = affected(50).reshape(len(TRACTS), 50).mean(1)
    for tract, (low, high) in STRETCHES.items():
        assert at[TRACTS.index(tract)] == pytest.approx(high - low, abs=0.021)


def test_the_suite_writes_its_page(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(suite, "PERMUTATIONS", 40)
    kinds = {k: (spec, 2) for k, (spec, _) in suite.KINDS.items()}
    monkeypatch.setattr(suite, "KINDS", kinds)
    rows = suite.run_cohorts(tmp_path, threads=1)
    assert {r["cohorts"] for r in rows} == set(kinds) and len(rows) == 8 * len(kinds)
    assert all(0 <= r["false alarm"] <= 1 for r in rows)
    assert "### Effect of 5%" in (tmp_path / "cohorts.md").read_text()
