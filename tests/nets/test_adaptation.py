"""Adaptation to one scan: it finds what helps, and leaves alone what it cannot better."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fornix import DWI, microstructure
from fornix.nets.adaptation import FOLDS, Fold, adapt, hidden_volumes
from fornix.nets.features import Features, size
from fornix.nets.likelihoods import signal_likelihood
from fornix.physics import random_tissue, signal
from fornix.physics.protocol import scheme
from fornix.qspace.encoder import Encoder


class Biased(nn.Module):
    """A stand-in for a network: its signal is that of the features plus what it takes the scan for."""

    def __init__(self, direction: torch.Tensor) -> None:
        super().__init__()
        self._direction = direction

    def scan_encoder(self, invariants: torch.Tensor) -> torch.Tensor:
        return torch.zeros(4)

    def forward(self, seen: Features, code: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(z=seen.blocks[0] + code[0] * self._direction)


def folds_of(shift: float, count: int = 500) -> tuple[Biased, list[Fold]]:
    """Voxels whose hidden volumes are those of z + shift * direction, with Rician noise."""
    gradients = scheme("dti30")
    encoder = Encoder(gradients, device="cpu")
    draw = torch.Generator().manual_seed(5)
    direction = torch.zeros(encoder.prior.size)
    direction[0] = 1.0  # the mean signal: all volumes rise or fall together
    z = 0.3 * torch.randn(count, encoder.prior.size, generator=draw)
    made = []
    for lot in hidden_volumes(gradients):
        hidden = gradients.subset(lot)
        clean = encoder.signal(z + shift * direction, hidden).clamp(min=0.02)
        real, other = (0.03 * torch.randn(clean.shape, generator=draw) for _ in range(2))
        measured = ((clean + real).square() + other.square()).sqrt()
        blank = torch.zeros(count, 1, 4)
        features = Features(
            torch.zeros(count, size(1)), (z,), (), blank, blank, torch.zeros(count, 6)
        )
        made.append(Fold(features, encoder, hidden, measured, torch.full((count,), 0.03)))
    return Biased(direction), made


def test_it_finds_what_the_scan_says():
    network, folds = folds_of(0.4)
    found = adapt(network, folds, signal_likelihood)
    assert found.kept and found.after < found.before
    assert abs(float(found.shift[0]) - 0.4) < 0.08
    assert "kept" in found.note


def test_what_is_right_already_is_left_alone():
    network, folds = folds_of(0.0)
    found = adapt(network, folds, signal_likelihood)
    assert abs(float(found.shift[0])) < 0.03
    assert found.after <= found.before


@pytest.mark.parametrize("name", ["dti12", "dti30", "ukb", "dsi"])
def test_every_part_can_be_spared(name):
    gradients = scheme(name)
    lots = hidden_volumes(gradients)
    assert len(lots) == FOLDS
    hidden = np.concatenate(lots)
    assert sorted(hidden) == list(np.flatnonzero(~gradients.b0_mask))
    for lot in lots:
        assert np.linalg.matrix_rank(
            np.delete(gradients.directions, lot, 0)[~np.delete(gradients.b0_mask, lot)]
        ) == 3  # fmt: skip


def test_six_directions_cannot_be_divided():
    assert hidden_volumes(scheme("dti6")) == []


@pytest.fixture(scope="module")
def dwi() -> DWI:
    gradients = scheme("dti20")
    clean = 1000 * signal(random_tissue(6 * 6 * 6, 1), gradients).numpy()
    noisy = np.abs(clean + 40 * np.random.default_rng(0).standard_normal(clean.shape))
    grid = noisy.astype(np.float32).reshape(6, 6, 6, -1)
    return DWI(grid, gradients, np.diag([2.0, 2, 2, 1]), mask=np.ones((6, 6, 6), bool))


@pytest.mark.parametrize("method", ["voxelwise", "learned"])
def test_a_scan_tells_whether_it_was_adapted(dwi, method):
    plain = microstructure(dwi, models=("dti",), method=method, sigma=40.0)
    made = microstructure(dwi, models=("dti",), method=method, sigma=40.0, adapt=True)
    (note,) = [n for n in made.notes if "adapted" in n]
    if "not kept" in note:
        np.testing.assert_array_equal(made["dti_fa"].data, plain["dti_fa"].data)
    else:
        assert not np.array_equal(made["dti_fa"].data, plain["dti_fa"].data)


def test_only_networks_adapt(dwi):
    from fornix import FornixError

    with pytest.raises(FornixError, match="adapt"):
        microstructure(dwi, models=("dti",), method="classical", sigma=40.0, adapt=True)
