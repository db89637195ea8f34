"""Filtering: features are the same however a head lies, and the best are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fornix
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, FornixWarning
from fornix.core.gradients import Gradients
from fornix.core.maps import Map, Maps
from fornix.core.tractogram import Tractogram
from fornix.numerics import harmonics
from fornix.tractography.filtering import _kernels as kernels
from fornix.tractography.filtering.features import ALONG, POINTS, WHOLE, Features, _scales
from fornix.tractography.filtering.filter import check_choice, chosen, observe, score_streamlines
from fornix.tractography.filtering.network import Plausibility, judge
from fornix.training.tasks.plausibility import auc, fit_network


@pytest.fixture(scope="module")
def scene(corridor):
    """The corridor as a scan with maps, and streamlines along and across it."""
    affine = corridor.affine
    dwi = DWI(np.ones((*corridor.grid, 1), np.float32), Gradients(np.zeros(1), np.zeros((1, 3))),
              affine, mask=np.ones(corridor.grid, bool))  # fmt: skip
    maps = Maps({"fod": Map("", "fod", corridor.fod, affine)})
    rng = np.random.default_rng(0)
    bends = np.linspace(0, 1, 30)[:, None] * [44.0, 0, 0]
    lines = [bends + [1, *rng.uniform(6, 12, 2)] for _ in range(20)]
    for line in lines[:5]:
        line[:, 1] += 4 * np.sin(np.linspace(0, 9, 30))
    return dwi, maps, corridor.tissue, Tractogram.from_list(lines, affine, corridor.grid)


def moved(scene, turn):
    """The same head in another position: world axes turned, FOD with them."""
    dwi, maps, tissue, made = scene
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, [30, -20, 7]
    placed = affine @ dwi.affine
    fod = maps["fod"].data @ harmonics.rotation_matrix(8, turn).T.astype(np.float32)
    scan = DWI(dwi.data, dwi.gradients, placed, mask=dwi.mask)
    points = made.points @ turn.T + affine[:3, 3]
    lines = Tractogram(points, made.offsets, placed, made.grid)
    return scan, Maps({"fod": Map("", "fod", fod.astype(np.float32), placed)}), tissue, lines


def features_of(scene):
    dwi, maps, tissue, made = scene
    return observe(made, dwi, maps, tissue=tissue, threads=1)[0]


def test_amplitude_along_a_direction_is_that_of_the_harmonics():
    rng = np.random.default_rng(1)
    coefficients = rng.standard_normal((1, 45)).astype(np.float32)
    u = rng.standard_normal((1, 12, 3)).astype(np.float32)
    u /= np.linalg.norm(u, axis=-1, keepdims=True)
    lookup = np.zeros((1, 1, 1), np.int32)
    found = kernels.amplitudes_along(lookup, coefficients, _scales(8), np.zeros_like(u), u)
    np.testing.assert_allclose(found[0], harmonics.evaluate(8, u[0]) @ coefficients[0], atol=1e-4)


def test_resampling_is_even_and_keeps_the_ends():
    line = np.array([[0, 0, 0], [1, 0, 0], [1, 3, 0]], np.float32)
    points, lengths = kernels.resample(line, np.array([0, 3, 3]), 5)
    np.testing.assert_allclose(lengths, [4, 0])
    want = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 2, 0], [1, 3, 0]]
    np.testing.assert_allclose(points[0], want, atol=1e-6)


def test_a_head_that_lies_otherwise_shows_the_same(scene):
    turn, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    before, after = features_of(scene), features_of(moved(scene, turn))
    np.testing.assert_allclose(after.along, before.along, atol=0.02)
    np.testing.assert_allclose(after.whole, before.whole, atol=0.02)


def test_turning_a_streamline_round_changes_no_judgement(scene):
    dwi, maps, tissue, made = scene
    back = Tractogram.from_list([line[::-1] for line in made], made.affine, made.grid)
    there, here = features_of(scene), features_of((dwi, maps, tissue, back))
    np.testing.assert_allclose(here.along, there.along[:, ::-1], atol=1e-3)
    torch.manual_seed(0)
    network = Plausibility().eval()
    np.testing.assert_allclose(
        judge(here, network=network), judge(there, network=network), atol=1e-4
    )


def test_features_say_what_they_are_called(scene):
    seen = features_of(scene)
    along = {n: seen.along[..., i] for i, n in enumerate(ALONG)}
    whole = {n: seen.whole[:, i] for i, n in enumerate(WHOLE)}
    assert (along["curvature"][:5].mean(1) > 10 * along["curvature"][5:].mean()).all()
    assert (along["amplitude"][5:, 5:-5] > along["amplitude"][:5, 5:-5].mean()).all()
    assert (along["gm"][:, 0] > 0.9).all() and (along["wm"][5:, POINTS // 2] > 0.9).all()
    np.testing.assert_allclose(whole["length"][5:], np.log(44 / 60), atol=1e-3)
    np.testing.assert_allclose(whole["straightness"][5:], 1, atol=1e-3)


def test_the_network_learns_what_can_be_seen():
    """True where the amplitude is high all along: a rule of one feature, on unseen streamlines."""
    rng = np.random.default_rng(0)

    def draw(n):
        along = rng.standard_normal((n, POINTS, len(ALONG))).astype(np.float32)
        true = rng.random(n) < 0.5
        along[..., 0] += np.where(true, 0.5, -0.5)[:, None]
        return Features(along, rng.standard_normal((n, len(WHOLE))).astype(np.float32)), true

    state = torch.get_rng_state()
    network, log = fit_network(draw(2000), draw(300), epochs=20, tell=lambda _: None)
    assert torch.equal(state, torch.get_rng_state())
    seen, true = draw(1000)
    assert auc(judge(seen, network=network), true) > 0.97
    assert log[-1]["held_out_loss"] < 0.4


def test_auc_of_known_rankings():
    true = np.array([True, True, False, False])
    assert auc(np.array([4.0, 3, 2, 1]), true) == 1
    assert auc(np.array([1.0, 1, 1, 1]), true) == 0.5
    assert auc(np.array([4.0, 1, 2, 3]), true) == 0.5


def test_the_best_are_kept():
    scores = np.array([0.9, 0.1, 0.5, 0.6, 0.5], np.float32)
    assert chosen(scores, "plausibility").tolist() == [0, 3]
    assert chosen(scores, "plausibility", threshold=0.05).tolist() == [0, 1, 2, 3, 4]
    assert chosen(scores, "plausibility", keep=0.6).tolist() == [0, 2, 3]
    assert chosen(np.array([0, 2.0]), "weight").tolist() == [1]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("colour", None, None), "cannot be kept by 'colour'"),
        (("weight", 0.5, 0.5), "not both"),
        (("weight", None, 0.0), "above 0"),
        (("weight", None, 1.5), "up to 1"),
        (("weight", -1.0, None), "0 or more"),
    ],
)
def test_impossible_choices_are_told(asked, words):
    with pytest.raises(FornixError, match=words):
        check_choice(*asked)


def test_nothing_left_is_told():
    with pytest.raises(FornixError, match=r"at most 0\.4 and more than 0\.5"):
        chosen(np.array([0.2, 0.4], np.float32), "plausibility")


def test_bad_input_is_told(scene):
    dwi, maps, tissue, made = scene
    empty = made.subset(np.zeros(len(made), bool))
    far = Tractogram(made.points + 1000, made.offsets, made.affine, made.grid)
    for lines, known, words in [
        (empty, maps, "no streamline"), (far, maps, "another head"), (made, Maps(), "no FOD"),
    ]:  # fmt: skip
        with pytest.raises(FornixError, match=words):
            score_streamlines(lines, dwi, known, tissue=tissue)


def test_scores_stay_with_the_streamlines_in_the_file(scene, tmp_path):
    dwi, maps, tissue, made = scene
    named = Tractogram(made.points, made.offsets, made.affine, made.grid,
                       {"number": np.arange(len(made), dtype=np.float32)})  # fmt: skip
    few = "among 20 streamlines only"
    with pytest.warns(FornixWarning, match=few):
        every = score_streamlines(named, dwi, maps, tissue=tissue, threads=1)
    with pytest.warns(FornixWarning, match=few):
        kept = fornix.filter_tractogram(named, dwi, maps, keep=0.3, tissue=tissue, threads=1)
    assert len(kept) == 6
    path = fornix.save_tractogram(kept, tmp_path / "kept.trx")
    again = fornix.io.load_tractogram(path)
    which = again.per_streamline["number"].astype(int)
    for name in ("plausibility", "weight", "support"):
        np.testing.assert_array_equal(again.per_streamline[name], every.per_streamline[name][which])
    lost = np.setdiff1d(np.arange(20), which)
    scores = every.per_streamline["plausibility"]
    assert scores[which].min() >= scores[lost].max()


def test_threads_change_nothing(scene):
    dwi, maps, tissue, made = scene
    one, two = (observe(made, dwi, maps, tissue=tissue, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one[0].along, two[0].along)
    np.testing.assert_array_equal(one[0].whole, two[0].whole)
    np.testing.assert_array_equal(one[1].weight, two[1].weight)
