"""The network of fibre orientations: turns with the head exactly, learns, and says what it knows."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fornix.nets import weights
from fornix.nets.build import build_network
from fornix.nets.features import extract
from fornix.nets.fod_net import DEGREE, PARTS, SPATIAL_VIEWS, FodNet, FodPrediction
from fornix.nets.neighbour_attention import NeighbourAttention, averages
from fornix.numerics import harmonics
from fornix.numerics.directions import quadrature
from fornix.physics import anatomy, random_tissue
from fornix.physics.anatomy import Anatomy
from fornix.physics.fod_truth import LEAST_ODI, nearness, true_axes, true_fod
from fornix.physics.protocol import scheme
from fornix.training.build import make
from fornix.training.data import fod_patches
from fornix.training.data import fod_voxels as fod_stream
from fornix.training.data.coherent_bundles import coherent
from fornix.training.data.crossings import crossings
from fornix.training.data.fod_patches import FodPatchStream
from fornix.training.data.fod_voxels import FodStream
from fornix.training.recipes import RECIPES
from fornix.training.tasks.fod import fod_loss
from fornix.training.tasks.fod_spatial import with_context
from fornix.uncertainty.peaks import PeakCalibration, describe
from helpers.streams import turned


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """A head of large voxels, made once."""
    for module in (fod_stream, fod_patches):
        monkeypatch.setattr(module, "source_anatomy", lambda folder, seed: small_head())


@lru_cache(maxsize=1)
def small_head() -> Anatomy:
    return anatomy.embedded(8.0, 1)


@pytest.mark.parametrize("name", ["dti6", "bench96"])
def test_the_network_is_equivariant(name):
    """The whole way from signals, and the network alone with layers that speak up."""
    rotation, (a, seen_a), (b, seen_b) = turned(name)
    network = FodNet(width=64, depth=2).eval()
    with torch.no_grad():
        for layer in network.layers:
            layer.back.weight.mul_(5)  # as after training: products matter
        one, two = (network(f, f.invariants) for f in (extract(a, seen_a), extract(b, seen_b)))
        still = FodNet(width=64, depth=2).eval()
        still.load_state_dict(network.state_dict())
        for layer in still.layers:
            layer.back.weight.zero_()
        features = extract(a, seen_a)
        assert (still(features, features.invariants).fod - one.fod).abs().max() > 0.1
    wigner = torch.from_numpy(harmonics.rotation_matrix(8, rotation)).float()
    assert one.fod[:, 1:].abs().max() > 0.1
    torch.testing.assert_close(two.fod, one.fod @ wigner.T, atol=1e-4, rtol=0)
    torch.testing.assert_close(two.fibre_logits, one.fibre_logits @ wigner.T, atol=2e-4, rtol=0)
    for part in ("std_floor", "std_relative", "tissue"):
        torch.testing.assert_close(getattr(two, part), getattr(one, part), atol=1e-5, rtol=0)


def test_quadrature_is_exact_to_its_degree():
    """Integrals of products of harmonics are 0 and 1: exactly up to the degree, not far above it."""
    points, weight = quadrature(DEGREE)
    assert len(points) == 97 and weight.min() > 0
    for left, right in ((14, 8), (10, 12)):
        a, b = harmonics.evaluate(left, points), harmonics.evaluate(right, points)
        np.testing.assert_allclose(
            a.T @ (weight[:, None] * b), np.eye(a.shape[1], b.shape[1]), atol=1e-12
        )
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
    grid = torch.from_numpy(harmonics.evaluate(8, quadrature(DEGREE)[0])).float()
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
    tissue = crossings(4000, np.random.default_rng(0)).check()
    cosine = (tissue.mu[:, 0] * tissue.mu[:, 1]).sum(1).abs().clamp(max=1)
    degrees = torch.rad2deg(torch.arccos(cosine))
    held = torch.histc(degrees, 5, 15, 90) / 4000
    assert float(degrees.min()) > 14.9 and float((held - 0.2).abs().max()) < 0.03


def test_fibres_of_a_scan_are_alike_and_those_of_two_are_not():
    """Some scans' diffusivities differ by little inside, and their middles differ between scans."""
    scans = [crossings(300, np.random.default_rng(k)).d_par[:, 0] for k in range(30)]
    inside = torch.stack([s.std() for s in scans])
    assert float(inside.min()) < 0.06 and float(inside.max()) > 0.2
    assert float(torch.stack([s.mean() for s in scans]).std()) > 0.15


def test_nearness_is_one_on_a_fibre_and_falls_with_the_angle():
    tissue = crossings(200, np.random.default_rng(1))
    one = tissue.with_(fraction=torch.tensor([[1.0, 0, 0]]).expand(200, 3))
    _, real = true_axes(one)
    kept = one[real[:, 0].nonzero()[:, 0]]
    points = torch.from_numpy(quadrature(DEGREE)[0]).float()
    near = nearness(kept, points)
    apart = torch.rad2deg(torch.arccos((kept.mu[:, 0] @ points.T).abs().clamp(max=1)))
    order = apart.argsort(1)
    assert bool((near.gather(1, order).diff(dim=1) <= 1e-6).all())
    assert bool((near[apart < 2] > 0.9).all()) and bool((near[apart > 25] < 0.01).all())
    along = torch.stack([nearness(kept[torch.tensor([k])], kept.mu[k, :1])[0, 0] for k in range(5)])
    torch.testing.assert_close(along, torch.ones(5), atol=1e-5, rtol=0)


def test_bundles_run_on_from_voxel_to_voxel():
    """Neighbours' axes differ by a few degrees, and a bundle's share may end at a face."""
    place = np.stack(np.meshgrid(*[np.arange(8) * 2.5] * 3, indexing="ij"), -1).reshape(-1, 3) - 10
    shares = []
    for seed in range(6):
        tissue = coherent(place, np.random.default_rng(seed)).check()
        mu = tissue.mu.view(8, 8, 8, 3, 3)
        cosine = (mu[1:] * mu[:-1]).sum(-1).abs().clamp(max=1)
        assert float(torch.rad2deg(torch.arccos(cosine)).max()) < 20
        shares.append(tissue.fraction[:, 1])
    spans = [float(s.max() - s.min()) for s in shares]
    assert max(spans) > 0.2


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

    def parts(change: float, constant: float) -> dict[str, float]:
        field = torch.zeros(300, 45)
        field[:, 0] = constant
        right = FodPrediction(
            batch.voxels.fod + change, torch.full((300,), 0.05), torch.full((300,), 0.05),
            batch.voxels.share, field,
        )  # fmt: skip
        return fod_loss(right, batch.voxels)[1]

    right, wrong = parts(0.0, -14.0), parts(0.05, 0.0)
    assert right["amplitude"] == 0 and right["tissue"] < 1e-6
    assert wrong["amplitude"] == pytest.approx(45 * 0.05**2, rel=1e-3)
    for part in ("spread", "negative", "field"):
        assert wrong[part] > right[part]


def test_a_tiny_training_learns_and_ends_in_weights_that_load(tmp_path, monkeypatch):
    small = replace(
        RECIPES["fod"], width=32, depth=1, batch=128, bank=1, steps=60, renew=1000, rate=1e-2
    )
    monkeypatch.setitem(RECIPES, "fod", small)
    folder = tmp_path / "weights"
    path = make("fod", tmp_path / "work", folder=folder, protocols=3, tell=lambda line: None)
    made = build_network(weights.load("fod", folder))
    assert isinstance(made, FodNet)
    assert "crossings" in path.with_suffix(".md").read_text()
    batch = FodStream(None, heads=1, seed=9, device="cpu").batch(400, scheme("bench96"))
    features = extract(batch.encoder, batch.seen)
    with torch.no_grad():
        fod = made(features, features.invariants).fod
    # Better than saying the same of all voxels in every direction.
    mean = torch.zeros_like(fod)
    mean[:, 0] = batch.voxels.fod[:, 0].mean()
    truth = batch.voxels.fod
    assert (fod - truth).square().sum() < 0.8 * (mean - truth).square().sum()
    trust = PeakCalibration.from_state(weights.load("fod", folder).groups["peaks"])
    assert trust.exists.shape == trust.angle.shape


def test_the_network_that_reads_neighbours_starts_as_the_other_on_their_average():
    narrow = FodNet(32, 1).eval()
    wide = FodNet(32, 1, SPATIAL_VIEWS).eval()
    wide.load_state_dict(with_context(narrow.state_dict()))
    batch = FodStream(None, heads=1, seed=5, device="cpu").batch(50, scheme("dti12"))
    seen, encoder = batch.seen, batch.encoder
    average = encoder.averaged(seen, 0.9 * seen.projected, 0.5 * seen.sigma)
    alone, both = extract(encoder, average), extract(encoder, seen, (average,))
    with torch.no_grad():
        one, two = narrow(alone, alone.invariants), wide(both, both.invariants)
    torch.testing.assert_close(one.fibre_logits, two.fibre_logits, atol=1e-4, rtol=1e-4)


def test_the_first_pass_of_the_context_is_the_same_alone():
    context = NeighbourAttention().eval()
    seen = FodPatchStream(None, heads=1, edge=6, seed=2, device="cpu").batch(1, scheme("dti12"))
    variance, place = seen.encoder.qspace.variance, seen.place[:, 1:].numpy()
    one = averages(context.first_pass(), seen.seen, variance, place, seen.size)
    both = averages(context, seen.seen, variance, place, seen.size)
    assert len(one) == 1 and len(both) == 2
    torch.testing.assert_close(one[0].projected, both[0].projected)


def test_a_tiny_training_with_neighbours(tmp_path, monkeypatch):
    small = replace(RECIPES["fod"], width=32, depth=1, batch=64, bank=1, steps=2)
    spatial = replace(RECIPES["fod-spatial"], width=32, depth=1, bank=1, steps=4)
    monkeypatch.setitem(RECIPES, "fod", small)
    monkeypatch.setitem(RECIPES, "fod-spatial", spatial)
    folder = tmp_path / "weights"
    weights.save(
        "context",
        {"net": NeighbourAttention().state_dict()},
        {"recipe": asdict(RECIPES["context"])},
        folder,
    )
    for name in ("fod", "fod-spatial"):
        path = make(name, tmp_path, folder=folder, protocols=6, tell=lambda line: None)
        assert isinstance(build_network(weights.load(name, folder)), FodNet)
    assert "bundles" in path.with_suffix(".md").read_text()


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
    height = np.log(amplitude)
    numbers = describe(1.5 * height, height, 1 / np.radians(width) ** 2, amplitude, std)
    numbers = numbers.reshape(-1, 8)
    chance = 1 / (1 + np.exp(-2 * numbers[:, 5]))
    spread = 4 * np.exp(-0.7 * numbers[:, 5])
    angle = np.abs(rng.normal(0, spread))
    angle[rng.random(len(angle)) > chance] = np.nan
    trust = PeakCalibration.fit(numbers[:30_000], angle[:30_000])
    numbers, angle, chance = numbers[30_000:], angle[30_000:], chance[30_000:]
    assert np.abs(trust.probability(numbers) - chance).mean() < 0.02
    true = np.isfinite(angle)
    inside = angle[true] <= trust.cone95(numbers[true])
    assert 0.93 < inside.mean() < 0.97
    # In the wide and in the narrow half alike.
    wide = trust.cone95(numbers[true]) > np.median(trust.cone95(numbers[true]))
    assert 0.92 < inside[wide].mean() < 0.98 and 0.92 < inside[~wide].mean() < 0.98
