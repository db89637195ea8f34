"""The simulated sites are what their page says, and the suite writes its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix_bench.suites.harmonize import suite
from fornix_bench.suites.harmonize.cohort import EFFECT, SiteTruth, affected, draw, truth_of
from fornix_bench.suites.harmonize.methods import METHODS, compared
from fornix_bench.suites.harmonize.scanners import SCANNERS, TRACTS
from fornix_bench.suites.harmonize.travelling import MAPS
from fornix_bench.table import Row


def scans(noise: float = 0.003, seed: int = 0) -> list[Row]:
    """Rows as the travelling heads give them, of known shifts."""
    rng = np.random.default_rng(seed)
    shift = 0.05 * rng.normal(size=(5, len(SCANNERS), len(TRACTS)))
    rows: list[Row] = []
    for h in range(4):
        level = np.exp(0.05 * rng.normal(size=len(TRACTS)))
        for j, scanner in enumerate(SCANNERS):
            for repeat in range(2):
                for method in ("learned", "classical"):
                    for m, which in enumerate(MAPS):
                        log = shift[m, j] + noise * rng.normal(size=len(TRACTS))
                        values = dict(zip(TRACTS, (level * np.exp(log)).tolist()))
                        rows.append({"head": h, "site": scanner.name, "repeat": repeat, "method": method,
                                     "map": which, **values})  # fmt: skip
    return rows


def test_what_sites_do_is_read_from_the_scans():
    truth = truth_of(scans(), "learned", "fa")
    rng = np.random.default_rng(0)
    shift = 0.05 * rng.normal(size=(5, len(SCANNERS), len(TRACTS)))[0]
    assert np.abs(truth.shift - (shift - shift.mean(0))).max() < 0.01
    assert truth.noise.mean() == pytest.approx(0.003, rel=0.2) and truth.head.max() < 0.003
    none = truth.none()
    assert np.abs(none.shift).max() == 0
    between, within = suite.variation(none.values)
    assert between < 2 * within


def flat() -> SiteTruth:
    return truth_of(scans(noise=1e-6), "learned", "fa").none()


def test_the_effect_lies_in_the_named_tracts():
    study = draw(flat(), "fa", [400, 400], 1, balanced=True)
    effect, p = compared(study, study.values, False)
    true = affected(len(TRACTS))
    assert effect[true].mean() == pytest.approx(-EFFECT, abs=0.006)
    assert np.abs(effect[~true].mean()) < 0.006 and (p[~true] < 0.05).mean() < 0.3


@pytest.mark.parametrize("name", METHODS)
def test_every_method_harmonizes_and_keeps_what_is_missing_nowhere(name: str):
    if name == "neuroHarmonize":
        pytest.importorskip("neuroHarmonize")
    truth = truth_of(scans(), "learned", "fa")
    study = draw(truth, "fa", [12] * len(SCANNERS), 3)
    done = METHODS[name](study, truth.values[:3])
    assert done.values.shape == study.values.shape and np.isfinite(done.values).all()
    between, _ = suite.variation(suite._on_heads(done.apply, truth))
    raw, _ = suite.variation(truth.values[2:])
    assert between < (1.01 if name == "raw" else 0.6) * raw


def test_the_suite_writes_its_page(tmp_path: Path, monkeypatch):
    pytest.importorskip("neuroHarmonize")
    monkeypatch.setattr(suite, "measured", lambda path, quick, seed: scans())
    monkeypatch.setattr(suite, "MAPS", ("fa",))
    sections = ["maps", "cohort", "power", "none", "new", "patients"]
    rows = suite.run_harmonize(tmp_path, threads=1, quick=True, sections=sections)
    assert len(rows) > 40
    text = (tmp_path / "harmonize.md").read_text()
    assert (
        all((tmp_path / f"harmonize_{s}.csv").exists() for s in sections) and "kept of 3%" in text
    )
