"""The benchmark of tractography: what it counts, and a whole run on a small scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.io import save_tractogram
from fornix.tractography.scoring.score import INVALID, NO_CONNECTION, VALID
from fornix_bench.peers.microstructure import PeerMissing
from fornix_bench.suites.tractography import suite


def test_removed_is_counted_by_kind():
    kinds = np.array([VALID, VALID, VALID, VALID, INVALID, INVALID, NO_CONNECTION], np.uint8)
    kept = np.array([1, 1, 1, 0, 1, 0, 0], bool)
    found = suite.removed(kept, kinds, np.array([4.0, 5, 6, 1, 3, 0.5, 0]))
    assert found["true_removed"] == 25
    assert found["invalid_removed"] == 50
    assert found["false_removed"] == pytest.approx(200 / 3)
    assert found["auc"] == pytest.approx(11 / 12)


def test_a_peer_is_tuned_by_its_best_cutoff():
    rows = [
        {"scan": "a", "tracker": "x", "cutoff": c, "filter": f, "F1": v}
        for c, f, v in [(0.1, "none", 0.3), (0.2, "none", 0.5), (0.1, "w", 0.9), (0.2, "w", 0.4)]
    ]
    rows.append({"scan": "a", "tracker": "y", "cutoff": None, "filter": "none", "F1": 0.1})
    kept = suite.best_cutoff(rows)
    assert [r["cutoff"] for r in kept] == [0.2, 0.2, None]


def test_the_difference_is_to_the_best_peer_of_each_measure():
    rows = [
        {"scan": "a", "tracker": t, "filter": "none", "VS": v, "F1": f, "IB": i}
        for t, v, f, i in [("Fornix learned", 60, 0.5, 30), ("x", 50, 0.3, 90), ("y", 40, 0.4, 60)]
    ]
    (row,) = suite.against_peers([r for r in rows if r["scan"] == "a"])
    assert (row["VS_more"], round(row["F1_more"], 6), row["IB_share"]) == (10, 0.1, 0.5)
    assert suite.against_peers(rows[:1]) == []


def test_missing_bundles_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORNIX_TEST_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FornixError, match="set FORNIX_TEST_DATA"):
        suite.run_tractography(tmp_path)


@pytest.mark.filterwarnings("ignore:plausibility is judged among")
def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two rods that do not touch: nearly all streamlines are valid, and the page says so."""
    (tmp_path / "rods").mkdir()
    along = np.linspace(0, 80, 40)[:, None] * [1.0, 0, 0]
    rng = np.random.default_rng(0)
    for name, y in (("left", -25), ("right", 25)):
        lines = [along + [0, y, 0] + rng.uniform(-8, 8, 3) for _ in range(300)]
        made = Tractogram.from_list(lines, np.eye(4), (10, 10, 10))
        save_tractogram(made, tmp_path / "rods" / f"{name}.tck")

    def absent(*_: object) -> None:
        raise PeerMissing("MRtrix3 is not installed: apt install mrtrix3")

    monkeypatch.setattr(suite, "OURS", ("probabilistic",))
    monkeypatch.setattr(suite, "DIPYS", ())
    monkeypatch.setattr(suite, "mrtrix_fod", absent)
    monkeypatch.setattr(suite, "QUICK_COUNT", 150)
    rows = suite.run_tractography(
        tmp_path / "out", threads=1, quick=True, bundles=tmp_path / "rods"
    )
    ours = [r for r in rows if r["tracker"] == "Fornix probabilistic"]
    assert [r["filter"] for r in ours] == ["none", "plausibility", "weight", "best half"]
    assert ours[0]["VS"] > 80 and ours[0]["VB"] == 2 and ours[0]["streamlines"] == 150
    assert ours[0]["VS"] + ours[0]["IS"] + ours[0]["NC"] == pytest.approx(100)
    page = (tmp_path / "out" / "tractography.md").read_text()
    assert "| Fornix probabilistic |" in page and "false_removed" in page
    assert "Skipped: MRtrix3 is not installed" in page
    assert (tmp_path / "out" / "tractography.png").stat().st_size > 5000
    assert (tmp_path / "out" / "tractography.csv").read_text().startswith("scan,tracker")
