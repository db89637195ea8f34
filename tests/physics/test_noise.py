"""Noise statistics, and that only the seed decides what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.core.compute import use_threads
from fornix.core.errors import FornixError
from fornix.physics import Noise, noise


@pytest.mark.parametrize("coils", [1, 4, 12])
@pytest.mark.parametrize("level", [0.0, 1.0, 3.0, 30.0])
def test_mean_and_variance(coils: int, level: float) -> None:
    clean = torch.full((200_000, 1), level)
    noisy = noise.add(clean, 1.0, Noise(snr=1, coils=coils), seed=1).numpy()
    mean, variance = noise.moments(np.array(level), 1.0, coils)
    assert noisy.mean() == pytest.approx(float(mean), abs=5 * np.sqrt(variance / 2e5))
    assert noisy.var() == pytest.approx(float(variance), rel=0.02)
    # The second moment does not depend on how coils are correlated.
    assert (noisy**2).mean() == pytest.approx(level**2 + 2 * coils, rel=0.02)


def test_rician_moments_are_scipys() -> None:
    from scipy.stats import rice

    mean, variance = noise.moments(np.array([0.5, 2.0, 8.0]), 2.0)
    found = rice(np.array([0.25, 1.0, 4.0]), scale=2.0)
    np.testing.assert_allclose(mean, found.mean(), rtol=1e-9)
    np.testing.assert_allclose(variance, found.var(), rtol=1e-8)


def test_correlated_coils_have_fewer_degrees_of_freedom() -> None:
    clean = torch.zeros(100_000, 1)
    free = noise.add(clean, 1.0, Noise(snr=1, coils=8), seed=2)
    tied = noise.add(clean, 1.0, Noise(snr=1, coils=8, coil_correlation=0.5), seed=2)
    # var(M²) = 4 * sum of squared eigenvalues of the coils' covariance.
    eigenvalues = np.linalg.eigvalsh(0.5 * np.eye(8) + 0.5)
    assert (free**2).var().item() == pytest.approx(4 * 8, rel=0.03)
    assert (tied**2).var().item() == pytest.approx(4 * (eigenvalues**2).sum(), rel=0.03)


def test_smoothing_correlates_and_keeps_the_level() -> None:
    field = noise.smooth(torch.randn((2, 40, 40, 40), generator=noise.stream(0)), 1.5)
    assert field.std().item() == pytest.approx(1, rel=0.02)
    taps = noise.kernel(1.5)
    expected = (taps[1:] * taps[:-1]).sum().item()
    for axis in (1, 2, 3):
        lag = (torch.roll(field, 1, axis) * field).mean().item()
        assert lag == pytest.approx(expected, abs=0.04)


def test_the_level_is_as_asked_and_varies_smoothly() -> None:
    model = Noise(snr=25, variation=0.4)
    sigma = noise.sigma_map(model, (30, 30, 20), 1000.0, seed=3)
    assert sigma.mean().item() == pytest.approx(40, rel=1e-3)
    assert sigma.max() <= 40 * 1.4 + 1e-3 and sigma.min() >= 40 * 0.6 - 1e-3
    assert torch.diff(sigma, dim=0).abs().max() < 6
    assert torch.equal(
        noise.sigma_map(Noise(snr=25), (3, 3, 3), 1000.0), torch.full((3, 3, 3), 40.0)
    )
    clean = torch.zeros((30, 30, 20, 40))
    measured = (noise.add(clean, sigma, model, seed=3) ** 2).mean(-1).div(2).sqrt()
    assert np.corrcoef(measured.ravel(), sigma.ravel())[0, 1] > 0.7


def test_the_seed_alone_decides() -> None:
    clean = torch.rand((6, 7, 8, 5), generator=noise.stream(1))
    model = Noise(snr=10, coils=2, smoothing=1.0, coil_correlation=0.2)
    whole = noise.add(clean, 0.1, model, seed=4)
    with use_threads(2):
        assert torch.equal(noise.add(clean, 0.1, model, seed=4), whole)
    later = noise.add(clean[..., 3:], 0.1, model, seed=4, first_volume=3)
    assert torch.equal(later, whole[..., 3:])
    assert not torch.equal(noise.add(clean, 0.1, model, seed=5), whole)
    assert torch.equal(noise.add(clean, 0.0, Noise(snr=float("inf"))), clean)


@pytest.mark.parametrize(
    "wrong", [{"snr": 0}, {"coils": 0}, {"coil_correlation": 1.0}, {"variation": 1.0}]
)
def test_impossible_noise_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(FornixError):
        Noise(**wrong)  # type: ignore[arg-type]
