"""The perceptron cannot say the impossible, whatever it is shown and however it is trained."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fornix.nets.encoding import ProtocolEncoder
from fornix.nets.features import matrix
from fornix.nets.targets import METRICS, upper
from fornix.physics.protocol import scheme
from fornix_bench.experiments.perceptron import Guess, Perceptron, inputs, size


def assert_possible(guess: Guess) -> None:
    assert torch.isfinite(guess.mean).all() and torch.isfinite(guess.std).all()
    assert (guess.mean >= 0).all() and (guess.mean <= upper(guess.mean)).all()
    assert (guess.std > 0).all() and (guess.tensor_std > 0).all()
    assert (torch.linalg.eigvalsh(matrix(guess.tensor.double())) > 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), height=st.floats(1e-3, 1e6), weight=st.floats(0.1, 300))
def test_outputs_are_possible_for_any_input_and_any_weights(
    seed: int, height: float, weight: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    network = Perceptron(20, width=16, depth=1)
    with torch.no_grad():
        for values in network.parameters():
            values.copy_(weight * torch.randn(values.shape, generator=draw))
        assert_possible(network(height * torch.randn((50, 20), generator=draw)))


def test_reads_signals_of_any_height_and_starts_at_sensible_values() -> None:
    encoder = ProtocolEncoder(scheme("dti6"), "cpu")
    rng = np.random.default_rng(0)
    signals = (1000 * rng.uniform(0, 1, (40, 7))).astype(np.float32)
    signals[:, 0] = 1000
    made = [inputs(encoder, encoder.encode(k * signals, np.full(40, k * 30.0))) for k in (1, 9)]
    assert made[0].shape == (40, size())
    torch.testing.assert_close(made[0], made[1], atol=2e-3, rtol=1e-3)
    with torch.inference_mode():
        guess = Perceptron(size(), width=32, depth=1)(made[0])
    assert_possible(guess)
    assert guess.mean.shape == (40, len(METRICS)) and guess.tensor.shape == (40, 6)
    assert 0.1 < float(guess.mean[:, 0].mean()) < 0.6
    assert 0.5 < float(guess.mean[:, 1].mean()) < 1.5
