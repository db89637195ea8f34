"""The prior and the encoder: exact algebra, symmetry, and better prediction than a tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fornix.core import harmonics
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.microstructure import microstructure
from fornix.orientation import fod
from fornix.physics import Tissue, random_tissue, scheme, signal, voxels
from fornix.qspace import (
    Encoder,
    SignalPrior,
    default_prior,
    made_prior,
    normalised,
    predict,
    prior_of,
)


@pytest.fixture(scope="module")
def prior() -> SignalPrior:
    return made_prior(count=4000)


def dense(encoder: Encoder) -> np.ndarray:
    return encoder.prior.design(encoder.gradients.b, encoder.gradients.directions)


def test_the_prior_that_ships_is_that_of_its_tissue_up_to_signs():
    shipped, made = default_prior(), made_prior()
    np.testing.assert_allclose(shipped.mean, made.mean, atol=1e-6)
    for ours, again in zip(shipped.factors, made.factors, strict=True):
        signs = np.sign((ours * again).sum(1))
        # The last factors are small, and single precision of the tissue moves them.
        np.testing.assert_allclose(ours, again * signs[:, None], atol=2e-5)


def test_networks_see_the_features_that_they_learned_from():
    """The signs of the factors are those of training: orientations are right, and know it."""
    mu = np.array([[0.0, 0.6, 0.8]])
    table = scheme("dti30")
    tissue = Tissue(*(
        torch.as_tensor(v, dtype=torch.float32)
        for v in (np.tile(mu, (60, 1, 1)), np.ones((60, 1)), np.full((60, 1), 0.04),
                  np.full(60, 0.65), np.full(60, 0.05), np.full(60, 1.9), np.full(60, 0.5))
    ))  # fmt: skip
    clean = 1000 * signal(tissue, table).numpy()
    noisy = np.random.default_rng(0).normal(clean, 20).clip(1).astype(np.float32)[:, None, None]
    dwi = DWI(noisy, table, np.eye(4), mask=np.ones(noisy.shape[:3], bool), sigma=20.0)
    found = fod(dwi, "voxelwise")
    first = found["peaks"].data[..., :3].reshape(-1, 3)
    cosine = np.abs(first @ mu[0]) / np.linalg.norm(first, axis=1)
    assert np.degrees(np.arccos(np.median(cosine))) < 4
    assert np.median(found["peakprob"].data[..., 1]) < 0.1
    assert np.median(microstructure(dwi, ("dti",), "voxelwise")["ood"].data) < 2


def test_covariance_is_that_of_simulated_signals(prior):
    """Monte Carlo: random tissue, randomly turned, against Phi Phi^T."""
    table = Gradients(
        [0, 1000, 1000, 2500, 3000],
        [[0, 0, 0], [0, 0, 1], [0, 0.6, 0.8], [0, 0, 1], [1, 0, 0]],
    )
    tissue = random_tissue(40_000, seed=11)
    sample = signal(tissue, table).double().numpy()
    design = prior.design(table.b, table.directions)
    expected = np.cov(sample.T)
    # The prior adds the uncertainty of the overall scale.
    mean = prior.mean_at(table.b)
    found = design @ design.T - 0.2**2 * np.outer(mean, mean)
    np.testing.assert_allclose(found, expected, atol=0.004)
    np.testing.assert_allclose(mean, sample.mean(0), atol=0.01)


def test_encoding_is_the_gaussian_process(prior):
    table = scheme("dti12")
    encoder = Encoder(table, prior, "cpu")
    y = torch.rand(5, len(table))
    sigma = torch.full((5,), 0.07)
    design, mean = dense(encoder), prior.mean_at(table.b)
    kernel = design @ design.T + 0.07**2 * np.eye(len(table))
    rest = y.numpy() - mean
    z = rest @ np.linalg.solve(kernel, design)
    np.testing.assert_allclose(encoder.encode(y, sigma).z, z, atol=2e-3)
    other = scheme("dti6")
    value, std = encoder.predict(encoder.encode(y, sigma), other)
    there = prior.design(other.b, other.directions)
    np.testing.assert_allclose(value, prior.mean_at(other.b) + z @ there.T, atol=2e-3)
    cross = there @ design.T
    variance = (there**2).sum(1) - np.einsum("ij,jk,ik->i", cross, np.linalg.inv(kernel), cross)
    np.testing.assert_allclose(std[0], np.sqrt(variance), atol=2e-3)
    _, logdet = np.linalg.slogdet(kernel)
    evidence = -0.5 * (
        np.einsum("vi,ij,vj->v", rest, np.linalg.inv(kernel), rest) + logdet
        + len(table) * np.log(2 * np.pi)
    )  # fmt: skip
    np.testing.assert_allclose(encoder.log_evidence(y, sigma), evidence, rtol=1e-3)


def test_leave_one_out_is_leaving_one_out(prior):
    table = scheme("dti12")
    y, sigma = torch.rand(3, len(table)), torch.full((3,), 0.1)
    predicted, std = Encoder(table, prior, "cpu").leave_one_out(y, sigma)
    for volume in (1, 5, 9):
        rest = [i for i in range(len(table)) if i != volume]
        encoder = Encoder(table.subset(rest), prior, "cpu")
        value, spread = encoder.predict(encoder.encode(y[:, rest], sigma), table.subset([volume]))
        np.testing.assert_allclose(predicted[:, volume], value[:, 0], atol=3e-3)
        np.testing.assert_allclose(std[:, volume] ** 2, spread[:, 0] ** 2 + 0.01, atol=1e-3)


@pytest.mark.parametrize("name", ["dti6", "dti30", "abcd"])
def test_commutes_with_rotation_and_order(prior, name):
    """Gradients turned: each l's features turn by the harmonics' matrix, to 1e-5."""
    table = scheme(name)
    rotation = Rotation.random(random_state=3).as_matrix()
    y = torch.rand(4, len(table), generator=torch.Generator().manual_seed(0))
    sigma = torch.full((4,), 0.05)
    plain = Encoder(table, prior, "cpu").encode(y, sigma).z.numpy()
    turned = Encoder(table.rotated(rotation), prior, "cpu").encode(y, sigma).z.numpy()
    matrix, start = harmonics.rotation_matrix(8, rotation), 0
    for i, factor in enumerate(prior.factors):
        block = matrix[2 * i * i - i : 2 * i * i + 3 * i + 1, 2 * i * i - i : 2 * i * i + 3 * i + 1]
        stop = start + len(factor) * (4 * i + 1)
        expected = plain[:, start:stop].reshape(4, -1, 4 * i + 1) @ block.T
        np.testing.assert_allclose(
            turned[:, start:stop].reshape(expected.shape),
            expected,
            atol=1e-5 * max(1, np.abs(plain).max()),
        )
        start = stop
    order = np.random.default_rng(0).permutation(len(table))
    mixed = Encoder(table.subset(order), prior, "cpu").encode(y[:, order], sigma).z.numpy()
    np.testing.assert_allclose(mixed, plain, atol=1e-4)


@pytest.mark.parametrize(("name", "factor"), [("dti6", 0.9), ("dti12", 0.95)])
def test_predicts_unseen_directions_better_than_the_tensor(name, factor):
    """Simulated voxels of another seed than the prior's, SNR 20."""
    from fornix.microstructure import microstructure
    from fornix.testing import six_to_matrix

    made = voxels(3000, name, snr=20, seed=5)
    dwi = made.dwi.with_(sigma=float(np.median(made.sigma)))
    other = scheme("dti30").rotated(Rotation.random(random_state=1).as_matrix())
    other = other.subset(~other.b0_mask)
    truth = signal(made.tissue, other).numpy()
    ours = predict(dwi, other)[0].data.reshape(len(truth), -1)
    tensor = microstructure(dwi, models=("dti",), method="wls")
    d = six_to_matrix(tensor["tensor"].data.reshape(-1, 6)) * 1e3
    s0 = tensor["s0"].data.reshape(-1, 1)
    exponent = np.einsum("ni,vij,nj->vn", other.directions, d, other.directions) * other.b
    theirs = s0 * np.exp(-exponent)

    def error(found: np.ndarray) -> float:
        return float(np.sqrt((((found - truth) / 1000) ** 2).mean()))

    assert error(ours) < factor * error(theirs)


def test_standard_deviation_covers(prior):
    made = voxels(4000, "dti12", snr=20, seed=8)
    dwi = made.dwi.with_(sigma=float(np.median(made.sigma)))
    other = scheme("dti30").subset(np.arange(3, 30))
    other = other.subset(~other.b0_mask)
    value, spread = predict(dwi, other, adapt=False)
    z = (value.data.reshape(4000, -1) - signal(made.tissue, other).numpy()) / spread.std.reshape(
        4000, -1
    )
    inside = float((np.abs(z) < 1.96).mean())
    assert 0.9 < inside < 0.99


def test_adapting_raises_the_evidence(prior):
    tissue = random_tissue(3000, seed=2)
    tissue = tissue.with_(fwf=torch.zeros(len(tissue)), odi=torch.full_like(tissue.odi, 0.1))
    made = voxels(3000, "dti30", snr=25, tissue=tissue)
    y, _, sigma = normalised(made.dwi.with_(sigma=40.0))
    encoder = Encoder(made.dwi.gradients, prior, "cpu")
    better = encoder.adapted(y, sigma)
    assert better.log_evidence(y, sigma).mean() > encoder.log_evidence(y, sigma).mean() + 0.1


def test_prior_of_water_knows_only_water():
    tissue = random_tissue(200, seed=0)
    water = tissue.with_(fwf=torch.ones(200))
    made = prior_of(water)
    np.testing.assert_allclose(made.mean_at([1.0]), np.exp(-3.0), atol=1e-4)
    assert np.abs(made.design([1.0], [[0, 0, 1.0]])[:, 10:]).max() < 1e-3


def test_bad_input(prior):
    with pytest.raises(FornixError, match="outside what was simulated"):
        prior.design([7.0], [[0, 0, 1.0]])
    made = voxels(5, "dti6", seed=0)
    with pytest.raises(FornixError, match="noise level is not known"):
        predict(made.dwi, scheme("dti12"))
    weighted: DWI = made.dwi.subset(~made.dwi.gradients.b0_mask).with_(sigma=10.0)
    with pytest.raises(FornixError, match="needs a b0"):
        predict(weighted, scheme("dti12"))
