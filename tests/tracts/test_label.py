"""Streamlines find their tracts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.io import load_tractogram, save_tractogram
from fornix.register.grids import Lattice
from fornix.tracts.atlas import Tract
from fornix.tracts.files import save_tracts
from fornix.tracts.label import label_streamlines, resampled, with_labels
from fornix.tracts.segment import FoundTract, TractMaps
from fornix.workflow.labelling import label_file

GRID = (40, 40, 40)
AFFINE = np.diag([-2.0, 2, 2, 1])
AFFINE[:3, 3] = [40, -40, -40]
LATTICE = Lattice(AFFINE, GRID)


def tube(name: str, axis: int, offset: float) -> FoundTract:
    """A straight tract of 6 mm radius along an axis, through `offset` on the next one."""
    points = LATTICE.points().reshape(-1, 3).numpy()
    other = [a for a in range(3) if a != axis]
    away = np.hypot(points[:, other[0]] - offset, points[:, other[1]])
    voxels = np.flatnonzero(away < 6)
    along = (points[voxels, axis] + 40) / 80
    direction = np.zeros((len(voxels), 3), np.float32)
    direction[:, axis] = 1
    share = np.ones(len(voxels), np.float32)
    ends = np.stack([along < 0.2, along > 0.8], 1).astype(np.float32)
    tract = Tract(name, voxels, share, ends, direction, along.astype(np.float32))
    return FoundTract(tract, share, 0.5, 1.0, 1.0, 1.0, 0.1)


@pytest.fixture
def tracts() -> TractMaps:
    found = [tube("x", 0, 0), tube("z_left", 2, -20), tube("z_right", 2, 20)]
    return TractMaps(LATTICE, {f.tract.name: f for f in found}, "made")


def line(start: list[float], end: list[float], count: int = 30) -> np.ndarray:
    return np.linspace(start, end, count)


def test_streamlines_go_to_the_tract_they_run_along(tracts: TractMaps) -> None:
    lines = [
        line([-38, 0, 0], [38, 1, 2]),
        line([38, 0, 1], [-38, -1, 0], 7),  # the other way round
        line([-20, 1, -38], [-20, 0, 38], 90),
        line([20, 0, 38], [21, 1, -38]),
        line([-20, -38, 0], [-20, 38, 0]),  # across
        line([20, 0, -5], [20, 0, 5]),  # inside, but ends halfway
    ]
    made = Tractogram.from_list(lines * 4, AFFINE, GRID)
    labels = label_streamlines(made, tracts, threshold=0.4)
    names = [labels.names[t] if t >= 0 else "" for t in labels.tract[:6]]
    assert names == ["x", "x", "z_left", "z_right", "", ""]
    assert list(labels.of("z_left")) == [2, 8, 14, 20]
    kept = with_labels(made, labels).per_streamline
    assert kept["tract"].tolist()[:3] == [0, 0, 1]


def test_resampled_points_lie_at_equal_distances() -> None:
    rng = np.random.default_rng(0)
    lines = [np.cumsum(rng.standard_normal((n, 3)), 0) for n in (2, 5, 40)]
    points, tangents = resampled(Tractogram.from_list(lines, AFFINE, GRID), 9)
    for made, original in zip(points, lines):
        assert np.allclose(made[0], original[0], atol=1e-4)
        assert np.allclose(made[-1], original[-1], atol=1e-4)
    straight = resampled(Tractogram.from_list([line([0, 0, 0], [8, 0, 0], 3)], AFFINE, GRID), 9)[0][
        0
    ]
    assert np.allclose(straight[:, 0], np.arange(9), atol=1e-4)
    assert np.allclose(np.linalg.norm(tangents, axis=-1), 1, atol=1e-3)


def test_a_tractogram_of_another_head_and_an_empty_one_are_refused(tracts: TractMaps) -> None:
    far = Tractogram.from_list([line([-38, 30, 30], [38, 30, 30])] * 5, AFFINE, GRID)
    with pytest.raises(FornixError, match="another head, another space or another axis order"):
        label_streamlines(far, tracts)
    with pytest.raises(FornixError, match="no streamlines"):
        label_streamlines(Tractogram.from_list([], AFFINE, GRID), tracts)


def test_a_folder_gets_a_file_a_tract_and_a_table(tracts: TractMaps, tmp_path: Path) -> None:
    save_tracts(tracts, tmp_path, "s", {})
    lines = [
        line([-38, 0, 0], [38, 1, 2]),
        line([-20, 1, -38], [-20, 0, 38]),
        line([-20, -38, 0], [-20, 38, 0]),
    ]
    save_tractogram(Tractogram.from_list(lines * 2, AFFINE, GRID), tmp_path / "lines.trk")
    said = label_file(tmp_path / "lines.trk", tmp_path, tmp_path / "out", 0.4)
    assert said.startswith("4 of 6 streamlines belong to 2 tracts")
    table = (tmp_path / "out" / "lines_desc-tracts_streamlines.tsv").read_text().splitlines()
    counts = {row.split("\t")[0]: int(row.split("\t")[1]) for row in table[1:]}
    assert counts == {"x": 2, "z_left": 2, "z_right": 0, "none": 2}
    assert (
        len(load_tractogram(tmp_path / "out" / "lines_tract-zleft.tck", reference=_grid(tmp_path)))
        == 2
    )
    with pytest.raises(FornixError, match="holds no tracts"):
        label_file(tmp_path / "lines.trk", tmp_path / "out", tmp_path / "out2", 0.4)


def _grid(folder: Path) -> Path:
    return folder / "s_desc-tracts_probseg.nii.gz"
