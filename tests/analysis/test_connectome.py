"""Connectomes: edges by hand, by brute force, and as MRtrix3 counts them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fornix.analysis.along import mean_along
from fornix.analysis.connectome import connectome
from fornix.analysis.parcellation import Parcellation, load_parcellation
from fornix.cli.app import app
from fornix.core.errors import FornixError, FornixWarning
from fornix.core.tractogram import Tractogram
from fornix.io import save_tractogram, write_image

GRID = (20, 18, 12)


def oblique() -> np.ndarray:
    """Anisotropic voxels, turned about two axes, x flipped."""
    a, b = 0.3, -0.2
    first = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    second = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = first @ second @ np.diag([-2.0, 2.5, 4.0])
    affine[:3, 3] = (17, -22, -20)
    return affine


def regions(seed: int = 0) -> Parcellation:
    """Scattered regions 1 to 9."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 10, GRID) * (rng.random(GRID) < 0.2)
    return Parcellation(labels, oblique())


def lines(count: int = 400, seed: int = 1) -> Tractogram:
    """Random walks on the grid."""
    rng = np.random.default_rng(seed)
    affine, made = oblique(), []
    for _ in range(count):
        ends = rng.uniform(0, np.array(GRID) - 1, (2, 3))
        voxel = ends[0] + np.linspace(0, 1, rng.integers(2, 30))[:, None] * (ends[1] - ends[0])
        made.append(voxel @ affine[:3, :3].T + affine[:3, 3])
    return Tractogram.from_list(made, affine, GRID)


def test_the_nearest_centre_is_found_in_mm_on_an_oblique_grid():
    where = regions()
    points = lines(60).points[::7].astype(float)
    node, distance = where.nearest(points, 4.0)
    voxels = np.argwhere(where.labels > 0)
    centres = voxels @ where.affine[:3, :3].T + where.affine[:3, 3]
    all_of_them = np.linalg.norm(points[:, None] - centres[None], axis=2)
    best = all_of_them.argmin(1)
    near = all_of_them.min(1) < 4.0
    assert near.any() and not near.all()
    assert np.array_equal(node >= 0, near)
    assert np.allclose(distance[near], all_of_them.min(1)[near])
    label = where.labels[tuple(voxels[best].T)]
    assert np.array_equal(where.nodes[node[near]], label[near])


def test_edges_by_hand():
    labels = np.zeros((10, 3, 3), np.int64)
    labels[0], labels[5], labels[9] = 2, 7, 30
    where = Parcellation(labels, np.eye(4))
    walks = [[(0, 1, 1), (5, 1, 1)], [(5, 1, 1), (2, 1, 1), (0, 1, 1)], [(0, 1, 1), (9, 1, 1)],
             [(0, 1, 1), (0, 2, 1)], [(0, 1, 1), (2.5, 1, 1)]]  # fmt: skip
    made = Tractogram.from_list([np.array(w, float) for w in walks], np.eye(4), labels.shape)
    ramp = np.broadcast_to(np.arange(10.0)[:, None, None], labels.shape)
    found = connectome(
        made, where, weights=[1, 3, 2, 1, 9], maps={"ramp": (ramp, np.eye(4))}, radius=1.0
    )
    assert found.nodes.tolist() == [2, 7, 30] and found.ends.tolist() == [6, 2, 1]
    assert found.matrices["count"].value.tolist() == [[1, 2, 1], [2, 0, 0], [1, 0, 0]]
    assert found.matrices["sum"].value[0].tolist() == [1, 4, 2]
    assert found.matrices["ramp"].value[0, :2] == pytest.approx([0, 2.5], abs=1e-4)
    assert found.matrices["length"].value[0, 2] == pytest.approx(9)
    assert np.isnan(found.matrices["ramp"].value[1, 2])
    assert np.isnan(found.matrices["ramp"].std[0, 2])  # one streamline


def test_standard_deviations_are_those_of_the_bootstrap():
    where, some = regions(), lines(300)
    rng = np.random.default_rng(0)
    w = rng.gamma(2.0, 1.0, 300)
    found = connectome(some, where, weights=w)
    draws = []
    for _ in range(400):
        index = rng.integers(0, 300, 300)
        again = np.sort(found.assigned[index], 1)
        keep = (again >= 0).all(1)
        edge = again[keep] @ (len(found.nodes), 1)
        draws.append(np.bincount(edge, w[index][keep], len(found.nodes) ** 2))
    spread = np.std(draws, 0)
    edges = np.triu_indices(len(found.nodes))
    closed = found.matrices["sum"].std[edges]
    drawn = spread.reshape(len(found.nodes), -1)[edges]
    big = found.matrices["count"].value[edges] >= 3
    assert big.sum() > 10
    assert np.median(drawn[big] / closed[big]) == pytest.approx(1, abs=0.03)
    assert np.corrcoef(drawn, closed)[0, 1] > 0.99


def test_a_mean_along_counts_every_millimetre():
    ramp = np.broadcast_to(np.arange(12.0)[:, None, None], (12, 3, 3)).copy()
    dense = np.array([(x, 1.0, 1.0) for x in (0, 0.1, 0.2, 0.3, 10)])
    made = Tractogram.from_list([dense, np.full((1, 3), 50.0)], np.eye(4), (12, 3, 3))
    assert mean_along(made, ramp, np.eye(4))[0] == pytest.approx(5.0, abs=1e-3)
    assert np.isnan(mean_along(made, ramp, np.eye(4))[1])


@pytest.mark.skipif(shutil.which("tck2connectome") is None, reason="MRtrix3 is not there")
def test_counts_are_those_of_mrtrix(tmp_path: Path):
    where, some = regions(), lines(2000)
    write_image(tmp_path / "labels.nii.gz", where.labels.astype(np.float32), where.affine)
    save_tractogram(some, tmp_path / "lines.tck")
    w = np.random.default_rng(5).gamma(2.0, 1.0, len(some)).astype(np.float32)
    np.savetxt(tmp_path / "w.txt", w)
    for more, name in ([], "count"), (["-tck_weights_in", "w.txt"], "sum"):
        subprocess.run(
            ["tck2connectome", "lines.tck", "labels.nii.gz", "peer.csv", "-symmetric", "-quiet",
             "-force", "-assignment_radial_search", "4", *more],
            cwd=tmp_path, check=True,
        )  # fmt: skip
        peer = np.loadtxt(tmp_path / "peer.csv", delimiter=",")
        ours = connectome(some, load_parcellation(tmp_path / "labels.nii.gz"), weights=w)
        assert np.allclose(ours.matrices[name].value, peer, rtol=1e-4)


def test_files(tmp_path: Path):
    where, some = regions(), lines()
    labels = where.labels.astype(np.float32)
    labels[labels == 4] = 0
    write_image(tmp_path / "labels.nii.gz", labels, where.affine)
    save_tractogram(some, tmp_path / "sub-01_desc-x_tractogram.trx")
    (tmp_path / "lut.txt").write_text("# a comment\n1 left-one 0 0 0\n9 nine 1 1 1\n")
    words = ["connectome", str(tmp_path / "sub-01_desc-x_tractogram.trx"),
             str(tmp_path / "labels.nii.gz"), "-o", str(tmp_path / "out"),
             "--map", f"lab={tmp_path / 'labels.nii.gz'}", "--names", str(tmp_path / "lut.txt")]  # fmt: skip
    with pytest.warns(FornixWarning, match="1 of the numbers 1 to 9"):
        done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    nodes = (tmp_path / "out" / "sub-01_desc-nodes_relmat.tsv").read_text().splitlines()
    assert nodes[0].split("\t") == ["index", "name", "volume", "ends"] and len(nodes) == 9
    assert nodes[1].split("\t")[:2] == ["1", "left-one"] and nodes[4].startswith("5\tn/a")
    counts = np.loadtxt(tmp_path / "out" / "sub-01_desc-count_relmat.tsv")
    assert counts.shape == (8, 8) and (counts == counts.T).all()
    for name in ("countStd", "length", "lengthStd", "lab", "labStd"):
        assert (tmp_path / "out" / f"sub-01_desc-{name}_relmat.tsv").exists()


def test_bad_input_is_one_line(tmp_path: Path):
    where, some = regions(), lines(50)
    with pytest.raises(FornixError, match="3 weights for 50 streamlines"):
        connectome(some, where, weights=[1, 2, 3])
    with pytest.raises(FornixError, match="no streamlines"):
        connectome(some.subset(np.zeros(0, int)), where)
    far = Tractogram(some.points + 500, some.offsets, some.affine, some.grid)
    with pytest.raises(FornixError, match="not in the same place"):
        connectome(far, where)
    write_image(tmp_path / "half.nii.gz", np.full(GRID, 1.5, np.float32), oblique())
    with pytest.raises(FornixError, match="whole numbers"):
        load_parcellation(tmp_path / "half.nii.gz")
    write_image(tmp_path / "none.nii.gz", np.zeros(GRID, np.float32), oblique())
    with pytest.raises(FornixError, match="no label above 0"):
        load_parcellation(tmp_path / "none.nii.gz")


def test_a_turned_axis_is_said():
    labels = np.zeros((40, 40, 40), np.int64)
    labels[2:12, 5:15, 3:9] = 1
    labels[2:12, 25:35, 3:9] = 2
    where = Parcellation(labels, np.eye(4))
    good = np.array([[5.0, 10, 5], [5.0, 30, 5]])
    turned = good * (-1, 1, 1) + (39, 0, 0)
    made = Tractogram.from_list([turned] * 90 + [good] * 10, np.eye(4), labels.shape)
    with pytest.warns(FornixWarning, match=r"only 10% .* with x \(left and right\) turned round"):
        connectome(made, where)
