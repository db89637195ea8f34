"""The network of fibre orientations: turns with the head exactly, learns, and says what it knows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fornix.core import harmonics
from fornix.learn import fod_stream, weights
from fornix.learn.features import extract
from fornix.learn.fod_network import PARTS, FodAnswer, FodNetwork, quadrature
from fornix.learn.fod_peaks import PeakTrust, describe
from fornix.learn.fod_stream import FodStream, crossings
from fornix.learn.fod_task import fod_loss
from fornix.learn.fod_truth import LEAST_ODI, true_axes, true_fod
from fornix.learn.make import make
from fornix.learn.recipes import RECIPES
from fornix.physics import anatomy, random_tissue
from fornix.physics.anatomy import Anatomy
from fornix.physics.protocol import scheme

from .test_features import turned


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """A head of large voxels, made once."""
    monkeypatch.setattr(fod_stream, "source_anatomy", lambda folder, seed: small_head())


@lru_cache(maxsize=1)
def small_head() -> Anatomy:
    return anatomy.embedded(8.0, 1)


@pytest.mark.parametrize("name", ["dti6", "bench96"])
def test_the_network_is_equivariant(name):
    """The whole way from signals, and the network alone with layers that speak up."""
    rotation, (a, seen_a), (b, seen_b) = turned(name)
    network = FodNetwork(width=64, depth=2).eval()
    with torch.no_grad():
        for layer in network.layers:
            layer.back.weight.mul_(5)  # as after training: products matter
        one, two = (network(f, f.invariants) for f in (extract(a, seen_a), extract(b, seen_b)))
        still = FodNetwork(width=64, depth=2).eval()
        still.load_state_dict(network.state_dict())
        for layer in still.layers:
            layer.back.weight.zero_()
        features = extract(a, seen_a)
        assert (still(features, features.invariants).fod - one.fod).abs().max() > 0.1
    wigner = torch.from_numpy(harmonics.rotation_matrix(8, rotation)).float()
    assert one.fod[:, 1:].abs().max() > 0.1
    torch.testing.assert_close(two.fod, one.fod @ wigner.T, atol=1e-4, rtol=0)
    for part in ("floor", "share", "tissue"):
        torch.testing.assert_close(getattr(two, part), getattr(one, part), atol=1e-5, rtol=0)


def test_quadrature_is_exact_to_its_degree():
    """Integrals of products of harmonics are 0 and 1: exactly up to the degree, not far above it."""
    points, weight = quadrature(24)
    basis = harmonics.evaluate(12, points)
    np.testing.assert_allclose(basis.T @ (weight[:, None] * basis), np.eye(91), atol=1e-12)
    above = harmonics.evaluate(16, points)
    assert np.abs(above.T @ (weight[:, None] * above) - np.eye(153)).max() > 0.01


def test_truth_points_along_its_fibres_and_integrates_to_the_neural_share():
    tissue = random_tissue(200, seed=2)
    one = tissue.with_(
        fraction=torch.tensor([[1.0, 0, 0]]).expand(200, 3), odi=torch.full((200, 3), 0.02)
    )
    fod = true_fod(one)
    torch.testing.assert_close(fod[:, 0] * (4 * np.pi) ** 0.5, one.neural, atol=1e-5, rtol=1e-5)
    along = (harmonics.evaluate_torch(8, one.mu[:, 0]) * fod).sum(1)
    grid = torch.from_numpy(harmonics.evaluate(8, quadrature(24)[0])).float()
    assert bool((along >= (fod @ grid.T).amax(1) - 1e-4).all())
    # The least dispersion keeps the ringing small.
    assert bool(((fod @ grid.T).amin(1) > -0.06 * along).all())
    other = true_fod(one.with_(odi=torch.full((200, 3), LEAST_ODI)))
    torch.testing.assert_close(fod, other)


def test_truth_turns_with_the_tissue():
    tissue = random_tissue(50, seed=1)
    rotation = Rotation.random(random_state=0).as_matrix()
    wigner = torch.from_numpy(harmonics.rotation_matrix(8, rotation)).float()
    turned_fod = true_fod(tissue.rotated(torch.from_numpy(rotation).float()))
    torch.testing.assert_close(turned_fod, true_fod(tissue) @ wigner.T, atol=1e-4, rtol=0)


def test_only_fibres_that_can_be_seen_are_asked_for():
    tissue = crossings(500, np.random.default_rng(0)).check()
    _, real = true_axes(tissue)
    assert bool((real <= (tissue.fraction > 0)).all())
    assert set(real.sum(1).tolist()) == {1, 2, 3}
    _, none = true_axes(tissue.with_(odi=torch.ones_like(tissue.odi)))
    assert not bool(none.any())


def test_crossings_meet_at_every_angle():
    tissue = crossings(4000, np.random.default_rng(0))
    cosine = (tissue.mu[:, 0] * tissue.mu[:, 1]).sum(1).abs().clamp(max=1)
    degrees = torch.rad2deg(torch.arccos(cosine))
    held = torch.histc(degrees, 5, 15, 90) / 4000
    assert float(degrees.min()) > 14.9 and float((held - 0.2).abs().max()) < 0.03


def test_streams_repeat_and_hold_their_own_truth():
    one, two = (FodStream(None, heads=1, seed=3, device="cpu") for _ in range(2))
    gradients = scheme("dti12")
    a, b = one.batch(200, gradients), two.batch(200, gradients)
    torch.testing.assert_close(a.seen.projected, b.seen.projected)
    torch.testing.assert_close(a.voxels.fod, true_fod(a.voxels.tissue))
    torch.testing.assert_close(a.voxels.share[:, 2], a.voxels.tissue.fwf)
    divided = a.voxels.divided
    torch.testing.assert_close(a.voxels.share[divided].sum(1), torch.ones(int(divided.sum())))


def test_the_loss_is_least_at_the_truth():
    batch = FodStream(None, heads=1, seed=4, device="cpu").batch(300)
    network = FodNetwork(32, 1)

    def parts(change: float) -> dict[str, float]:
        right = FodAnswer(
            batch.voxels.fod + change, torch.full((300,), 0.05), torch.full((300,), 0.05),
            batch.voxels.share,
        )  # fmt: skip
        return fod_loss(right, batch, network.basis, network.weights)[1]

    right, wrong = parts(0.0), parts(0.05)
    assert right["amplitude"] == 0 and right["tissue"] < 1e-6
    assert wrong["amplitude"] == pytest.approx(45 * 0.05**2, rel=1e-3)
    assert wrong["spread"] > right["spread"] and wrong["negative"] > right["negative"]


def test_a_tiny_training_learns_and_ends_in_weights_that_load(tmp_path, monkeypatch):
    small = replace(
        RECIPES["fod"], width=32, depth=1, batch=128, bank=1, steps=60, renew=1000, rate=1e-2
    )
    monkeypatch.setitem(RECIPES, "fod", small)
    folder = tmp_path / "weights"
    path = make("fod", tmp_path / "work", folder=folder, protocols=3, tell=lambda line: None)
    made = weights.network(weights.load("fod", folder))
    assert isinstance(made, FodNetwork)
    assert "crossings" in path.with_suffix(".md").read_text()
    batch = FodStream(None, heads=1, seed=9, device="cpu").batch(400, scheme("bench96"))
    features = extract(batch.observer, batch.seen)
    with torch.no_grad():
        fod = made(features, features.invariants).fod
    # Better than saying the same of all voxels in every direction.
    mean = torch.zeros_like(fod)
    mean[:, 0] = batch.voxels.fod[:, 0].mean()
    truth = batch.voxels.fod
    assert (fod - truth).square().sum() < 0.8 * (mean - truth).square().sum()
    trust = PeakTrust.from_state(weights.load("fod", folder).groups["peaks"])
    assert trust.exists.shape == trust.angle.shape


def test_parts_cover_all_harmonics():
    ells, _ = harmonics.orders(8)
    for i, part in enumerate(PARTS):
        assert set(ells[part]) == {2 * i}


def test_peak_trust_is_calibrated_where_the_truth_is_known():
    """Peaks that exist by a known chance, at angles of a known spread."""
    rng = np.random.default_rng(0)
    count = 20_000
    amplitude = np.sort(np.exp(rng.normal(0, 0.7, (count, 2))), axis=1)[:, ::-1]
    std = np.full_like(amplitude, 0.5)
    width = rng.uniform(8, 30, amplitude.shape)
    numbers = describe(amplitude, std, 1.5 * amplitude, width).reshape(-1, 6)
    chance = 1 / (1 + np.exp(-2 * numbers[:, 1]))
    spread = 4 * np.exp(-0.7 * numbers[:, 1])
    angle = np.abs(rng.normal(0, spread))
    angle[rng.random(len(angle)) > chance] = np.nan
    trust = PeakTrust.fit(numbers[:30_000], angle[:30_000])
    numbers, angle, chance = numbers[30_000:], angle[30_000:], chance[30_000:]
    assert np.abs(trust.probability(numbers) - chance).mean() < 0.02
    true = np.isfinite(angle)
    inside = angle[true] <= trust.cone95(numbers[true])
    assert 0.93 < inside.mean() < 0.97
    # In the wide and in the narrow half alike.
    wide = trust.cone95(numbers[true]) > np.median(trust.cone95(numbers[true]))
    assert 0.92 < inside[wide].mean() < 0.98 and 0.92 < inside[~wide].mean() < 0.98
