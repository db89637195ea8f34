"""Tractometer's measures on cases whose answer is counted by hand."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import fornix
from fornix.core.errors import FornixError, FornixWarning
from fornix.core.tractogram import Tractogram
from fornix.io import save_tractogram
from fornix.tractography.scoring.score import INVALID, NO_CONNECTION, VALID, score
from fornix.tractography.scoring.truth import BundleTruth, read_truth

GRID = (20, 20, 5)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -4], [0, 0, 2, 6], [0, 0, 0, 1]])


def truth() -> BundleTruth:
    """Two rows of voxels along x at y = 4 and y = 14, one voxel wide, ends at x = 2 and x = 17."""
    masks = np.zeros((2, *GRID), bool)
    begins, ends = masks.copy(), masks.copy()
    for i, y in enumerate((4, 14)):
        masks[i, 2:18, y, 2] = True
        begins[i, 2, y, 2] = ends[i, 17, y, 2] = True
    return BundleTruth(("low", "high"), masks, begins, ends, AFFINE)


def tractogram(*corners) -> Tractogram:
    """Streamlines through voxel coordinates."""
    lines = [np.asarray(c, float) @ AFFINE[:3, :3].T + AFFINE[:3, 3] for c in corners]
    return Tractogram.from_list(lines, AFFINE, GRID)


LOW = [(2, 4, 2), (17, 4, 2)]
HIGH = [(17, 14, 2), (2, 14, 2)]
CROSS = [(2, 4, 2), (17, 14, 2)]
SHORT = [(2, 4, 2), (12, 4, 2)]
BACK = [(2, 4, 2), (10, 4, 2), (2, 14, 2)]
STRAY = [(2, 4, 2), (9, 9, 2), (17, 4, 2)]


def exact(*lines, **more):
    return score(tractogram(*lines), truth(), **{"margin": 0, "end_margin": 0, **more})


def test_perfect():
    found = exact(LOW, HIGH)
    assert (found.valid, found.invalid, found.no_connection) == (100, 0, 0)
    assert (found.valid_bundles, found.invalid_bundles) == (2, 0)
    assert (found.overlap, found.overreach, found.f1) == (1, 0, 1)


def test_every_kind_at_once():
    found = exact(LOW, LOW[::-1], CROSS, SHORT, BACK, STRAY, HIGH, HIGH)
    assert found.kinds.tolist() == [
        VALID, VALID, INVALID, NO_CONNECTION, INVALID, INVALID, VALID, VALID
    ]  # fmt: skip
    assert found.valid == 50 and found.invalid == 37.5 and found.no_connection == 12.5
    assert found.wrong_path == 12.5
    # low begin – high end, and low begin – high begin; the stray one joins the right ends
    assert found.invalid_bundles == 2 and found.valid_bundles == 2
    assert [b.streamlines for b in found.bundles] == [2, 2]


def test_a_bundle_without_streamline_counts_as_zero():
    found = exact(LOW)
    assert found.valid_bundles == 1
    assert found.overlap == 0.5 and found.f1 == 0.5 and found.overreach == 0
    none = exact(SHORT)
    assert none.no_connection == 100 and none.f1 == 0 and none.overreach == 0


def test_overlap_and_overreach_are_counted_in_voxels():
    # One voxel aside between x = 6 and x = 11: out at x = 5.5 to 6, back at 11 to 11.5.
    aside = [(2, 4, 2), (6, 4, 2), (6, 5, 2), (11, 5, 2), (11, 4, 2), (17, 4, 2)]
    assert exact(aside).invalid == 100
    found = exact(aside, margin=2.0).bundles[0]
    # Found: x 2 to 6 and 11 to 17 in the row (12 of its 16), x 6 to 11 beside it (6).
    assert found.overlap == pytest.approx(12 / 16)
    assert found.overreach == pytest.approx(6 / 18)
    assert found.f1 == pytest.approx(2 * 12 / (18 + 16))


def test_margins():
    near = [(3, 4, 2), (16, 4, 2)]
    assert exact(near).no_connection == 100
    assert exact(near, end_margin=2.0).valid == 100
    assert exact(near, end_margin=1.9).no_connection == 100
    away = [(2, 4, 2), (9, 6, 2), (17, 4, 2)]
    assert exact(away, margin=2.0).wrong_path == 100
    assert exact(away, margin=4.0).valid == 100


def test_nested_bundles_both_get_the_streamline():
    whole = truth()
    nested = BundleTruth(
        ("low", "low again"), whole.masks[[0, 0]], whole.begins[[0, 0]], whole.ends[[0, 0]], AFFINE
    )
    found = score(tractogram(LOW), nested)
    assert found.valid == 100 and found.valid_bundles == 2
    assert [b.streamlines for b in found.bundles] == [1, 1]


def test_more_than_64_bundles():
    one = truth()
    names = tuple(f"b{i}" for i in range(70))
    pick = [0] * 69 + [1]
    many = BundleTruth(names, one.masks[pick], one.begins[pick], one.ends[pick], AFFINE)
    found = score(tractogram(HIGH, CROSS), many, margin=0, end_margin=0)
    assert found.bundles[69].streamlines == 1 and found.valid_bundles == 1
    assert found.kinds.tolist() == [VALID, INVALID] and found.invalid_bundles == 1


def test_threads_and_point_spacing_do_not_matter():
    rng = np.random.default_rng(0)
    lines = [
        [(2, 4, 2), (9.5, rng.uniform(3, 6), 2), (17, rng.choice([4, 14]), 2)] for _ in range(300)
    ]
    dense = [np.concatenate([np.linspace(a, b, 40) for a, b in pairwise(line)]) for line in lines]
    found = [
        exact(*some, margin=2.0, threads=n) for some, n in ((lines, 1), (lines, 2), (dense, 2))
    ]
    assert found[0].as_dict() == found[1].as_dict()
    assert found[0].kinds.tolist() == found[2].kinds.tolist()
    assert 10 < found[0].valid < 90


def test_streamlines_outside_the_volume():
    gone = [(2, 4, 2), (2, 4, 200)]
    with pytest.warns(FornixWarning, match="1 of 2 streamlines leave"):
        assert exact(LOW, gone).no_connection == 50
    with pytest.raises(FornixError, match="another head or space"):
        exact([(2, 4, 100), (2, 4, 200)])
    with pytest.raises(FornixError, match="nothing to score"):
        exact()


def test_the_truth_folder_round_trips(tmp_path: Path):
    from fornix.physics.anatomy import Bundle
    from fornix.tractography.scoring.truth import write_truth

    made = truth()
    lines = tractogram(LOW, HIGH)
    bundles = {
        name: Bundle(
            name,
            lambda i=i: (made.masks[i], np.zeros((*GRID, 3), np.float32)),
            lambda i=i: [lines[i]],
            lambda i=i: (made.begins[i], made.ends[i]),
        )
        for i, name in enumerate(made.names)
    }
    write_truth(bundles, AFFINE, tmp_path / "truth")
    again = read_truth(tmp_path)  # the folder above is found too
    assert again.names == made.names
    for field in ("masks", "begins", "ends"):
        np.testing.assert_array_equal(getattr(again, field), getattr(made, field))
    np.testing.assert_allclose(again.affine, AFFINE)
    index = json.loads((tmp_path / "truth" / "bundles.json").read_text())
    for entry in index["Bundles"]:  # streamlines instead of masks
        del entry["Mask"]
    (tmp_path / "truth" / "bundles.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(read_truth(tmp_path).masks, made.masks)
    for extension in ("trx", "tck", "trk"):
        path = save_tractogram(tractogram(LOW, CROSS), tmp_path / f"x.{extension}")
        assert fornix.score(path, tmp_path / "truth").valid == 50


def test_bad_truth_is_told(tmp_path: Path):
    with pytest.raises(FornixError, match=r"holds no bundles\.json"):
        read_truth(tmp_path)
    (tmp_path / "bundles.json").write_text('{"Bundles": [{"Name": "a"}]}')
    with pytest.raises(FornixError, match="needs Name, Begin, End"):
        read_truth(tmp_path)
    for name, shape in (("b", (4, 4, 4)), ("e", (5, 4, 4))):
        nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), tmp_path / f"{name}.nii.gz")
    entry = {"Name": "a", "Begin": "b.nii.gz", "End": "e.nii.gz", "Mask": "b.nii.gz"}
    (tmp_path / "bundles.json").write_text(json.dumps({"Bundles": [entry]}))
    with pytest.raises(FornixError, match="another grid"):
        read_truth(tmp_path)
    made = truth()
    with pytest.raises(FornixError, match="bundle high: its end region is empty"):
        BundleTruth(
            made.names, made.masks, made.begins, made.ends & [[[[True]]], [[[False]]]], AFFINE
        )
