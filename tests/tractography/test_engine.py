"""The compiled tracker: seeds, smooth curves, uncertainty, streaming; the same for any threads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fornix.core.errors import FornixError, FornixWarning
from fornix.io import load_tractogram
from fornix.io.trx import TrxWriter
from fornix.numerics.directions import fibonacci
from fornix.tractography._transport import nearest_axis_of, start_frame, transport_frame
from fornix.tractography.fields import nearest_axis
from fornix.tractography.seeds import BLOCK, DynamicSeeds, interface_seeds, voxel_seeds


def bends(line: np.ndarray) -> np.ndarray:
    step = np.diff(line.astype(float), axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    return np.degrees(np.arccos((step[1:] * step[:-1]).sum(1).clip(-1, 1)))


def test_a_carried_frame_runs_along_a_circle():
    frame, point = np.zeros((3, 3)), np.zeros(3)
    start_frame(np.array([0.0, 0.0, 1.0]), np.uint64(3), frame)
    normal = frame[1].copy()
    track = []
    for _ in range(100):
        transport_frame(frame, point, 0.2, 0.0, 0.3)
        track.append(point.copy())
        np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(np.array(track) - 5 * normal, axis=1), 5, atol=1e-9)
    np.testing.assert_allclose(np.array(track) @ np.cross([0, 0, 1], normal), 0, atol=1e-9)


def test_the_table_of_nearest_axes():
    axes, rng = fibonacci(400), np.random.default_rng(0)
    u = rng.standard_normal((3000, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    index = np.array([nearest_axis_of(*v, nearest_axis()) for v in u])
    reached = np.abs((axes[index] * u).sum(1))
    best = np.abs(u @ axes.T).max(1)
    assert np.degrees(np.arccos(reached.clip(0, 1)) - np.arccos(best.clip(0, 1))).max() < 2


def test_smooth_curves_turn_less_than_asked_and_less_than_sampling_does(corridor):
    angle = 8.0
    smooth = corridor.track("ptt", criteria={"angle": angle})
    rough = corridor.track("probabilistic", criteria={"angle": 30})
    turned = np.concatenate([bends(line) for line in smooth])
    assert turned.max() <= angle + 0.5
    assert np.mean(turned) < 0.4 * np.mean(np.concatenate([bends(line) for line in rough]))


def test_fewer_streamlines_are_the_first_of_more(corridor):
    more, few = corridor.track(count=5000), corridor.track(count=700)
    np.testing.assert_array_equal(few.points, more.points[: len(few.points)])


def test_seeds_per_voxel(corridor):
    seeds = corridor.mask(10, slice(4, 8), slice(3, 6))
    made = corridor.track(seeds=seeds, per_voxel=3, count=10_000)
    assert 20 < len(made) <= 3 * 12
    points = np.concatenate([voxel_seeds(seeds, seed=0, per_voxel=300)(i) for i in range(3)])
    assert len(points) == 300 * 12
    assert (np.unique(np.rint(points), axis=0, return_counts=True)[1] == 300).all()
    assert len(voxel_seeds(seeds, seed=0, per_voxel=1)(1)) == 0
    with pytest.raises(FornixError, match="seeds per voxel must be"):
        voxel_seeds(seeds, seed=0, per_voxel=0)
    with pytest.raises(FornixError, match="no meaning with interface"):
        corridor.track(seeding="interface", per_voxel=2)


def test_interface_seeds_lie_between_grey_and_white(corridor):
    everywhere = np.ones(corridor.grid, bool)
    points = interface_seeds(everywhere, corridor.tissue, seed=0)(0)
    assert len(points) > 200
    inner = points[(np.abs(points[:, 1] - 5.5) < 2) & (np.abs(points[:, 2] - 4) < 1)]
    assert (np.abs(np.abs(inner[:, 0] - 11.5) - 9) < 0.1).all()
    with pytest.raises(FornixError, match="do not meet"):
        interface_seeds(corridor.mask(12), corridor.tissue, seed=0)
    assert len(corridor.track(seeding="interface")) == 200


def test_dynamic_seeds_go_where_streamlines_are_missing(corridor):
    where = corridor.tissue.wm > 0.5
    seeds = DynamicSeeds(where, np.ones(corridor.grid), seed=0)
    left = np.ravel_multi_index(
        np.nonzero(where & (np.arange(24) < 12)[:, None, None]), where.shape
    )
    assert 0.4 < (seeds(0)[:, 0] < 11.5).mean() < 0.6
    seeds.count(np.repeat(left, 10))
    assert (seeds(1)[:, 0] < 11.5).mean() < 0.1


def test_dynamic_seeding_evens_the_density_out(corridor):
    """Half of the corridor is fed by few seeds only: dynamic seeds make up for it."""
    half = np.where(np.arange(12) < 6, 1.0, 0.5)[:, None, None].astype(np.float32)
    share = {}
    for seeding in ("voxel", "dynamic"):
        tractogram = corridor.track(
            "deterministic", seeding=seeding, count=4 * BLOCK, fod=corridor.fod * half
        )
        share[seeding] = (tractogram.points[:, 1] < 11).mean()
    assert abs(share["dynamic"] - 2 / 3) < abs(share["voxel"] - 2 / 3)


@pytest.mark.parametrize("algorithm", ["probabilistic", "ptt"])
def test_uncertainty_widens_the_bundle(corridor, algorithm):
    seeds = corridor.mask(4, 6, 4)
    criteria = {"angle": 10 if algorithm == "ptt" else 30}
    spread = []
    for size in (0.0, 0.3):
        made = corridor.track(
            algorithm,
            criteria,
            seeds=seeds,
            count=400,
            fod_std=size * np.abs(corridor.fod) + size / 3,
        )
        tips = np.array([line[np.abs(line[:, 0] - 40).argmin()] for line in made])
        spread.append(tips[:, 1:].std(0).mean())
    assert spread[1] > 1.15 * spread[0]
    same = corridor.track(algorithm, criteria, seeds=seeds, fod_std=0 * corridor.fod, count=50)
    assert len(same) == 50
    with pytest.raises(FornixError, match="deviation has shape"):
        corridor.track(fod_std=np.zeros((2, 2, 2, 45), np.float32))


def test_streaming_gives_the_same_streamlines(corridor, tmp_path: Path):
    whole = corridor.track(count=6000)
    with TrxWriter(tmp_path / "x.trx", corridor.affine, corridor.grid) as writer:
        count = corridor.run(count=6000, threads=2, sink=writer)
    assert count == 6000 and not (tmp_path / "x.trx.partial").exists()
    again = load_tractogram(tmp_path / "x.trx", mapped=True)
    assert not again.points.flags.writeable  # the file's own bytes, not a copy
    np.testing.assert_array_equal(again.points, whole.points)
    np.testing.assert_array_equal(again.offsets, whole.offsets)


def test_what_was_tracked_is_on_disk_when_stopped(corridor, tmp_path: Path):
    class Stop(Exception):
        pass

    def stop(done: int, count: int) -> None:
        if done > 2500:
            raise Stop

    whole = corridor.track(count=8000)
    with (
        pytest.warns(FornixWarning, match=r"stopped: .* streamlines are in .*x\.trx\.partial"),
        pytest.raises(Stop),
        TrxWriter(tmp_path / "x.trx", corridor.affine, corridor.grid) as writer,
    ):
        corridor.run(count=8000, sink=writer, progress=stop)
    assert not (tmp_path / "x.trx").exists()
    left = load_tractogram(tmp_path / "x.trx.partial")
    assert len(left) > 2500
    np.testing.assert_array_equal(left.points, whole.points[: len(left.points)])
    # Killed in the middle of a write: more bytes than the header knows of.
    with open(tmp_path / "x.trx.partial" / "positions.3.float32", "ab") as handle:
        handle.write(b"12345678")
    assert len(load_tractogram(tmp_path / "x.trx.partial")) == len(left)


def test_the_growing_folder_is_a_trx_folder_for_others(tmp_path: Path):
    from trx.trx_file_memmap import load

    writer = TrxWriter(tmp_path / "x.trx", np.eye(4), (9, 9, 9))
    for n in (2, 3):
        writer.append(np.full((2 * n, 3), n, np.float32), np.array([n, n]))
        theirs = load(str(tmp_path / "x.trx.partial"))
        assert len(theirs) == writer.streamlines
        theirs.close()
    header = json.loads((tmp_path / "x.trx.partial" / "header.json").read_text())
    assert header["NB_STREAMLINES"] == 4 and header["NB_VERTICES"] == 10
    writer.finish({"score": np.arange(4)})
    theirs = load(str(tmp_path / "x.trx"))
    assert [len(s) for s in theirs.streamlines] == [2, 2, 3, 3]
    np.testing.assert_array_equal(np.ravel(theirs.data_per_streamline["score"]), np.arange(4))
    theirs.close()
