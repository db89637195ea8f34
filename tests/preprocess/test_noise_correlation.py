"""How far neighbours share their noise, told from the scan."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.core.dwi import DWI
from fornix.physics.noise import fwhm_of, smooth
from fornix.physics.protocol import scheme
from fornix.preprocess.noise_correlation import UNKNOWN, noise_correlation


def scan(name: str, correlation: tuple[float, float, float], seed: int = 0) -> DWI:
    """Signals that differ from voxel to voxel, with noise that interpolation correlated."""
    gradients, grid = scheme(name), (18, 20, 16)
    draw = torch.Generator().manual_seed(seed)
    white = torch.randn(len(gradients), *grid, generator=draw)
    noise = smooth(white, tuple(fwhm_of(c) for c in correlation)).permute(1, 2, 3, 0)
    decay = 0.4 + 1.2 * torch.rand(grid, generator=draw)
    signal = 1000 * torch.exp(-decay[..., None] * torch.as_tensor(gradients.b).float())
    return DWI((signal + 30 * noise).numpy(), gradients, np.eye(4))


@pytest.mark.parametrize("name", ["dti12", "bench96"])
@pytest.mark.parametrize("true", [(0.0, 0.0, 0.0), (0.6, 0.4, 0.1), (0.1, 0.3, 0.7)])
def test_it_is_what_was_put_in(name, true):
    dwi = scan(name, true)
    found = noise_correlation(dwi, np.arange(dwi.data[..., 0].size))
    np.testing.assert_allclose(found, true, atol=0.07)


def test_it_turns_with_the_axes_of_storage():
    dwi = scan("dti30", (0.6, 0.3, 0.05))
    other = DWI(np.ascontiguousarray(dwi.data.transpose(2, 0, 1, 3)), dwi.gradients, np.eye(4))
    voxels = np.arange(dwi.data[..., 0].size)
    x, y, z = noise_correlation(dwi, voxels)
    np.testing.assert_allclose(noise_correlation(other, voxels), (z, x, y), atol=0.03)


def test_spikes_do_not_count_and_few_volumes_say_nothing():
    dwi = scan("dti30", (0.5, 0.5, 0.0))
    data = dwi.data.copy()
    data[6:9, 6:9, 6:9, 5] *= 5
    voxels = np.arange(data[..., 0].size)
    before = noise_correlation(dwi, voxels)
    np.testing.assert_allclose(noise_correlation(dwi.with_(data=data), voxels), before, atol=0.02)
    assert noise_correlation(scan("dti6", (0.0, 0.0, 0.0)), voxels) == UNKNOWN


def test_odd_scans_give_numbers():
    flat = DWI(np.full((4, 4, 4, 33), 7.0, np.float32), scheme("dti30"), np.eye(4))
    assert all(0 <= v <= 0.9 for v in noise_correlation(flat, np.arange(64)))
    broken = flat.data.copy()
    broken[..., 3] = np.nan
    found = noise_correlation(flat.with_(data=broken), np.arange(64))
    assert all(0 <= v <= 0.9 for v in found)
    one = scan("dti30", (0.3, 0.3, 0.0))
    assert noise_correlation(one, np.arange(1)) == (0.0, 0.0, 0.0)
