"""The learned tracker: observations rotate with the subject, samples follow the logits, criteria hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.io import save_tractogram
from fornix.nets import weights
from fornix.numerics import harmonics
from fornix.tractography._kernel_arguments import MlpWeights
from fornix.tractography.fields import Field
from fornix.tractography.learned._policy_kernels import (
    BACK,
    END,
    FEATURES,
    OUTPUTS,
    TRUE,
    TURNS,
    forward_mlp,
    observe_states,
    rotate_frame,
    sample_end,
    sample_turn,
)
from fornix.tractography.learned.limits import Policy
from fornix.tractography.learned.policy import PolicyNetwork, shipped
from fornix.tractography.tissue_fractions import TissueFractions
from fornix.training import tracking_recipes as recipes
from fornix.training.data.filter_phantoms import ScanSpec
from fornix.training.data.policy_dataset import (
    Expert,
    TrackedStreamlines,
    frames_about,
    policy_states,
    reference_states,
    reference_streamlines,
)
from fornix.training.tasks import policy as policy_training

AFFINE = np.diag([2.0, 2, 2, 1])


def straight(sharpness: float = 1.0, end: float = 0.5) -> Policy:
    """Goes straight ahead; ends where grey matter passes a half."""
    rng = np.random.default_rng(0)
    first, second = np.zeros((FEATURES, 8), np.float32), np.eye(8, dtype=np.float32)
    first[1, 0] = 1
    third = np.zeros((8, OUTPUTS), np.float32)
    third[0, END] = 80
    bias = rng.normal(0, 0.1, OUTPUTS).astype(np.float32)
    bias[0], bias[END], bias[TRUE] = 6, -40, 5
    none = np.zeros(8, np.float32)
    return Policy(MlpWeights(first, none, second, none, third, bias), sharpness, end)


def observed(field: Field, places, frames, paths):
    lengths = np.full(len(places), 30.0, np.float32)
    return observe_states(
        field.arrays(angle=30.0), 1 / field.typical, places.astype(np.float32),
        frames.astype(np.float32), paths.astype(np.float32), lengths,
    )  # fmt: skip


def test_observations_rotate_with_the_subject():
    """Turned by 90 degrees in its grid: the same FOD, places and frames give the same numbers."""
    rng = np.random.default_rng(2)
    grid, affine = (9, 9, 9), np.diag([2.0, 2.0, 2.0, 1.0])
    fod = np.zeros((*grid, 6), np.float32)
    fod[..., 0] = 1
    fod[..., 1:] = 0.3 * rng.standard_normal((*grid, 5))
    parts = rng.dirichlet([4, 1, 1], grid).astype(np.float32)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    middle = np.full(3, 8.0)
    places = middle + rng.uniform(-3, 3, (20, 3))
    heading = rng.standard_normal((20, 3))
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    frames = frames_about(heading, rng=rng)
    paths = places[:, None] + rng.normal(0, 5, (20, len(BACK), 3))

    def tissue(values):
        return TissueFractions(*(np.ascontiguousarray(values[..., i]) for i in range(3)))

    def turned(coefficients):
        moved = np.ascontiguousarray(np.rot90(coefficients, 1, (0, 1)))
        field = Field.of(moved, affine, tissue(np.rot90(parts, 1, (0, 1))))
        return observed(
            field,
            (places - middle) @ turn.T + middle,
            frames @ turn.T,
            (paths - middle) @ turn.T + middle,
        )

    there = observed(Field.of(fod, affine, tissue(parts)), places, frames, paths)
    here = turned(fod @ harmonics.rotation_matrix(2, turn).T)
    # Read on axes seven degrees apart; an FOD that is not rotated differs by much more.
    assert np.abs(here - there).max() < 0.12
    assert np.abs(turned(fod) - there).max() > 0.6
    np.testing.assert_allclose(here[:, :3], there[:, :3], atol=1e-5)


def test_the_compiled_network_is_torchs():
    torch.manual_seed(0)
    network = PolicyNetwork(16)
    features = torch.randn(50, FEATURES) * 3 + 1
    network.standardise(features)
    logits, a, b = np.empty(OUTPUTS, np.float32), np.empty(16, np.float32), np.empty(16, np.float32)
    forward_mlp(features[7].numpy(), network.mlp_weights(), a, b, logits)
    np.testing.assert_allclose(logits, network(features)[7].detach(), atol=1e-5)


def test_turns_are_drawn_as_often_as_they_are_likely():
    frame, chance, to = np.eye(3), np.empty(len(TURNS)), np.empty(3)
    logits = np.full(OUTPUTS, -30, np.float32)
    left, right = TURNS[:, 1].argmax(), TURNS[:, 1].argmin()
    logits[left], logits[right] = np.log(0.7), np.log(0.3)
    state, turns = np.uint64(3), []
    for _ in range(4000):
        state, log_probability = sample_turn(logits, frame, 0.0, 1.0, np.uint64(state), chance, to)
        turns.append(to[1] > 0)
        assert abs(log_probability - np.log(0.7 if to[1] > 0 else 0.3)) < 1e-5
    assert abs(np.mean(turns) - 0.7) < 0.03
    sample_turn(logits, frame, np.cos(np.radians(20)), 0.0, np.uint64(state), chance, to)
    assert to[1] > 0 and np.isclose(np.degrees(np.arccos(to[0])), 20)  # the best, cut to the angle


def test_ends_are_drawn_by_the_step():
    state, ended = np.uint64(5), []
    for _ in range(4000):
        now, state = sample_end(0.0, True, 0.75, np.uint64(state))
        ended.append(now)
    assert abs(np.mean(ended) - (1 - np.sqrt(0.5))) < 0.03
    assert (
        sample_end(0.1, False, 1.0, np.uint64(1))[0]
        and not sample_end(-0.1, False, 1.0, np.uint64(1))[0]
    )


def test_a_frame_rotates_without_a_twist():
    rng = np.random.default_rng(4)
    frame = frames_about(np.array([[0.0, 0, 1]]), rng=rng)[0]
    still = frame.copy()
    for angle in np.linspace(0, 2 * np.pi, 60)[1:]:
        rotate_frame(frame, np.array([np.sin(angle), 0, np.cos(angle)]))
        np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(frame, still, atol=1e-9)  # once round in a plane and back


def test_any_threads_and_counts_give_the_same_streamlines(corridor):
    network = PolicyNetwork(16)
    torch.manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    policy = Policy(network.mlp_weights(), 1.0, 1.0, -99, -99)
    options = {"policy": policy, "criteria": {"act_ends": False, "min_length": 2}}
    one = corridor.track("learned", count=3000, **options)
    two = corridor.track("learned", count=3000, threads=2, **options)
    few = corridor.track("learned", count=200, **options)
    np.testing.assert_array_equal(one.points, two.points)
    np.testing.assert_array_equal(one.points[: len(few.points)], few.points)
    other = corridor.track("learned", count=3000, seed=2, **options)
    assert other.points.shape != one.points.shape


def test_the_criteria_hold(corridor):
    gate, wall = corridor.mask(12, slice(0, 7)), corridor.mask(18)
    half = corridor.mask(slice(None), slice(0, 5))
    tractogram = corridor.track(
        "learned", {"include": [gate], "exclude": [half], "stop": [wall], "max_length": 60},
        policy=straight(), count=100,
    )  # fmt: skip
    assert len(tractogram) == 100 and tractogram.lengths().max() <= 60
    for line in tractogram:
        x, y, _ = np.floor(line / 2 + 0.5).astype(int).T
        assert (y >= 5).all() and ((x == 12) & (y < 7)).any() and x.max() <= 18


def test_unlikely_streamlines_are_given_up(corridor):
    policy = straight()
    policy.mlp.third_bias[TRUE] = -10
    with pytest.raises(FornixError, match="unlikely to be a whole fibre"):
        corridor.track("learned", policy=policy, count=5)


@pytest.fixture(scope="module")
def lines():
    """Two straight bundles side by side, along x."""
    rng = np.random.default_rng(0)
    along = np.linspace(0, 60, 25)[:, None] * [1.0, 0, 0]
    return {
        name: [along + [4, y, 12] + np.r_[0, rng.normal(0, 1, 2)] for _ in range(40)]
        for name, y in (("near", 8), ("far", 16))
    }


def test_reference_states_point_along_streamlines_and_back_to_them(lines):
    rng = np.random.default_rng(1)
    reference = reference_streamlines(lines, AFFINE, max_count=30, rng=rng)
    assert len(reference.bundle) == 60 and np.allclose(
        np.diff(reference.points[:5], axis=0), [1, 0, 0]
    )
    states = reference_states(reference, 4000, rng=rng)
    wanted = np.einsum("nkd,nk->nd", states.frames, states.turn)
    inside = states.known[:, 0] > 0
    assert np.abs(wanted[inside, 0]).mean() > 0.95
    np.testing.assert_allclose(np.linalg.norm(states.turn, axis=1), 1, atol=1e-5)
    x = states.places[:, 0]
    left = np.where(states.frames[:, 0, 0] > 0, 64 - x, x - 4)
    assert states.end[left < 0].mean() > 0.95 and states.end[left > 5].mean() < 0.02
    assert (np.abs(states.paths - states.places[:, None]).max((1, 2)) < 66).all()


def test_an_expert_follows_only_bundles_that_the_path_has_not_left(lines):
    reference = reference_streamlines(lines, AFFINE, max_count=30, rng=np.random.default_rng(1))
    expert, heading = Expert(reference), np.array([[-1.0, 0, 0]] * 3)
    places = np.array([[30.0, 12, 12], [30, 12, 12], [4.2, 8, 12]])
    alive = np.array([[True, False], [False, False], [True, True]])
    to, going, ends = expert.answer(places, heading, alive)
    assert going.tolist() == [True, False, False] and ends.tolist() == [False, False, True]
    assert to[0, 0] < -0.7 and to[0, 1] < 0  # on, and back towards the near one


def test_policy_states_know_whether_the_streamline_is_true(lines):
    rng = np.random.default_rng(1)
    reference = reference_streamlines(lines, AFFINE, max_count=30, rng=rng)
    points = np.full((2, 81, 3), 12.0, np.float32)
    points[:, :, 0] = np.arange(81) - 6.0
    points[0, :, 1], points[1, :, 1] = 8, 40  # in the near bundle, and in none
    inside = np.zeros((40, 30, 12, 2), bool)
    inside[:, 2:7, :, 0] = True
    tracked = TrackedStreamlines(points, np.array([[10, 70], [10, 70]]), np.array([True, False]))
    states = policy_states(tracked, inside, np.full(3, 2.0), Expert(reference), each=50, rng=rng)
    good = states.places[:, 1] < 20
    assert good.sum() == 50 and (states.true == good).all() and (states.known[:, 2] == 1).all()
    assert states.known[good, 0].mean() > 0.8 and not states.known[~good, :2].any()
    assert states.turn[good & (states.known[:, 0] > 0), 0].min() > 0.95


@pytest.mark.filterwarnings("ignore")
def test_a_tiny_training_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    along = np.linspace(0, 80, 40)[:, None] * [1.0, 0, 0]
    rng = np.random.default_rng(0)
    (tmp_path / "rods").mkdir()
    for name, y in (("left", -20), ("right", 20)):
        rod = [along + [0, y, 0] + rng.uniform(-8, 8, 3) for _ in range(100)]
        made = Tractogram.from_list(rod, np.eye(4), (10, 10, 10))
        save_tractogram(made, tmp_path / "rods" / f"{name}.tck")
    small = {
        "training": [ScanSpec(1, "dti12", 30)], "validation": [ScanSpec(2, "dti12", 30)],
        "states": 2000, "seeds": 100, "rounds": 1, "epochs": 2, "voxel_size": 4.0,
    }  # fmt: skip
    lines: list[str] = []
    work, folder = tmp_path / "work", tmp_path / "weights"
    path = policy_training.make(tmp_path / "rods", work, folder, tell=lines.append, **small)
    assert "fornix train policy" in path.with_suffix(".md").read_text()
    first, count = path.read_bytes(), len(lines)
    policy_training.make(tmp_path / "rods", work, folder, tell=lines.append, **small)
    assert len(lines) == count and path.read_bytes() == first  # nothing was left to do
    monkeypatch.setattr(weights, "load", lambda name: load(name, folder))
    shipped.cache_clear()
    assert shipped(best=True).sharpness == 0 < shipped().sharpness
    shipped.cache_clear()


load = weights.load


def test_training_without_bundles_says_what_is_missing(tmp_path: Path):
    with pytest.raises(FornixError, match="--anatomy"):
        recipes.make("policy", tmp_path, None, None, tmp_path)
