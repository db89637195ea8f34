"""Two sessions of a simulated head from files to tables; what cannot be followed is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fornix.cli.app import app
from fornix.core.errors import FornixError
from fornix.io import save_scan
from fornix.physics import simulate
from fornix.register.deformable import Level
from fornix.register.register import register
from fornix.workflow.longitudinal import common_stem, follow, same_protocol

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sessions")
    made = (simulate(protocol="dti12", snr=20, voxel_size=6.0, seed=s, threads=1) for s in (1, 2))
    return [save_scan(p.dwi, folder / f"sub-1_ses-{i + 1}_dwi.nii.gz") for i, p in enumerate(made)]


def test_names_are_what_sessions_share() -> None:
    assert common_stem(["a/sub-1_ses-1_dwi.nii.gz", "b/sub-1_ses-2_dwi.nii.gz"]) == "sub-1"
    assert common_stem(["a/dwi.nii.gz", "b/dwi.nii.gz"]) == "dwi"
    assert common_stem(["a/x1_dwi.nii.gz", "b/x2_dwi.nii.gz"]) == "longitudinal"


def test_one_scan_twice_and_one_session_are_refused(scans: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "other_dwi.nii.gz"
    for extension in (".nii.gz", ".bval", ".bvec"):
        source = scans[0].with_name(scans[0].name.replace(".nii.gz", extension))
        shutil.copy(source, tmp_path / f"other_dwi{extension}")
    with pytest.raises(FornixError, match="hold the same scan"):
        follow([scans[0], copy], tmp_path / "out")
    with pytest.raises(FornixError, match="two sessions or more"):
        follow(scans[:1], tmp_path / "out")
    with pytest.raises(FornixError, match="choose one of: rigid, similarity"):
        follow(scans, tmp_path / "out", kind="affine")
    assert not (tmp_path / "out").exists()


def test_protocols_are_told_apart() -> None:
    one = simulate(protocol="dti12", voxel_size=8.0, threads=1).dwi
    other = simulate(protocol="dti30", voxel_size=8.0, threads=1).dwi
    assert same_protocol(one, one)
    assert not same_protocol(one, other)
    wide = one.with_(affine=one.affine @ np.diag([1.1, 1, 1, 1]))
    assert not same_protocol(one, wide)


def test_from_files_to_a_table_of_changes(scans: list[Path], tmp_path: Path, monkeypatch) -> None:
    # Coarse and quick: what is tested is the way from files to files.
    monkeypatch.setattr("fornix.register.affine._SPACINGS", (12.0,))
    coarse = (Level(12.0, 24.0, 2),)
    monkeypatch.setitem(register.__kwdefaults__, "levels", coarse)
    monkeypatch.setattr("fornix.workflow.stages.tracts.with_side_doubt", lambda warp, head: warp)
    monkeypatch.setattr("fornix.register.halfway._COARSEST", 6.0)
    monkeypatch.setattr("fornix.register.halfway._FINEST", 6.0)
    words = ["longitudinal", *map(str, scans), "-o", str(tmp_path), "--models", "dti", "--method",
             "wls", "--nodes", "5", "--threads", "1"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception
    rows = [
        line.split("\t")
        for line in (tmp_path / "sub-1_desc-change_tracts.tsv").read_text().splitlines()
    ]
    head, table = rows[0], [dict(zip(rows[0], r)) for r in rows[1:]]
    assert head[:4] == ["tractID", "map", "from", "to"]
    assert {r["map"] for r in table} == {"dti_fa", "dti_md", "dti_ad", "dti_rd", "volume_ml"}
    known = [r for r in table if r["change"] != "n/a"]
    assert len(known) > 0.3 * len(table)
    for r in known:
        assert float(r["low"]) < float(r["change"]) < float(r["high"])
        first, second = float(r["first"]), float(r["second"])
        assert second - first == pytest.approx(float(r["change"]), abs=1e-5 * (first + second))
    page = (tmp_path / "sub-1_change.html").read_text("utf-8")
    assert "changes lie beyond their 90% intervals" in page and page.count("<figure>") == 1
    for way in ("session1_to-halfway", "halfway_to-session2", "halfway_to-mni"):
        assert (tmp_path / f"sub-1_from-{way}_mode-image_xfm.nii.gz").exists()
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0 and again.output.count("reused") == 10
