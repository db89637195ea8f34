"""The benchmark of trackers on a small phantom: what it times is what it says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fornix.core.tractogram import Tractogram
from fornix.io import save_tractogram
from fornix_bench.suites.tractography import speed as suite


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> suite.TestScan:
    """A rod of parallel fibres."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "rods").mkdir()
    along = np.linspace(0, 80, 40)[:, None]
    rng = np.random.default_rng(0)
    lines = [np.c_[along, 0 * along, 0 * along] + rng.uniform(-10, 10, 3) for _ in range(300)]
    grid = (10, 10, 10)
    save_tractogram(Tractogram.from_list(lines, np.eye(4), grid), folder / "rods" / "rod.tck")
    return suite.make_inputs(folder, bundles=folder / "rods", quick=True)


@pytest.mark.parametrize("name", [*suite.OURS, *suite.PEERS])
def test_every_tracker_follows_the_rod(inputs: suite.TestScan, name: str):
    if name.startswith("MRtrix3") and not shutil.which("tckgen"):
        pytest.skip("mrtrix3 is not installed")
    found, length = suite._runner(inputs, name, threads=1, seed=1)(60)
    assert found == 60 or (name.startswith("DIPY") and 5 < found <= 60)
    assert 50 < length < 110


def test_ratios_and_page(inputs: suite.TestScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(suite, "make_inputs", lambda *_: inputs)
    monkeypatch.setattr(suite, "OURS", {"Fornix probabilistic": (500, 20_000)})
    monkeypatch.setattr(suite, "PEERS", {"DIPY probabilistic": (500, 4000)})
    monkeypatch.setattr(suite, "STREAMED_QUICK", (50, 100))
    rows = suite.run_tracking_speed(tmp_path, threads=1, quick=True)
    speed = {row["tracker"]: row["per_s"] for row in rows}
    assert rows[-1]["ratio_dipy"] == pytest.approx(
        speed["Fornix probabilistic"] / speed["DIPY probabilistic"]
    )
    assert "ratio_ifod2" not in rows[-1]
    page = (tmp_path / "tracking_speed.md").read_text()
    assert "| Fornix probabilistic |" in page and "| 100 |" in page
    assert (tmp_path / "tracking_speed.csv").read_text().count("to disk") == 2
