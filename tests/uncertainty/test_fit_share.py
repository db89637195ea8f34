"""What estimates keep of the fit leaves them no worse than the better of the two."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.uncertainty.fit_share import FLOOR, SHARES, fit_share, moved


def test_it_grows_with_precision_from_nothing_to_all():
    std = torch.logspace(-5, 0, 40)[:, None].repeat(1, SHARES)
    share = fit_share(std, True)
    assert (share.diff(dim=0) < 0).all()
    assert (share[0] > 0.999).all() and (share[-1] < 0.001).all()
    np.testing.assert_allclose(fit_share(torch.tensor([FLOOR]), True), 0.5)


def test_a_fit_at_another_b_keeps_none():
    assert not fit_share(torch.rand(9, SHARES), False).any()


@pytest.mark.parametrize("size", [0.001, 0.005, 0.01, 0.03, 0.1])
def test_the_two_together_are_not_worse_than_either(size):
    rng = np.random.default_rng(0)
    fit = torch.from_numpy(size * rng.standard_normal((20_000, SHARES)).astype(np.float32))
    # An estimate that averages away part of the fit's error, and errs by its floor.
    own = 0.6 * fit + torch.tensor(FLOOR) * torch.from_numpy(
        rng.standard_normal(fit.shape).astype(np.float32)
    )
    std = torch.full_like(fit, size)
    mean, _ = moved(own, std, fit, std, fit_share(std, True))
    errors = [v.square().mean(0).sqrt() for v in (mean, own, fit)]
    assert (errors[0] <= 1.03 * torch.minimum(errors[1], errors[2])).all()


def test_all_else_stays():
    mean, std = torch.rand(5, 7), torch.rand(5, 7)
    fit, fit_std = torch.rand(5, SHARES), torch.rand(5, SHARES)
    found = moved(mean, std, fit, fit_std, torch.ones(5, SHARES))
    torch.testing.assert_close(found[0], torch.cat([fit, mean[:, SHARES:]], 1))
    torch.testing.assert_close(found[1], torch.cat([fit_std, std[:, SHARES:]], 1))
