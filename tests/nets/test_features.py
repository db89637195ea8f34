"""What the networks read: invariant where it says so, turning with the head where it says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.core.design import quadratic_form
from fornix.core.gradients import Gradients
from fornix.nets.encoding import ProtocolEncoder
from fornix.nets.features import (
    eigen,
    extract,
    joined,
    matrix,
    microstructure_features,
    more_size,
    order2_to_six,
    size,
    split,
)
from fornix.nets.microstructure_net import MicrostructureNet
from fornix.nets.scan_encoder import ScanEncoder
from fornix.numerics import harmonics
from fornix.qspace.prior import default_prior
from helpers.streams import turned


@pytest.mark.parametrize("reads", [extract, microstructure_features])
@pytest.mark.parametrize("name", ["dti6", "dti12", "bench96", "dsi"])
def test_invariants_do_not_turn(name, reads):
    _, (a, seen_a), (b, seen_b) = turned(name)
    one, two = reads(a, seen_a).invariants, reads(b, seen_b).invariants
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["dti6", "bench96"])
def test_blocks_and_axes_turn_with_the_head(name):
    rotation, (a, seen_a), (b, seen_b) = turned(name)
    one, two = extract(a, seen_a), extract(b, seen_b)
    wigner = torch.from_numpy(harmonics.rotation_matrix(8, rotation)).float()
    for i in range(1, 5):
        part = wigner[harmonics.order_slice(2 * i), harmonics.order_slice(2 * i)]
        torch.testing.assert_close(two.blocks[i], one.blocks[i] @ part.T, atol=1e-4, rtol=0)
        torch.testing.assert_close(two.axes[i - 1], one.axes[i - 1] @ part.T, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", ["dti6", "bench96"])
def test_the_network_is_equivariant(name):
    rotation, (a, seen_a), (b, seen_b) = turned(name)
    network = MicrostructureNet(width=64, depth=2).eval()
    with torch.no_grad():
        for head in (network.scalars, network.tensor, network.dyad, network.signal):
            head.weight.mul_(10)  # an untrained network says little: make it speak up
        one, two = (
            network(f, f.invariants)
            for f in (microstructure_features(a, seen_a), microstructure_features(b, seen_b))
        )
    torch.testing.assert_close(one.mean, two.mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.std, two.std, atol=1e-4, rtol=0)
    turn = torch.from_numpy(rotation).float()
    for name_of in ("tensor", "dyad"):
        before, after = matrix(getattr(one, name_of)), matrix(getattr(two, name_of))
        torch.testing.assert_close(after, turn @ before @ turn.T, atol=2e-4, rtol=0)
    wigner = torch.from_numpy(harmonics.rotation_matrix(8, rotation)).float()
    for i, (p, q) in enumerate(
        zip(split(one.z, default_prior()), split(two.z, default_prior()), strict=True)
    ):
        part = wigner[harmonics.order_slice(2 * i), harmonics.order_slice(2 * i)]
        torch.testing.assert_close(q, p @ part.T, atol=5e-4, rtol=0)


def test_the_order_of_volumes_does_not_matter(sight):
    encoder, seen, signals = sight
    order = np.random.default_rng(0).permutation(len(encoder.gradients))
    other = ProtocolEncoder(encoder.gradients.subset(order), "cpu")
    again = other.encode(signals[:, order], np.full(len(signals), 0.04))
    one, two = extract(encoder, seen).invariants, extract(other, again).invariants
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_the_unit_of_the_signals_does_not_matter(sight):
    encoder, seen, signals = sight
    again = encoder.encode(1000 * signals, np.full(len(signals), 40.0))
    torch.testing.assert_close(again.scale, 1000 * seen.scale, rtol=1e-4, atol=0)
    one, two = extract(encoder, seen).invariants, extract(encoder, again).invariants
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_size_counts_the_invariants(sight):
    encoder, seen, _ = sight
    near = encoder.averaged(seen, seen.projected, 0.5 * seen.sigma)
    assert extract(encoder, seen).invariants.shape[1] == size(1)
    assert extract(encoder, seen, (near,)).invariants.shape[1] == size(2)
    made = microstructure_features(encoder, seen, (near,))
    assert made.invariants.shape[1] == size(2) + more_size(2)


def test_features_of_the_tensor_give_its_signal_back(sight):
    """At the b-values that it was fitted to, on axes that were not measured."""
    encoder, seen, _ = sight
    table = encoder.gradients
    low = table.subset(table.bvals < 1100)
    directions = np.random.default_rng(0).standard_normal((len(low), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    there = Gradients(low.bvals, directions)
    exponent = seen.tensor @ torch.as_tensor(quadratic_form(directions)).float().T
    true = seen.tensor_s0[:, None] * torch.exp(-exponent * torch.as_tensor(low.b).float())
    found = encoder.qspace.signal(encoder.tensor_features(seen), there)
    assert float((found - true).square().mean().sqrt()) < 0.01


def test_an_average_of_one_voxel_is_the_voxel(sight):
    """What the prior cannot hold is gone from a restored signal; the tensor fit hardly feels it."""
    encoder, seen, _ = sight
    same = encoder.averaged(seen, seen.projected, seen.sigma)
    assert (same.fit - seen.fit).abs().median() < 0.02
    torch.testing.assert_close(same.scale, seen.scale)


def test_the_population_knows_no_order_and_hardly_a_count(sight):
    encoder, seen, _ = sight
    torch.manual_seed(0)
    read, invariants = ScanEncoder(size(1)), extract(encoder, seen).invariants
    order = torch.randperm(len(invariants))
    torch.testing.assert_close(read(invariants), read(invariants[order]), atol=1e-5, rtol=0)
    twice = torch.cat([invariants, invariants])
    torch.testing.assert_close(read(invariants), read(twice), atol=1e-5, rtol=0)


def test_split_and_joined_are_inverse():
    z = torch.randn(5, default_prior().size)
    torch.testing.assert_close(joined(list(split(z, default_prior()))), z)


def test_order2_is_the_quadratic_form():
    c = torch.randn(4, 5, dtype=torch.float64)
    u = np.random.default_rng(1).standard_normal((7, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    direct = c @ torch.from_numpy(harmonics.evaluate(2, u)[:, 1:]).T
    t = matrix(order2_to_six(c))
    through = torch.einsum("ni,vij,nj->vn", torch.from_numpy(u), t, torch.from_numpy(u))
    torch.testing.assert_close(direct, through)
    assert t.diagonal(dim1=1, dim2=2).sum(1).abs().max() < 1e-10


def test_eigen_is_that_of_the_matrix():
    six = torch.randn(50, 6)
    six[0] = torch.tensor([1.0, 1, 1, 0, 0, 0])
    values, vectors = eigen(six)
    torch.testing.assert_close(values, torch.linalg.eigvalsh(matrix(six)), atol=1e-5, rtol=1e-5)
    made = vectors @ torch.diag_embed(values) @ vectors.transpose(1, 2)
    torch.testing.assert_close(made, matrix(six), atol=1e-5, rtol=1e-5)
