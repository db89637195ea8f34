"""The tensor in torch: the numbers of the compiled fit, whatever the signals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.models.tensor import COLUMNS, fit_tensor
from fornix.models.tensor_on_device import wls_on_device
from fornix.numerics.eigen3 import eigen3
from fornix.physics import random_tissue, signal
from fornix.physics.protocol import scheme


@pytest.mark.parametrize("name", ["dti6", "dti30"])
@pytest.mark.parametrize("snr", [4.0, 30.0])
def test_it_is_the_compiled_fit(name, snr):
    gradients = scheme(name)
    draw = torch.Generator().manual_seed(0)
    clean = 700 * signal(random_tissue(1500, seed=2), gradients)
    # Some signals fall below zero, as averages of magnitudes about their mean can.
    signals = clean + 700 / snr * torch.randn(clean.shape, generator=draw)
    sigma = torch.full((1500,), 700 / snr)
    found = wls_on_device(signals, gradients, sigma)
    fit = fit_tensor(signals.numpy(), gradients, "wls", sigma=sigma.numpy())
    numbers = [c for k, s in COLUMNS.items() if k != "v1" for c in range(s.start, s.stop)]
    same = (fit.flags == 0) & (found["nonphysical"].numpy() == 0)
    assert same.mean() > 0.2
    for ours, theirs in ((found["values"], fit.values), (found["std"], fit.std)):
        np.testing.assert_allclose(
            ours.numpy()[same][:, numbers], theirs[same][:, numbers], rtol=2e-3, atol=2e-4
        )
    cosine = (found["values"].numpy()[:, COLUMNS["v1"]] * fit["v1"]).sum(1)
    np.testing.assert_allclose(np.abs(cosine[same]), 1, atol=1e-5)


def test_eigenvectors_of_any_symmetric_matrix():
    draw = torch.Generator().manual_seed(1)
    a = torch.randn(400, 3, 3, generator=draw, dtype=torch.float64)
    a = a + a.transpose(1, 2)
    one = torch.eye(3, dtype=torch.float64)
    a[:20], a[20:40], a[40:60] = one, 0.0, torch.diag(torch.tensor([1.0, 1.0, 2.0]))
    a[60:80] = torch.diag(torch.tensor([2.0, 1.0, 2.0]).double())
    values, vectors = eigen3(a)
    torch.testing.assert_close(values, torch.linalg.eigvalsh(a), atol=1e-7, rtol=0)
    again = (vectors * values[:, None]) @ vectors.transpose(1, 2)
    torch.testing.assert_close(again, a, atol=1e-7, rtol=0)
    torch.testing.assert_close(vectors.transpose(1, 2) @ vectors, one.expand(400, 3, 3))
