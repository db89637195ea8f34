"""`fornix filter`: files in and out, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fornix.cli.app import app
from fornix.core.errors import FornixError
from fornix.core.maps import Map, Maps
from fornix.core.tractogram import Tractogram
from fornix.io import (
    derivative,
    load_tractogram,
    read_json,
    save_maps,
    save_mask,
    save_tractogram,
    write_image,
)

pytestmark = pytest.mark.filterwarnings("ignore:plausibility is judged among")


@pytest.fixture(scope="module")
def folder(corridor, tmp_path_factory) -> Path:
    """What `fornix track` leaves behind, of the corridor: FOD, tensor maps, mask, tractogram."""
    out = tmp_path_factory.mktemp("out")
    white = corridor.tissue.wm
    fa = np.where(white > 0, 0.7, 0.05).astype(np.float32)
    md = np.full(corridor.grid, 0.8e-3, np.float32)
    maps = {"fod": Map("", "fod", corridor.fod, corridor.affine)}
    for name, data in (("fa", fa), ("md", md)):
        maps[f"dti_{name}"] = Map("dti", name, data, corridor.affine)
    save_maps(Maps(maps), out, "sub-01")
    save_mask(np.ones(corridor.grid, bool), corridor.affine,
              out / derivative("sub-01", "mask", desc="brain"))  # fmt: skip
    save_tractogram(corridor.track(count=120), out / "sub-01_tractogram.trx")
    save_tractogram(corridor.track(count=50), out / "sub-01_other.tck")
    five = np.stack([corridor.tissue.wm, corridor.tissue.gm, corridor.tissue.csf], -1)
    write_image(out / "tissue.nii.gz", five, corridor.affine)
    return out


def run(*words: object) -> str:
    done = CliRunner().invoke(app, ["filter", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_best_are_written_with_their_scores(folder: Path):
    assert "kept 30 of 120" in run(folder / "sub-01_tractogram.trx", "--keep", "0.25")
    made = load_tractogram(folder / "sub-01_desc-filtered_tractogram.trx")
    assert len(made) == 30 and set(made.per_streamline) == {"plausibility", "weight", "support"}
    told = read_json(folder / "sub-01_desc-filtered_tractogram.json")
    assert (told["Count"], told["CountBefore"], told["Keep"]) == (30, 120, 0.25)
    assert len(load_tractogram(folder / "sub-01_tractogram.trx")) == 120


def test_scores_alone_remove_nothing(folder: Path, tmp_path: Path):
    run(folder / "sub-01_tractogram.trx", "--score-only", "-o", tmp_path / "all.trk",
        "--tissue", folder / "tissue.nii.gz")  # fmt: skip
    made = load_tractogram(tmp_path / "all.trk")
    assert len(made) == 120
    assert (made.per_streamline["support"] > 0.8).all()


def test_weights_and_tractograms_of_other_tools(folder: Path, tmp_path: Path):
    out = tmp_path / "fitted.trx"
    run(folder / "sub-01_other.tck", "--by", "weight", "-o", out, "--maps", folder)
    assert (load_tractogram(out).per_streamline["weight"] > 0).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "colour"], "cannot be kept by 'colour'"),
        (["--keep", "0.5", "--threshold", "0.5"], "not both"),
        (["--maps", "nowhere"], "does not exist"),
        (["--maps", "."], "holds no FOD"),
        (["-o", "kept.vtk"], "one of .trx, .tck, .trk"),
        (["--threshold", "1"], "no streamline is left"),
    ],
)
def test_what_is_wrong_is_told(folder: Path, words: list[str], message: str):
    with pytest.raises(FornixError, match=message):
        run(folder / "sub-01_tractogram.trx", *words)


def test_two_scans_in_one_folder_are_told_apart(folder: Path, tmp_path: Path, corridor):
    for stem in ("sub-01", "sub-02"):
        maps = {"fod": Map("", "fod", corridor.fod, corridor.affine)}
        save_maps(Maps(maps), tmp_path, stem)
    lines = Tractogram.from_list([np.zeros((2, 3))], corridor.affine, corridor.grid)
    save_tractogram(lines, tmp_path / "tracks.trx")
    with pytest.raises(FornixError, match=r"sub-01, sub-02 and tracks\.trx begins with none"):
        run(tmp_path / "tracks.trx")
    save_tractogram(lines, tmp_path / "sub-02_tracks.trx")
    with pytest.raises(FornixError, match="sub-02_desc-brain_mask"):
        run(tmp_path / "sub-02_tracks.trx")
