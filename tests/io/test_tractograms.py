"""Bad tractograms are told in one line; big ones stay on disk."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.io import load_tractogram, save_tractogram, write_image
from fornix.io.tractograms import read_streamlines
from fornix.io.trx import TrxWriter

AFFINE, GRID = np.diag([2.0, 2.0, 2.0, 1.0]), (10, 12, 8)


def lines(count: int = 5, seed: int = 0) -> Tractogram:
    rng = np.random.default_rng(seed)
    made = [rng.uniform(0, 14, (int(n), 3)) for n in rng.integers(2, 9, count)]
    return Tractogram.from_list(made, AFFINE, GRID)


def test_points_that_are_not_finite_name_the_streamline(tmp_path: Path):
    bad = lines()
    points = bad.points.copy()
    points[bad.offsets[3] : bad.offsets[3] + 2] = np.nan
    with pytest.raises(
        FornixError, match="2 streamline points are not finite, the first in streamline 3"
    ):
        Tractogram(points, bad.offsets, AFFINE, GRID)
    broken = nib.streamlines.Tractogram(
        [points[a:b] for a, b in pairwise(bad.offsets)], affine_to_rasmm=np.eye(4)
    )
    header = nib.streamlines.TrkFile.create_empty_header()
    header["dimensions"] = GRID
    header["voxel_to_rasmm"] = AFFINE
    nib.streamlines.save(broken, str(tmp_path / "nan.trk"), header=header)
    for read in (load_tractogram, read_streamlines):
        with pytest.raises(FornixError, match=r"nan\.trk: 2 streamline points are not finite"):
            read(tmp_path / "nan.trk")


def test_another_reference_grid(tmp_path: Path):
    made = lines()
    moved = AFFINE.copy()
    moved[0, 3] = 50
    image = write_image(tmp_path / "moved.nii.gz", np.zeros(GRID), moved)
    for extension in ("trx", "trk"):
        path = save_tractogram(made, tmp_path / f"x.{extension}")
        with pytest.raises(FornixError, match=r"another grid .* or placed elsewhere"):
            load_tractogram(path, reference=image)
        load_tractogram(path, reference=write_image(tmp_path / "r.nii.gz", np.zeros(GRID), AFFINE))


def test_streamlines_outside_the_volume_are_found():
    inside = np.array([[1.0, 1, 1], [17, 21, 13]])
    edge = np.array([[-1.0, -1, -1], [19, 23, 15]])  # the corners of the outermost voxels
    beyond = np.array([[1.0, 1, 1], [1, 1, 15.2]])
    made = Tractogram.from_list([inside, beyond, edge, np.zeros((0, 3))], AFFINE, GRID)
    assert made.outside().tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", ["x.vtk", "x.nii.gz", "x", "x.trx.partial"])
def test_unknown_extensions(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"abc")
    with pytest.raises(FornixError, match=r"a tractogram is one of \.trx, \.tck, \.trk"):
        load_tractogram(tmp_path / name)


def test_broken_trx_files(tmp_path: Path):
    (tmp_path / "bad.trx").write_bytes(b"no archive")
    with pytest.raises(FornixError, match=r"bad\.trx is not a readable tractogram"):
        load_tractogram(tmp_path / "bad.trx")
    with zipfile.ZipFile(tmp_path / "empty.trx", "w") as archive:
        archive.writestr("other.txt", "x")
    with pytest.raises(FornixError, match=r"empty\.trx is not a readable tractogram"):
        load_tractogram(tmp_path / "empty.trx")
    whole = save_tractogram(lines(), tmp_path / "x.trx").read_bytes()
    (tmp_path / "cut.trx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FornixError, match=r"cut\.trx is not a readable tractogram"):
        load_tractogram(tmp_path / "cut.trx")
    writer = TrxWriter(tmp_path / "short.trx", AFFINE, GRID)
    writer.append(lines().points, np.diff(lines().offsets))
    header = tmp_path / "short.trx.partial" / "header.json"
    told = json.loads(header.read_text())
    header.write_text(json.dumps({**told, "NB_VERTICES": told["NB_VERTICES"] + 5}))
    with pytest.raises(FornixError):
        load_tractogram(tmp_path / "short.trx.partial")
    writer.discard()


def test_values_and_views(tmp_path: Path):
    made = lines(40)
    scored = Tractogram(made.points, made.offsets, AFFINE, GRID, {"score": np.arange(40.0)})
    path = save_tractogram(scored, tmp_path / "x.trx")
    os.chmod(path, 0o444)
    mapped = load_tractogram(path, mapped=True)
    np.testing.assert_array_equal(mapped.points, made.points)
    assert not mapped.points.flags.writeable
    few = mapped.subset([7, 3, 30])
    assert few.per_streamline["score"].tolist() == [7, 3, 30]
    for i, j in enumerate((7, 3, 30)):
        np.testing.assert_array_equal(few[i], made[j])
    mask = np.arange(40) % 2 == 0
    np.testing.assert_array_equal(
        mapped.subset(mask).offsets[-1], sum(len(made[i]) for i in range(0, 40, 2))
    )
    by_hand = [np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in made]
    np.testing.assert_allclose(mapped.lengths(), by_hand, rtol=1e-5)


def test_blocks_cover_everything_once():
    made = lines(23)
    parts = list(made.blocks(5))
    assert [p[0] for p in parts] == [slice(i, min(i + 5, 23)) for i in range(0, 23, 5)]
    np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), made.points)
    assert all(o[0] == 0 and o[-1] == len(p) for _, p, o in parts)


def test_others_compressed_trx_is_read(tmp_path: Path):
    from trx.trx_file_memmap import load, save

    made = lines(9)
    path = save_tractogram(made, tmp_path / "x.trx")
    theirs = load(str(path))
    save(theirs, str(tmp_path / "packed.trx"), compression_standard=zipfile.ZIP_DEFLATED)
    theirs.close()
    np.testing.assert_array_equal(load_tractogram(tmp_path / "packed.trx").points, made.points)


def test_groups_are_those_that_other_readers_see_and_go_along_with_some(tmp_path: Path) -> None:
    from trx import trx_file_memmap as peer

    lines = [np.full((3, 3), float(i)) for i in range(5)]
    made = replace(
        Tractogram.from_list(lines, np.eye(4), (9, 9, 9)),
        groups={"odd": np.array([1, 3]), "none": np.array([], int), "last": np.array([4])},
    )
    path = save_tractogram(made, tmp_path / "t.trx")
    assert {k: list(v) for k, v in peer.load(str(path)).groups.items()} == {
        "odd": [1, 3],
        "last": [4],
    }
    again = load_tractogram(path)
    assert {k: list(v) for k, v in again.groups.items()} == {"odd": [1, 3], "last": [4]}
    some = again.subset([3, 4])
    assert {k: list(v) for k, v in some.groups.items()} == {"odd": [0], "last": [1]}
    with pytest.raises(FornixError, match="group odd names a streamline that is not there"):
        replace(made, groups={"odd": np.array([5])})
