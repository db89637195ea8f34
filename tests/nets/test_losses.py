"""Losses: their minima are where they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.nets import losses
from fornix.nets.targets import METRICS, linked, possible, upper


def minimum(loss, truth: torch.Tensor) -> tuple[float, float]:
    """Mean and standard deviation that minimise a loss over samples of one metric (FA)."""
    mean = torch.tensor(0.3, requires_grad=True)
    log_std = torch.tensor(-2.0, requires_grad=True)
    optimiser = torch.optim.Adam([mean, log_std], lr=0.02)
    for _ in range(600):
        total = loss(
            mean.expand(len(truth), len(METRICS)), log_std.exp().expand(len(truth), len(METRICS)),
            truth[:, None].expand(-1, len(METRICS)),
        )[:, 0].mean()  # fmt: skip
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return float(mean), float(log_std.exp())


@pytest.mark.parametrize("name", losses.PARAMETER_LOSSES)
def test_parameter_losses_find_the_centre(name):
    truth = 0.5 + 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    mean, std = minimum(losses.PARAMETER_LOSSES[name], truth)
    assert abs(mean - 0.5) < 0.01
    if name in ("gaussian", "quantile"):
        assert abs(std / 0.1 - 1) < 0.1


def test_the_rician_likelihood_is_least_at_the_truth():
    rng = np.random.default_rng(0)
    for true in (0.3, 1.0):
        noise = 0.2 * rng.standard_normal((2, 200_000))
        measured = torch.from_numpy(np.hypot(true + noise[0], noise[1]))[None]
        levels = torch.linspace(0.05, 1.5, 60, dtype=torch.float64)
        found = [
            float(losses.rician(torch.full((1, 1), s, dtype=torch.float64), measured,
                                torch.tensor([0.2], dtype=torch.float64)).mean())
            for s in levels.tolist()
        ]  # fmt: skip
        assert abs(float(levels[int(np.argmin(found))]) - true) < 0.03


def test_spherical_variance_sees_shape_and_not_offset():
    measured = torch.rand(6, 20)
    shell = torch.tensor([0] * 10 + [1] * 10)
    offset = measured + torch.where(shell == 0, 0.3, -0.2)
    assert losses.spherical_variance(offset, measured, shell).max() < 1e-10
    assert losses.spherical_variance(measured.flip(1), measured, shell).min() > 0


def test_the_dyads_minimum_is_the_mean_dyad():
    v = torch.nn.functional.normalize(torch.randn(2000, 3) * torch.tensor([2.0, 1.0, 0.5]), dim=1)
    dyad = torch.zeros(6, requires_grad=True)
    optimiser = torch.optim.Adam([dyad], lr=0.02)
    for _ in range(400):
        total = losses.dyad_error(dyad.expand(2000, 6), v, torch.ones(2000)).mean()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    outer = (v[:, :, None] * v[:, None]).mean(0)
    torch.testing.assert_close(dyad.detach()[:3], outer.diagonal(), atol=5e-3, rtol=0)
    torch.testing.assert_close(dyad.detach()[3], outer[0, 1], atol=5e-3, rtol=0)


def test_outputs_are_possible_whatever_the_network_says():
    draw = torch.Generator().manual_seed(0)
    raw, log_std = (20 * torch.randn(500, len(METRICS), generator=draw) for _ in range(2))
    anchor, spread = torch.rand(500, 4, generator=draw), 3 * torch.rand(500, 4, generator=draw)
    mean, std = linked(raw, log_std, anchor, spread)
    made = possible(mean)
    assert (made >= 0).all() and (made <= upper(made)).all()
    assert (std > 0).all() and torch.isfinite(std).all()


def test_a_certain_fit_is_kept():
    raw = torch.ones(1, len(METRICS))
    anchor = torch.tensor([[0.5, 0.7, 1.1, 0.5]])
    near, _ = linked(raw, raw, anchor, torch.full((1, 4), 1e-3))
    far, _ = linked(raw, raw, anchor, torch.full((1, 4), 0.2))
    assert (near[:, :4] - anchor).abs().max() < 0.05
    assert ((far - near)[:, :4] > 0.1).all()
