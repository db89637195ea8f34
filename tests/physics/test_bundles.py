"""Heads made of bundles: what voxels hold is what the streamlines say, seeds decide, errors are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.io import save_tractogram
from fornix.physics import anatomy, simulate
from fornix.physics.bundle_maps import Candidates, populations, visits
from fornix.physics.bundle_shell import regrid
from fornix.physics.bundles import end_regions, from_bundles, one_way

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
GRID = (30, 30, 30)


def straight(begin, end, width=4.0, count=40, seed=0) -> list[np.ndarray]:
    """Parallel lines from `begin` to `end`, mm, in a rod of this width."""
    rng = np.random.default_rng(seed)
    begin, end = np.asarray(begin, float), np.asarray(end, float)
    along = np.linspace(0, 1, 25)[:, None]
    return [
        (begin + along * (end - begin) + rng.uniform(-width, width, 3)).astype(np.float32)
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three rods: two cross at right angles, one lies apart."""
    made = tmp_path_factory.mktemp("bundles")
    rods = {
        "across": straight((0, 30, 30), (60, 30, 30), seed=1),
        "along": straight((30, 0, 30), (30, 60, 30), seed=2),
        "apart": straight((10, 10, 0), (10, 10, 60), seed=3),
    }
    for (name, lines), extension in zip(rods.items(), (".tck", ".trk", ".trx")):
        save_tractogram(Tractogram.from_list(lines, AFFINE, GRID), made / f"{name}{extension}")
    return made


@pytest.fixture(scope="module")
def still(folder: Path) -> anatomy.Anatomy:
    return from_bundles(folder, amplitude=0, thin=(1, 1), voxel_size=2.0)


def at(head: anatomy.Anatomy, point) -> tuple[int, ...]:
    voxel = np.linalg.inv(head.affine) @ np.r_[point, 1.0]
    return tuple(np.rint(voxel[:3]).astype(int))


def test_density_is_the_length_of_streamline_in_a_voxel() -> None:
    line = np.array([[2.0, 4.0, 4.0], [13.0, 4.0, 4.0]])
    found = visits(line, np.array([0, 2]), AFFINE, GRID)
    assert found.density.sum() == pytest.approx(11.0)
    row = np.ravel_multi_index((3, 2, 2), GRID)
    assert found.density[found.voxels == row] == pytest.approx(2.0, abs=0.8)
    np.testing.assert_allclose(
        found.dyads, np.broadcast_to(np.diag([1.0, 0, 0]), found.dyads.shape)
    )
    np.testing.assert_allclose(np.abs(found.axes()[:, 0]), 1)


def test_streamlines_are_not_joined_to_each_other_and_leave_the_grid_quietly() -> None:
    points = np.array([[2, 2, 2], [4, 2, 2], [40, 40, 40], [42, 40, 40], [56, 2, 2], [90, 2, 2.0]])
    found = visits(points, np.array([0, 2, 4, 6]), AFFINE, GRID)
    middle = np.ravel_multi_index((10, 10, 10), GRID)
    assert middle not in found.voxels
    assert found.density.sum() == pytest.approx(2 + 2 + 3, abs=0.8)


def test_populations_merge_what_is_alike_and_keep_what_crosses() -> None:
    def dyad(axis):
        axis = np.asarray(axis, float) / np.linalg.norm(axis)
        return np.outer(axis, axis)

    tilted = (np.cos(np.radians(20)), np.sin(np.radians(20)), 0)
    found = Candidates(
        voxels=np.array([0, 0, 0, 1]),
        source=np.array([0, 1, 2, 0]),
        weight=np.array([0.6, 0.8, 0.5, 1.0]),
        dyads=np.stack([dyad((1, 0, 0)), dyad(tilted), dyad((0, 0, 1)), dyad((0, 1, 0))]),
        odi=np.full(4, 0.02),
    )
    mu, share, odi = populations(found, 2)
    np.testing.assert_allclose(share[0], [1 / 1.5, 0.5 / 1.5, 0], atol=1e-6)
    np.testing.assert_allclose(share[1], [1, 0, 0])
    assert abs(mu[0, 1] @ [0, 0, 1]) == pytest.approx(1)
    turned = np.degrees(np.arctan2(*np.abs(mu[0, 0, [1, 0]])))
    assert 10 < turned < 20  # between the two, nearer to the stronger
    assert odi[0, 0] > odi[1, 0] + 0.005  # two bundles 20 degrees apart are more dispersed than one
    assert odi[1, 0] == pytest.approx(0.02, abs=2e-3)


def test_a_crossing_holds_both_bundles(still: anatomy.Anatomy) -> None:
    still.tissue().check()
    crossing = at(still, (30, 30, 30))
    mu, share = still.mu[crossing], still.fraction[crossing]
    order = np.argsort(-share)
    assert share[order[1]] > 0.3 and share[order[2]] == 0
    assert sorted(np.abs(mu[order[:2]]).argmax(1)) == [0, 1]
    single = at(still, (10, 30, 30))
    assert still.fraction[single].max() > 0.85
    assert abs(still.mu[single][still.fraction[single].argmax()][0]) > 0.99


def test_tissue_around_bundles_is_plausible(still: anatomy.Anatomy) -> None:
    np.testing.assert_allclose((still.wm + still.gm + still.csf)[still.mask], 1, atol=1e-5)
    assert still.wm[at(still, (30, 30, 30))] > 0.9
    assert still.gm[at(still, (-3, 30, 30))] > 0.5 and still.gm[at(still, (63, 30, 30))] > 0.5
    assert still.csf[at(still, (45, 30, 39))] > 0.9
    assert not still.mask[0].any() and not still.mask[:, :, -1].any()


def test_truth_of_a_bundle(still: anatomy.Anatomy) -> None:
    across = still.bundles["across"]
    assert len(across.streamlines) == 40
    begin, end = across.endings
    assert begin[at(still, (0, 30, 30))] != end[at(still, (0, 30, 30))]
    assert not (begin & end).any()
    for line in across.streamlines:
        assert begin[at(still, line[0])] and end[at(still, line[-1])]
        assert all(across.mask[at(still, p)] for p in line[1:-1])
    np.testing.assert_allclose(
        np.abs(across.orientation[at(still, (20, 30, 30))]), [1, 0, 0], atol=0.01
    )


def test_streamlines_are_turned_to_begin_at_one_end() -> None:
    lines = straight((0, 0, 0), (40, 10, 0), count=30)
    mixed = [line[::-1] if i % 3 == 0 else line for i, line in enumerate(lines)]
    first = np.array([line[0] for line in one_way(mixed)])
    assert np.ptp(first, axis=0).max() < 12
    begin, end = end_regions(one_way(mixed), AFFINE, GRID)
    assert not (begin & end).any()


def test_ends_that_overlap_belong_to_the_nearer_side() -> None:
    lines = [np.array([[8.0, 8, 8], [30, 30, 30], [11.0, 8, 8]])] * 5
    begin, end = end_regions(lines, AFFINE, GRID)
    assert begin.any() and end.any() and not (begin & end).any()


def test_the_seed_decides(folder: Path) -> None:
    one, two, other = (from_bundles(folder, seed=s, voxel_size=4.0) for s in (5, 5, 6))
    for name in ("mu", "fraction", "odi", "wm"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.mask.shape != other.mask.shape or (one.mu != other.mu).any()
    kept = [len(b.streamlines) for b in one.bundles.values()]
    assert all(20 <= k <= 40 for k in kept) and len(set(kept)) > 1
    before = from_bundles(folder, seed=5, thin=(1, 1), amplitude=0, voxel_size=4.0)
    moved = one.bundles["across"].streamlines[0]
    nearest = min(
        np.linalg.norm(line - moved, axis=1).mean() for line in before.bundles["across"].streamlines
    )
    assert nearest > 0.3


def test_fibres_follow_bent_streamlines(folder: Path) -> None:
    bent = from_bundles(folder, seed=2, amplitude=6.0, voxel_size=3.0)
    bent.tissue().check()
    for bundle in bent.bundles.values():
        cosines = []
        for line in bundle.streamlines:
            step = np.gradient(line, axis=0)
            step /= np.linalg.norm(step, axis=1, keepdims=True)
            for point, direction in zip(line[2:-2], step[2:-2]):
                v = at(bent, point)
                cosines.append((np.abs(bent.mu[v] @ direction) * (bent.fraction[v] > 0)).max())
        assert np.mean(cosines) > 0.97


def test_regrid_keeps_world_places_and_amounts(head: anatomy.Anatomy) -> None:
    for size in (3.0, 6.5):
        made = regrid(head, size)
        made.tissue().check()
        np.testing.assert_allclose(np.linalg.norm(made.affine[:3, :3], axis=0), size)
        for name in ("wm", "csf"):
            old = getattr(head, name)
            litres = [a.sum() * s**3 for a, s in ((old, 4.0), (getattr(made, name), size))]
            assert litres[1] == pytest.approx(litres[0], rel=0.06)
            centre = [
                np.average(np.argwhere(m.mask), axis=0, weights=getattr(m, name)[m.mask])
                @ m.affine[:3, :3]
                + m.affine[:3, 3]
                for m in (head, made)
            ]
            assert np.abs(centre[0] - centre[1]).max() < 1.0


def test_a_scan_of_bundles(still: anatomy.Anatomy) -> None:
    made = simulate(still, protocol="dti12", snr=float("inf"))
    across = at(still, (12, 30, 30))
    b0, rest = made.dwi.data[across][made.dwi.gradients.b0_mask].mean(), made.dwi.data[across]
    cosine = np.abs(made.dwi.gradients.directions[:, 0])
    weighted = ~made.dwi.gradients.b0_mask
    assert np.corrcoef(cosine[weighted] ** 2, rest[weighted] / b0)[0, 1] < -0.9
    v1 = made.truth["dti_v1"].data[across]
    assert abs(v1[0]) > 0.99


def test_a_real_anatomy_gives_its_bundles_tissue(subject_folder: Path, tmp_path: Path) -> None:
    subject = anatomy.from_subject(subject_folder)
    for name in ("CST_left", "UF_right"):
        bundle = subject.bundles[name]
        points = np.concatenate(bundle.streamlines)
        voxel = np.rint((points - subject.affine[:3, 3]) @ np.linalg.inv(subject.affine[:3, :3]).T)
        assert bundle.mask[tuple(voxel.astype(int).T)].mean() > 0.97
        lines = Tractogram.from_list(bundle.streamlines, subject.affine, subject.grid)
        save_tractogram(lines, tmp_path / f"{name}.trk")
    made = from_bundles(tmp_path, anatomy=subject, seed=1)
    made.tissue().check()
    assert set(made.bundles) == {"CST_left", "UF_right"} and made.grid == subject.grid
    points = np.concatenate([line[3:-3] for line in made.bundles["CST_left"].streamlines])
    assert np.median([made.wm[at(made, p)] for p in points[::97]]) > 0.8
    # Between the bundles there is more than one fibre, from the anatomy.
    free = made.mask & (made.wm > 0.7) & ~made.bundles["CST_left"].mask
    assert (made.fraction[free] > 0).sum(1).mean() > 1.2


def test_the_folders_that_belong_to_an_anatomy(tmp_path: Path) -> None:
    from fornix.physics.bundles import _home

    inside = tmp_path / "bundles72" / "TOM_trackings"
    for made in (tmp_path / "bedpostx", inside, tmp_path / "mine"):
        made.mkdir(parents=True)
    assert _home(tmp_path) == _home(inside.parent) == _home(inside) == tmp_path
    assert _home(tmp_path / "mine") is None  # lies beside it, but is not its own


def test_bad_folders_are_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FornixError, match="not a folder"):
        from_bundles(tmp_path / "missing")
    with pytest.raises(FornixError, match="holds no bundle"):
        from_bundles(tmp_path)
    with pytest.raises(FornixError, match="thin"):
        from_bundles(folder, thin=(0.9, 0.1))
    (tmp_path / "bad.trk").write_bytes(b"nothing")
    with pytest.raises(FornixError, match=r"bad\.trk is not a readable tractogram"):
        from_bundles(tmp_path)
    (tmp_path / "bad.trk").unlink()
    save_tractogram(Tractogram.from_list([], AFFINE, GRID), tmp_path / "none.trx")
    with pytest.raises(FornixError, match=r"none\.trx holds no streamline"):
        from_bundles(tmp_path)


def test_bundles_of_another_head_are_told(tmp_path: Path, head: anatomy.Anatomy) -> None:
    far = straight((1000, 0, 0), (1050, 0, 0))
    save_tractogram(Tractogram.from_list(far, AFFINE, GRID), tmp_path / "far.trx")
    with pytest.raises(FornixError, match="bundle far: 100% of its points lie outside"):
        from_bundles(tmp_path, anatomy=head)
